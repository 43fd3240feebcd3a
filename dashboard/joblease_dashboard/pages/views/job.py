"""The pages about jobs: rendered here, complete without scripts, kept up to date by htmx when there are some."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from joblease.messages import JobEvent, State
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from joblease_dashboard.actions.actions import Actions
from joblease_dashboard.actions.kinds import ACTIONS, WAITING
from joblease_dashboard.actions.submission import submitted
from joblease_dashboard.api.parameters import bad, check_known
from joblease_dashboard.live.why import Why
from joblease_dashboard.pages.timeline import timeline
from joblease_dashboard.problems import Problem
from joblease_dashboard.read_model.statistics import WINDOWS

if TYPE_CHECKING:
    from joblease_dashboard.access.access import Access
    from joblease_dashboard.api.jobs import Api
    from joblease_dashboard.live.board import Board
    from joblease_dashboard.live.workers import Workers
    from joblease_dashboard.pages.charts import Charts
    from joblease_dashboard.pages.render import Renderer
    from joblease_dashboard.read_model.rows import Row

FIELDS = ("name", "namespace", "handler", "group", "state", "status", "from", "to")
SHOWN = 100
"""Rows of each list on the overview."""
SHOWN_FAILED = 20
SIBLINGS = 20
EVENTS = 500
"""Rows of a job's history, the last ones; the API gives all of it."""


class Pages:
    """Answers for people who look at jobs."""

    def __init__(
        self,
        render: "Renderer",
        api: "Api",
        access: "Access",
        actions: Actions,
        board: "Board",
        workers: "Workers",
        charts: "Charts",
    ) -> None:
        self._render = render
        self._api = api
        self._access = access
        self._actions = actions
        self._board = board
        self._workers = workers
        self._charts = charts

    async def overview(self, request: Request) -> Response:
        """What happens now, and how it went lately."""
        request = _without_empty(request)
        check_known(request, ("namespace", "window"))
        namespace, window = request.query_params.get("namespace", ""), request.query_params.get("window", "1h")
        await self._access.require(request, "list", namespace)
        if window not in WINDOWS:
            raise bad("window", f"one of {', '.join(WINDOWS)} is expected, not {window!r}")
        running, waiting = self._board.running(namespace), self._board.waiting(namespace)
        reasons = self._board.reasons()
        counts_all = await self._access.allows(request, "list", "")
        return self._render.page(
            request, "overview.html",
            running=running[:SHOWN], running_count=len(running),
            waiting=[(row, reasons.why(row)) for row in waiting[:SHOWN]], waiting_count=len(waiting),
            failed=self._board.failed(namespace)[:SHOWN_FAILED],
            workers=[each for each in self._workers.all() if each.state == "serving"],
            namespace=namespace, window=window, windows=list(WINDOWS),
            picture=await self._charts.read(window) if counts_all else None,
            restored=self._board.restored, overflowed=self._board.overflowed,
        )  # fmt: skip

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
        fields, events = await self._api.history(request)
        state, namespace = State(fields["state"]), fields["namespace"]
        spec = submitted(events)
        resource = await self._actions.resource(fields) if state in WAITING else None
        suspended = bool(resource["spec"].get("suspend")) if resource else None
        may = {
            verb: self._access.can_act and await self._access.allows(request, verb, namespace)
            for verb in ("create", "patch")
        }
        siblings = self._board.siblings(fields)
        return self._render.page(
            request, "job.html", job=fields, events=events[: -EVENTS - 1 : -1], event_count=len(events),
            submitted=spec, last=_last_words(events),
            why=self._why(fields, resource) if state in WAITING else None,
            lease=self._lease(fields) if state is State.RUNNING else None,
            actions=[each for each in ACTIONS.values() if each.fits(state, suspended=suspended) and may[each.verb]],
            may_copy=may["create"] and "handler" in spec, timeline=timeline(events),
            record=await self._actions.record.of(fields["jobId"]),
            siblings=siblings[:SIBLINGS], sibling_count=len(siblings),
        )  # fmt: skip

    def _why(self, fields: "Row", resource: Mapping[str, Any] | None) -> Why:
        """Why it waits, as far as the events, the resource and the operator tell."""
        if resource and resource["spec"].get("suspend"):
            return Why("it is suspended, and waits until somebody resumes it")
        why = self._board.reasons().why(self._board.get(fields["jobId"]) or fields)
        if resource and why.guessed:
            conditions = (resource.get("status") or {}).get("conditions") or []
            said = next((each["message"] for each in conditions if each["type"] == "Succeeded"), "")
            return Why(said) if said else why
        return why

    def _lease(self, fields: "Row") -> dict[str, Any]:
        """Who holds the job's lease, and until when if he does not renew it any more, as he reports himself."""
        worker = self._workers.get(fields.get("worker", ""))
        if worker is None or fields["jobId"] not in worker.report.jobs:
            return {"holder": fields.get("worker", ""), "expires": None}
        return {"holder": worker.report.worker, "expires": worker.lease_expires, "renewed": worker.alive}

    def problem(self, request: Request, problem: Problem) -> Response:
        """An error as a page."""
        return self._render.page(request, "problem.html", problem.status, problem=problem.content)

    def _list(self, template: str, request: Request, token: str | None, **context: Any) -> Response:
        query = {name: value for name, value in request.query_params.items() if value and name != "page_token"}

        def link(**changes: str) -> str:
            """The same search with something changed."""
            return "?" + urlencode({name: value for name, value in {**query, **changes}.items() if value})

        return self._render.page(
            request,
            template,
            query={name: query.get(name, "") for name in FIELDS},
            filtered=bool(set(query) - {"page_size"}),
            this_page=request.query_params.get("page_token", ""),
            following=link(page_token=token) if token else None,
            link=link,
            **context,
        )


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
