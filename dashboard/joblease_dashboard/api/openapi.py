"""The OpenAPI document of the API, written by hand and held to the real answers by a test."""

from typing import Any

from joblease import __version__

from joblease_dashboard.access.sessions import COOKIE
from joblease_dashboard.api import events, jobs
from joblease_dashboard.api.schemas import EVENT, JOB, NUMBER, PROBLEM, STATE, STATS, TEXT, TIME, object_of
from joblease_dashboard.read_model.statistics import WINDOWS


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
    return object_of([name], **{name: rows, "nextPageToken": token})


def _events(summary: str) -> dict[str, Any]:
    parameters = [*_page_parameters(events.PAGE_SIZE), _parameter("status", "Only this status; `Step`: any step.")]
    responses = _answers(_list("events", "Event"), 400, 503)
    return {"get": {"summary": summary, "parameters": parameters, "responses": responses}}


DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "JobLease audit API", "version": __version__},
    "paths": {
        "/api/events": _events("The last events of all jobs, newest first"),
        "/api/jobs": _events("The same as `/api/events`"),
        "/api/jobs/{jobId}": {
            "get": {
                "summary": "A job and its history, oldest first; a long one in stretches",
                "parameters": [
                    {"name": "jobId", "in": "path", "required": True, "schema": TEXT},
                    _parameter("after", "Only events whose `sequence` is greater.", {**NUMBER, "minimum": 0}),
                    _parameter(
                        "limit",
                        "Events wanted, 1000 at most. An answer may have fewer, when they are large.",
                        {**NUMBER, "minimum": 0, "default": jobs.EVENTS},
                    ),
                ],
                "responses": _answers(
                    object_of(
                        ["job", "events"],
                        job={"$ref": "#/components/schemas/Job"},
                        events={"type": "array", "items": {"$ref": "#/components/schemas/Event"}},
                        next={**NUMBER, "description": "`after` of what follows; absent when there is nothing more."},
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
                "parameters": [
                    *_page_parameters(jobs.PAGE_SIZE),
                    _parameter("state", "Only jobs in this state.", STATE),
                ],
                "responses": _answers(_list("jobs", "Job"), 400, 503),
            }
        },
        "/api/stats": {
            "get": {
                "summary": "Jobs that ended, and how long they had waited and run, over a window",
                "parameters": [_parameter("window", "Up to now.", {**TEXT, "enum": list(WINDOWS), "default": "1h"})],
                "responses": _answers({"$ref": "#/components/schemas/Stats"}, 400, 503),
            }
        },
        "/api/stream": {
            "get": {
                "summary": "Events as they happen (server-sent events `job`; `missed` when some are not kept any "
                "more; `stale` and `fresh` around a time in which the broker did not answer)",
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
