"""The OpenAPI document of the API, written by hand and held to the real answers by a test."""

from typing import Any

from joblease import __version__
from joblease.messages import State

from joblease_dashboard.access.sessions import COOKIE

TEXT = {"type": "string"}
TIME = {"type": "string", "format": "date-time"}
NUMBER = {"type": "integer"}
STATE = {"type": "string", "enum": [state.value for state in State]}


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


JOB_KEYS = {"jobId": TEXT, "namespace": TEXT, "name": TEXT, "handler": TEXT, "queue": TEXT, "group": TEXT}
EVENT = _object(
    ["eventId", *JOB_KEYS, "submittedAt", "sequence", "status", "state", "message", "timestamp", "attempt", "epoch"],
    eventId=TEXT,
    **JOB_KEYS,
    submittedAt=TIME,
    sequence={**NUMBER, "minimum": 1},
    status={**TEXT, "description": "Submitted, Queued, Deferred, Started, Step N, Retrying, Interrupted, Completed, "
            "Failed or Cancelled"},
    state=STATE,
    message=TEXT,
    timestamp=TIME,
    attempt=NUMBER,
    epoch=NUMBER,
    worker=TEXT,
    progress={**NUMBER, "minimum": 0, "maximum": 100},
    data={"type": "object", "description": "only in a job's history"},
)  # fmt: skip
JOB = _object(
    [*JOB_KEYS, "submittedAt", "sequence", "status", "state", "message", "attempt", "updatedAt"],
    **JOB_KEYS,
    submittedAt=TIME,
    startedAt=TIME,
    finishedAt=TIME,
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
PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {"type": TEXT, "title": TEXT, "status": NUMBER, "detail": TEXT},
}


SECONDS = {"type": ["number", "null"], "minimum": 0, "description": "null: no such job"}
POINT = _object(
    ["time", "completed", "failed", "cancelled", "waitedP50", "waitedP95", "ranP50", "ranP95"],
    time=TIME,
    completed=NUMBER,
    failed=NUMBER,
    cancelled=NUMBER,
    waitedP50=SECONDS,
    waitedP95=SECONDS,
    ranP50=SECONDS,
    ranP95=SECONDS,
)
STATS = _object(
    ["window", "ended", "successRate", "points"],
    window=TEXT,
    ended=NUMBER,
    successRate={"type": ["number", "null"], "minimum": 0, "maximum": 1},
    points={"type": "array", "items": POINT},
)


def _parameter(name: str, description: str, schema: Any = None) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema or TEXT}


def _page_parameters(size: int) -> list[dict[str, Any]]:
    return [
        _parameter("page_size", "Rows wanted, 1000 at most.", {**NUMBER, "minimum": 1, "default": size}),
        _parameter("page_token", "`nextPageToken` of the page before, which may have been short or empty."),
        _parameter("namespace", "Only this namespace."),
        _parameter("handler", "Only this handler."),
        _parameter("group", "Only this concurrency group."),
        _parameter("name", "Only jobs whose name begins so."),
        _parameter("from", "Not before this time (RFC 3339).", TIME),
        _parameter("to", "Not after this time (RFC 3339).", TIME),
    ]


def _answers(schema: Any, *problems: int, media: str = "application/json") -> dict[str, Any]:
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        "200": {"description": "As asked for.", "content": {media: {"schema": schema}}},
        **{str(code): {"description": "Why not.", "content": problem} for code in (*problems, 401, 403, 429)},
    }


def _list(name: str, of: str) -> dict[str, Any]:
    rows = {"type": "array", "items": {"$ref": f"#/components/schemas/{of}"}}
    token = {**TEXT, "description": "Absent when there is nothing more."}
    return _object([name], **{name: rows, "nextPageToken": token})


DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "JobLease audit API", "version": __version__},
    "paths": {
        "/api/jobs": {
            "get": {
                "summary": "The last events of all jobs, newest first",
                "parameters": [
                    *_page_parameters(200),
                    _parameter("status", "Only this status; `Step`: any step."),
                ],
                "responses": _answers(_list("events", "Event"), 400, 503),
            }
        },
        "/api/jobs/{jobId}": {
            "get": {
                "summary": "A job and its complete history, oldest first",
                "parameters": [{"name": "jobId", "in": "path", "required": True, "schema": TEXT}],
                "responses": _answers(
                    _object(
                        ["job", "events"],
                        job={"$ref": "#/components/schemas/Job"},
                        events={"type": "array", "items": {"$ref": "#/components/schemas/Event"}},
                    ),
                    400,
                    404,
                    503,
                ),
            }
        },
        "/api/requests": {
            "get": {
                "summary": "Jobs with their present state, the last submitted first",
                "parameters": [*_page_parameters(50), _parameter("state", "Only jobs in this state.", STATE)],
                "responses": _answers(_list("jobs", "Job"), 400, 503),
            }
        },
        "/api/stats": {
            "get": {
                "summary": "Jobs that ended, and how long they had waited and run, over a window",
                "parameters": [
                    _parameter("window", "Up to now.", {**TEXT, "enum": ["1h", "6h", "24h", "7d"], "default": "1h"})
                ],
                "responses": _answers({"$ref": "#/components/schemas/Stats"}, 400, 503),
            }
        },
        "/api/stream": {
            "get": {
                "summary": "Events as they happen (server-sent events `job`; `missed` when some are not kept any more)",
                "parameters": [
                    _parameter("jobId", "Only this job."),
                    _parameter("namespace", "Only this namespace."),
                    _parameter("lastEventId", "Resume after this event; the header Last-Event-ID does the same."),
                ],
                "responses": _answers(TEXT, 400, 503, media="text/event-stream"),
            }
        },
    },
    "security": [{"token": []}, {"session": []}],
    "components": {
        "schemas": {"Event": EVENT, "Job": JOB, "Problem": PROBLEM, "Stats": STATS},
        "securitySchemes": {
            "token": {"type": "http", "scheme": "bearer", "description": "A Kubernetes token, in mode `kubernetes`."},
            "session": {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": "Of somebody who signed in."},
        },
    },
}
