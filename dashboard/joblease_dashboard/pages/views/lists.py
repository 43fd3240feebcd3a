"""The lists of jobs and of events: one search, whose address is its query."""

from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from joblease_dashboard.api.events import event_page
from joblease_dashboard.api.jobs import job_page
from joblease_dashboard.api.parameters import without_empty
from joblease_dashboard.pages.page import Rooms

FIELDS = ("name", "namespace", "handler", "group", "state", "status", "from", "to")


async def jobs(rooms: Rooms, request: Request) -> Response:
    """Jobs; a job's id in the search box leads to its page."""
    sought = request.query_params.get("name", "").strip()
    if _looks_like_id(sought):
        return RedirectResponse(f"/jobs/{sought}", 303)
    page = await job_page(rooms, without_empty(request))
    return _list(rooms, "jobs.html", request, jobs=page.rows, token=page.token)


async def events(rooms: Rooms, request: Request) -> Response:
    """The events of all jobs."""
    page = await event_page(rooms, without_empty(request))
    return _list(rooms, "events.html", request, events=page.rows, token=page.token)


def _list(rooms: Rooms, template: str, request: Request, token: str | None, **context: Any) -> Response:
    query = {name: value for name, value in request.query_params.items() if value and name != "page_token"}

    def link(**changes: str) -> str:
        """The same search with something changed."""
        return "?" + urlencode({name: value for name, value in {**query, **changes}.items() if value})

    return rooms.render.page(
        request,
        template,
        query={name: query.get(name, "") for name in FIELDS},
        filtered=bool(set(query) - {"page_size"}),
        this_page=request.query_params.get("page_token", ""),
        following=link(page_token=token) if token else None,
        link=link,
        **context,
    )


def _looks_like_id(text: str) -> bool:
    return len(text) == 36 and text.count("-") == 4 and all(each in "0123456789abcdef-" for each in text.lower())
