"""The pages: rendered here, complete without scripts, kept up to date by one small script."""

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from joblease import __version__
from joblease.messages import JobEvent, State
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from joblease_dashboard.problems import Problem

if TYPE_CHECKING:
    from joblease_dashboard.api import Api

HERE = Path(__file__).parent
FIELDS = ("name", "namespace", "handler", "state")


class Pages:
    """Answers for people."""

    def __init__(self, api: "Api") -> None:
        self._api = api
        self._templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=select_autoescape(["html"]),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals |= {"version": __version__, "states": list(State)}
        self._templates.filters |= {"clock": _clock, "duration": _duration, "json": _pretty}

    async def jobs(self, request: Request) -> Response:
        """The list of jobs; a job's id in the search box leads to its page."""
        sought = request.query_params.get("name", "").strip()
        if _looks_like_id(sought):
            return RedirectResponse(f"/jobs/{sought}", 303)
        page = await self._api.job_page(_without_empty(request))
        return self._list("jobs.html", request, jobs=page.rows, token=page.token)

    async def events(self, request: Request) -> Response:
        """The list of recent events."""
        page = await self._api.event_page(_without_empty(request))
        return self._list("events.html", request, events=page.rows, token=page.token)

    async def job(self, request: Request) -> Response:
        """One job."""
        fields, events = await self._api.history(request.path_params["job_id"])
        submitted = next((event.data for event in events if event.status == "Submitted" and event.data), {})
        return self._page("job.html", job=fields, events=events[::-1], submitted=submitted, last=_last_words(events))

    def problem(self, problem: Problem) -> Response:
        """An error as a page."""
        return self._page("problem.html", problem.status, problem=problem.content)

    def _list(self, template: str, request: Request, token: str | None, **context: Any) -> Response:
        query = {name: value for name, value in request.query_params.items() if value and name != "page_token"}
        following = "?" + urlencode({**query, "page_token": token}) if token else None
        return self._page(
            template,
            query={name: query.get(name, "") for name in (*FIELDS, "status")},
            filtered=bool(query),
            first_page="page_token" not in request.query_params,
            following=following,
            **context,
        )

    def _page(self, template: str, status: int = 200, /, **context: Any) -> Response:
        return HTMLResponse(self._templates.get_template(template).render(context), status)


def _without_empty(request: Request) -> Request:
    """The request without parameters that a form sends empty."""
    kept = [(name, value) for name, value in request.query_params.multi_items() if value]
    return Request({**request.scope, "query_string": urlencode(kept).encode()})


def _looks_like_id(text: str) -> bool:
    return len(text) == 36 and text.count("-") == 4 and all(each in "0123456789abcdef-" for each in text.lower())


def _last_words(events: list[JobEvent]) -> dict[str, Any]:
    """Result, error and traceback of the last attempt, if there are any."""
    for event in reversed(events):
        if event.data and {"result", "error"} & set(event.data):
            return event.data
        if event.status == "Started":
            break
    return {}


def _clock(moment: datetime | str | None) -> str:
    if not moment:
        return ""
    return (datetime.fromisoformat(moment) if isinstance(moment, str) else moment).strftime("%Y-%m-%d %H:%M:%S")


def _duration(row: Any) -> str:
    """How long a job has run, as far as its row tells."""
    if not row.get("startedAt") or not row.get("finishedAt"):
        return ""
    seconds = (datetime.fromisoformat(row["finishedAt"]) - datetime.fromisoformat(row["startedAt"])).total_seconds()
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
