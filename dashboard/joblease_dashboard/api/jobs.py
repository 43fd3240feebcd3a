"""Jobs: `GET /api/requests` lists them with their present state, `GET /api/jobs/{jobId}` tells the history of one."""

import asyncio
import json
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from joblease_dashboard.api.history import LAST, story
from joblease_dashboard.api.lists import answer, read_page
from joblease_dashboard.api.parameters import check_known, whole
from joblease_dashboard.read_model.queries import MAX_PAGE
from joblease_dashboard.read_model.rows import event_fields

if TYPE_CHECKING:
    from joblease.messages import JobEvent
    from starlette.requests import Request

    from joblease_dashboard.api.sources import Sources
    from joblease_dashboard.read_model.queries import Page

PAGE_SIZE = 50
EVENTS = 500
"""Of a job's history, unless more or fewer are asked for."""
MAX_BYTES = 1 << 20
"""Of the events in one answer, about: the rest comes with the next."""
TURN = 20
"""Events that are encoded before the event loop gets its turn."""


async def jobs(sources: "Sources", request: "Request") -> Response:
    """Jobs with their present state."""
    return answer("jobs", await job_page(sources, request))


async def job_page(sources: "Sources", request: "Request") -> "Page":
    """The page of jobs that a request asks for. Raises `Problem`."""
    return await read_page(sources.access, sources.jobs, request, PAGE_SIZE, "state")


async def job(sources: "Sources", request: "Request") -> Response:
    """A job and its history, or the next stretch of a long one."""
    check_known(request, ("after", "limit"))
    after, limit = whole(request, "after", 0), max(1, min(whole(request, "limit", EVENTS), MAX_PAGE))
    found = await story(sources, request, request.path_params["job_id"], LAST if after else max(limit, LAST))
    events = found.last
    if after or limit < len(events) or not found.whole:
        events = await sources.trail.stretch(found.head, after, min(after + limit, found.head.sequence))
    parts = await _encoded(events)
    shown = after + len(parts)
    following = f', "next": {shown}' if shown < found.head.sequence and parts else ""
    body = f'{{"job": {_json(found.row)}, "events": [{", ".join(parts)}]{following}}}'
    return Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})


async def _encoded(events: "list[JobEvent]") -> list[str]:
    """The first events as JSON, as many as an answer takes; other requests get their turns meanwhile."""
    parts: list[str] = []
    size = 0
    for event in events:
        parts.append(_json(event_fields(event)))
        size += len(parts[-1])
        if size > MAX_BYTES:
            break
        if not len(parts) % TURN:
            await asyncio.sleep(0)
    return parts


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
