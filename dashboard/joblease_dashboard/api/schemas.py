"""The schemas of the API's answers."""

from typing import Any

from joblease.messages import Status
from joblease.states import OUTCOMES, REASONS

TEXT = {"type": "string"}
TIME = {"type": "string", "format": "date-time"}
NUMBER = {"type": "integer"}
STATE = {"type": "string", "description": f"one of {', '.join(REASONS)}, or a word of a newer release"}


def object_of(required: list[str], **properties: Any) -> dict[str, Any]:
    """An object with these properties and no others."""
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


JOB_KEYS = {"jobId": TEXT, "namespace": TEXT, "name": TEXT, "handler": TEXT, "queue": TEXT, "group": TEXT}
EVENT = object_of(
    ["eventId", *JOB_KEYS, "submittedAt", "sequence", "status", "state", "message", "timestamp", "attempt", "epoch"],
    eventId=TEXT,
    **JOB_KEYS,
    submittedAt=TIME,
    sequence={**NUMBER, "minimum": 1},
    status={**TEXT, "description": f"one of {', '.join(Status)}, Step N, or a word of a newer release"},
    state=STATE,
    message=TEXT,
    timestamp=TIME,
    attempt=NUMBER,
    epoch=NUMBER,
    worker=TEXT,
    progress={**NUMBER, "minimum": 0, "maximum": 100},
    data={"type": "object", "description": "only in a job's history"},
)  # fmt: skip
JOB = object_of(
    [*JOB_KEYS, "submittedAt", "sequence", "status", "state", "message", "attempt", "updatedAt"],
    **JOB_KEYS,
    submittedAt=TIME,
    startedAt=TIME,
    runStartedAt=TIME,
    completedAt=TIME,
    updatedAt=TIME,
    sequence=NUMBER,
    status=TEXT,
    state=STATE,
    message=TEXT,
    attempt=NUMBER,
    worker=TEXT,
    progress={**NUMBER, "minimum": 0, "maximum": 100},
    priority=NUMBER,
    startAfter=TIME,
    nextAttemptAt=TIME,
)
PRESENT_JOB = object_of(
    ["job"],
    job={"$ref": "#/components/schemas/Job"},
    result={"description": "What the handler returned, if the job has completed."},
    error={**TEXT, "description": "Why it ended otherwise."},
)
SECONDS = {"type": ["number", "null"], "minimum": 0, "description": "null: no such job"}
POINT = object_of(
    ["time", *OUTCOMES, "waitedP50", "waitedP95", "ranP50", "ranP95"],
    time=TIME,
    **dict.fromkeys(OUTCOMES, NUMBER),
    waitedP50=SECONDS,
    waitedP95=SECONDS,
    ranP50=SECONDS,
    ranP95=SECONDS,
)
STATS = object_of(
    ["window", "ended", "successRate", "points"],
    window=TEXT,
    ended=NUMBER,
    successRate={"type": ["number", "null"], "minimum": 0, "maximum": 1},
    points={"type": "array", "items": POINT},
)
