"""The pages about jobs: rendered here, complete without scripts, kept up to date by htmx when there are some."""

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from joblease.messages import JobEvent, State
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from joblease_dashboard import deadletters, locks, queues
from joblease_dashboard.access import Access
from joblease_dashboard.actions import ACTIONS, Action, Actions, read_form
from joblease_dashboard.problems import Problem
from joblease_dashboard.render import Renderer
from joblease_dashboard.stats import WINDOWS
from joblease_dashboard.timeline import timeline

if TYPE_CHECKING:
    from azure.storage.blob.aio import ContainerClient
    from joblease.broker import Broker

    from joblease_dashboard.api import Api
    from joblease_dashboard.board import Board
    from joblease_dashboard.workers import Workers

FIELDS = ("name", "namespace", "handler", "state", "status", "from", "to")
SHOWN = 100
"""Rows of each list on the overview."""


class Pages:
    """Answers for people."""

    def __init__(
        self,
        api: "Api",
        access: Access,
        actions: Actions,
        board: "Board",
        workers: "Workers",
        broker: "Broker",
        container: "ContainerClient",
        defer_seconds: int,
    ) -> None:
        self._api = api
        self._access = access
        self._actions = actions
        self._board = board
        self._workers = workers
        self._broker = broker
        self._container = container
        self._defer_seconds = defer_seconds
        self._render = Renderer(access)

    async def overview(self, request: Request) -> Response:
        """What happens now, and how it went lately."""
        namespace = request.query_params.get("namespace", "")
        await self._access.require(request, "list", namespace)
        running, waiting = self._board.running(namespace), self._board.waiting(namespace)
        return self._render.page(
            request, "overview.html",
            running=running[:SHOWN], running_count=len(running),
            waiting=waiting[:SHOWN], waiting_count=len(waiting),
            failed=self._board.failed(namespace)[:SHOWN],
            workers=[each for each in self._workers.all() if each[2] == "serving"],
            namespace=namespace, windows=list(WINDOWS), charts=await self._access.allows(request, "list", ""),
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
        submitted = next((event.data for event in events if event.status == "Submitted" and event.data), {})
        state = State(fields["state"])
        may = {
            verb: self._access.can_act and await self._access.allows(request, verb, fields["namespace"])
            for verb in ("create", "patch")
        }
        return self._render.page(
            request, "job.html", job=fields, events=events[::-1], submitted=submitted, last=_last_words(events),
            why="" if state.terminal or state is State.RUNNING else self._board.why(fields),
            actions=[each.name for each in ACTIONS.values() if each.possible(state) and may[each.verb]],
            record=await self._actions.history(fields["jobId"]), bars=timeline(events),
            siblings=[
                row for row in self._board.siblings(fields["group"], fields["jobId"])
                if row["namespace"] == fields["namespace"]
            ][:20],
        )  # fmt: skip

    async def ask(self, request: Request) -> Response:
        """Ask before doing something to a job."""
        action, job, _ = await self._action(request)
        await self._access.require(request, action.verb, job["namespace"])
        return self._render.page(request, "ask.html", action=action, job=job, question=action.question)

    async def act(self, request: Request) -> Response:
        """Do something to a job."""
        action, job, events = await self._action(request)
        job_id = await self._actions.do(request, action, job, events)
        return self._render.done(request, f"/jobs/{job_id}", {"jobId": job_id, "action": action.name})

    async def submit_form(self, request: Request) -> Response:
        """The form for a new job, made from what the chosen handler takes."""
        namespace = request.query_params.get("namespace") or "default"
        await self._access.require(request, "create", namespace)
        known = self._workers.handlers()
        chosen = request.query_params.get("handler", "")
        description, queue = known.get(chosen, (None, "default"))
        return self._render.page(
            request, "submit.html", handlers=list(known), chosen=chosen, description=description, queue=queue,
            namespace=namespace,
        )  # fmt: skip

    async def submit(self, request: Request) -> Response:
        """Create a job."""
        job_id = await self._actions.submit(request, await read_form(request))
        return self._render.done(request, f"/jobs/{job_id}", {"jobId": job_id, "action": "submit"})

    async def workers(self, request: Request) -> Response:
        """The workers."""
        await self._access.require(request, "list", "")
        rows = [
            {
                "report": report,
                "seen": seen,
                "state": state,
                "jobs": [(id_, self._board.get(id_)) for id_ in report.jobs],
            }
            for report, seen, state in self._workers.all()
        ]
        return self._render.page(request, "workers.html", workers=rows)

    async def locks(self, request: Request) -> Response:
        """The leases that are held."""
        await self._access.require(request, "list", "")
        rows, more = await locks.held(self._container, self._workers)
        for row in rows:
            row["job"] = self._board.get(row["jobId"])
        return self._render.page(request, "locks.html", locks=rows, more=more)

    async def queues(self, request: Request) -> Response:
        """The broker's queues, and the dead letters."""
        await self._access.require(request, "list", "")
        pools = {"default"} | self._workers.queues() | self._board.queues()
        return self._render.page(
            request, "queues.html",
            queues=await queues.depths(self._broker, self._workers, pools, self._defer_seconds),
            letters=await deadletters.look(self._broker), shown=deadletters.MAX_SHOWN,
            may_replay=await self._access.allows(request, "patch", ""),
        )  # fmt: skip

    async def ask_replay(self, request: Request) -> Response:
        """Ask before sending dead letters back."""
        await self._access.require(request, "patch", "")
        wanted = request.query_params.get("message", "")
        question = "Send this message back to its queue?" if wanted else "Send all readable messages back?"
        return self._render.page(request, "ask.html", action=None, job=None, question=question, message=wanted)

    async def replay(self, request: Request) -> Response:
        """Send dead letters back."""
        form = await read_form(request)
        sent = await self._actions.replay(request, form.get("message") or None)
        return self._render.done(request, "/queues", {"replayed": len(sent)})

    async def login_form(self, request: Request) -> Response:
        """Ask for a token."""
        return self._render.page(request, "login.html", target=_local(request.query_params.get("next")), refused=False)

    async def login(self, request: Request) -> Response:
        """Sign in."""
        form = await read_form(request)
        response = RedirectResponse(_local(form.get("next")), 303)
        if await self._access.sign_in(request, form.get("token", "").strip(), response):
            return response
        return self._render.page(request, "login.html", 401, target=_local(form.get("next")), refused=True)

    async def logout(self, _: Request) -> Response:
        """Sign out."""
        return self._render.signed_out()

    def problem(self, request: Request, problem: Problem) -> Response:
        """An error as a page."""
        return self._render.page(request, "problem.html", problem.status, problem=problem.content)

    async def _action(self, request: Request) -> tuple[Action, dict[str, Any], list[JobEvent]]:
        action = ACTIONS.get(request.path_params["action"])
        job, events = await self._api.history(request)
        if action is None:
            raise Problem(404, "No such action", f"a job can be asked to {', '.join(ACTIONS)}")
        return action, job, events

    def _list(self, template: str, request: Request, token: str | None, **context: Any) -> Response:
        query = {name: value for name, value in request.query_params.items() if value and name != "page_token"}
        following = "?" + urlencode({**query, "page_token": token}) if token else None
        return self._render.page(
            request,
            template,
            query={name: query.get(name, "") for name in FIELDS},
            filtered=bool(query),
            first_page="page_token" not in request.query_params,
            following=following,
            **context,
        )


def _without_empty(request: Request) -> Request:
    """The request without parameters that a form sends empty."""
    kept = [(name, value) for name, value in request.query_params.multi_items() if value]
    return Request({**request.scope, "query_string": urlencode(kept).encode()})


def _looks_like_id(text: str) -> bool:
    return len(text) == 36 and text.count("-") == 4 and all(each in "0123456789abcdef-" for each in text.lower())


def _local(target: str | None) -> str:
    """A path of this dashboard to go to: nobody is sent elsewhere."""
    return target if target and target.startswith("/") and not target.startswith(("//", "/\\")) else "/"


def _last_words(events: list[JobEvent]) -> dict[str, Any]:
    """Result, error and traceback of the last attempt, if there are any."""
    for event in reversed(events):
        if event.data and {"result", "error"} & set(event.data):
            return event.data
        if event.status == "Started":
            break
    return {}
