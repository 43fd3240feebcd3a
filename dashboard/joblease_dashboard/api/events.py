"""`GET /api/events`: the last events of all jobs. `/api/jobs` is the same, under the name that it had first."""

from typing import TYPE_CHECKING

from joblease_dashboard.api.lists import answer, read_page

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from joblease_dashboard.api.sources import Sources
    from joblease_dashboard.read_model.queries import Page

PAGE_SIZE = 200


async def events(sources: "Sources", request: "Request") -> "Response":
    """The last events of all jobs."""
    return answer("events", await event_page(sources, request))


async def event_page(sources: "Sources", request: "Request") -> "Page":
    """The page of events that a request asks for. Raises `Problem`."""
    return await read_page(sources.access, sources.events, request, PAGE_SIZE, "status")
