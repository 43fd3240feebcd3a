"""The OpenAPI document of the API, held to the real answers by a test. What is sent is described by its models."""

from typing import Any

from joblease import __version__

from joblease_dashboard.access.sessions import COOKIE
from joblease_dashboard.api import events, jobs
from joblease_dashboard.api.operations import JOB_ID, answers, parameter, reference
from joblease_dashboard.api.schemas import (
    DEAD_LETTER,
    EVENT,
    JOB,
    NUMBER,
    PRESENT_JOB,
    QUEUE,
    STATE,
    STATS,
    TEXT,
    TIME,
    WORKER,
    object_of,
)
from joblease_dashboard.api.writes import SCHEMAS, WRITES
from joblease_dashboard.read_model.statistics import WINDOWS


def _page_parameters(size: int) -> list[dict[str, Any]]:
    return [
        parameter("page_size", "Rows wanted, 1000 at most.", {**NUMBER, "minimum": 1, "default": size}),
        parameter("page_token", "`nextPageToken` of the page before, which may have been short or empty."),
        parameter("namespace", "Only this namespace."),
        parameter("handler", "Only this handler."),
        parameter("group", "Only this concurrency group."),
        parameter("name", "Only jobs whose name begins so."),
        parameter("from", "Not before this time (RFC 3339).", TIME),
        parameter("to", "Not after this time (RFC 3339).", TIME),
    ]


def _list(name: str, of: str) -> dict[str, Any]:
    rows = {"type": "array", "items": reference(of)}
    token = {**TEXT, "description": "Absent when there is nothing more."}
    return object_of([name], **{name: rows, "nextPageToken": token})


def _events(summary: str) -> dict[str, Any]:
    parameters = [*_page_parameters(events.PAGE_SIZE), parameter("status", "Only this status; `Step`: any step.")]
    responses = answers(_list("events", "Event"), 400, 503)
    return {"get": {"summary": summary, "parameters": parameters, "responses": responses}}


def _whole(summary: str, name: str, of: str) -> dict[str, Any]:
    rows = object_of([name], **{name: {"type": "array", "items": reference(of)}})
    return {"get": {"summary": summary, "responses": answers(rows, 400, 503)}}


DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "JobLease API", "version": __version__},
    "paths": {
        "/api/events": _events("The last events of all jobs, newest first"),
        "/api/jobs": _events("The same as /api/events"),
        "/api/jobs/{jobId}": {
            "get": {
                "summary": "A job and its history, oldest first; a long one in stretches",
                "parameters": [
                    JOB_ID,
                    parameter("after", "Only events whose `sequence` is greater.", {**NUMBER, "minimum": 0}),
                    parameter(
                        "limit",
                        "Events wanted, 1000 at most. An answer may have fewer, when they are large.",
                        {**NUMBER, "minimum": 0, "default": jobs.EVENTS},
                    ),
                ],
                "responses": answers(
                    object_of(
                        ["job", "events"],
                        job=reference("Job"),
                        events={"type": "array", "items": reference("Event")},
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
                    parameter("state", "Only jobs in this state.", STATE),
                ],
                "responses": answers(_list("jobs", "Job"), 400, 503),
            },
            **WRITES["/api/requests"],
        },
        **{path: each for path, each in WRITES.items() if path != "/api/requests"},
        "/api/workers": _whole("The workers, as they were heard of last", "workers", "Worker"),
        "/api/queues": _whole("The broker's queues", "queues", "Queue"),
        "/api/dead-letters": _whole("The oldest 100 messages that could not be processed", "deadLetters", "DeadLetter"),
        "/api/stats": {
            "get": {
                "summary": "Jobs that ended, and how long they had waited and run, over a window",
                "parameters": [parameter("window", "Up to now.", {**TEXT, "enum": list(WINDOWS), "default": "1h"})],
                "responses": answers(reference("Stats"), 400, 503),
            }
        },
        "/api/stream": {
            "get": {
                "summary": "Events as they happen (server-sent events `job`; `missed` when some are not kept any "
                "more; `stale` and `fresh` around a time in which the broker did not answer)",
                "parameters": [
                    parameter("jobId", "Only this job."),
                    parameter("namespace", "Only this namespace."),
                    parameter("lastEventId", "Resume after this event; the header Last-Event-ID does the same."),
                ],
                "responses": answers(TEXT, 400, 503, media="text/event-stream"),
            }
        },
    },
    "security": [{"token": []}, {"session": []}],
    "components": {
        "schemas": {
            "Event": EVENT,
            "Job": JOB,
            "PresentJob": PRESENT_JOB,
            "Worker": WORKER,
            "Queue": QUEUE,
            "DeadLetter": DEAD_LETTER,
            "Stats": STATS,
            **SCHEMAS,
        },
        "securitySchemes": {
            "token": {"type": "http", "scheme": "bearer", "description": "A Kubernetes token, in mode `kubernetes`."},
            "session": {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": "Of somebody who signed in."},
        },
    },
}
