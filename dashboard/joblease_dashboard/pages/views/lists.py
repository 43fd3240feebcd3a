"""The lists of jobs and of events: one search, whose address is its query."""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from joblease_dashboard.api.events import event_page
from joblease_dashboard.api.jobs import job_page
from joblease_dashboard.api.parameters import without_empty
from joblease_dashboard.pages.page import Rooms


async def jobs(rooms: Rooms, request: Request) -> Response:
    """Jobs; a job's id in the search box leads to its page."""
    sought = request.query_params.get("name", "").strip()
    if _looks_like_id(sought):
        return RedirectResponse(f"/jobs/{sought}", 303)
    page = await job_page(rooms, without_empty(request))
    return rooms.render.listed(request, "jobs.html", page.token, jobs=page.rows)


async def events(rooms: Rooms, request: Request) -> Response:
    """The events of all jobs."""
    page = await event_page(rooms, without_empty(request))
    return rooms.render.listed(request, "events.html", page.token, events=page.rows)


def _looks_like_id(text: str) -> bool:
    return len(text) == 36 and text.count("-") == 4 and all(each in "0123456789abcdef-" for each in text.lower())
