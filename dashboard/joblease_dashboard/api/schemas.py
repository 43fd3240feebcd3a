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
    priority={**NUMBER, "description": "as it was submitted; a later one is in the JobRequest"},
    startAfter=TIME,
    nextAttemptAt=TIME,
)
PRESENT_JOB = object_of(
    ["job"],
    job={"$ref": "#/components/schemas/Job"},
    result={"description": "What the handler returned, if the job has completed."},
    error={**TEXT, "description": "Why it ended otherwise."},
)
SECONDS = {"type": ["number", "null"], "minimum": 0, "description": "To a factor of 1.4. null: no such job"}
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
COUNT = {"type": ["integer", "null"], "minimum": 0, "description": "null: it is not known, or there is no such queue."}
WORKER = object_of(
    ["worker", "state", "queue", "concurrency", "jobs", "seenAt", "startedAt", "release", "handlers"],
    worker=TEXT,
    state={**TEXT, "enum": ["serving", "draining", "stopped", "missing"]},
    queue=TEXT,
    concurrency=NUMBER,
    jobs={"type": "array", "items": TEXT, "description": "Ids of those that it runs."},
    seenAt=TIME,
    startedAt=TIME,
    release=TEXT,
    handlers={
        "type": "array",
        "items": object_of(
            ["name", "description", "parameters", "policy"],
            name=TEXT,
            description=TEXT,
            parameters={"type": "object", "description": "JSON schema of the parameters."},
            policy={
                "type": ["object", "null"],
                "description": "What its jobs take unless their spec says otherwise: group, limit, maxAttempts, "
                "activeDeadlineSeconds.",
            },
        ),
    },
)
QUEUE = object_of(
    ["queue", "purpose", "ready", "unacknowledged", "deferred", "consumers"],
    queue=TEXT,
    purpose=TEXT,
    ready=COUNT,
    unacknowledged=COUNT,
    deferred={**COUNT, "description": "Messages that wait for a lease; null: there are none of that kind."},
    consumers=NUMBER,
)
DEAD_LETTER = object_of(
    ["id", "reason", "queue", "jobId", "name", "runs", "body"],
    id=TEXT,
    reason=TEXT,
    queue={**TEXT, "description": "Where a replay puts it; empty when it cannot be read."},
    jobId=TEXT,
    name=TEXT,
    runs={"type": "boolean", "description": "Whether it would run the job; otherwise it only tells of it."},
    body={**TEXT, "description": "4096 characters of it at most."},
)
