"""The pages on which people do something: submit a job, do something to one, replay dead letters, sign in and out.

Each asks before it does, on a page of its own, so that it works without scripts and by keyboard. What is wrong with a
form is said on the form, with everything that was typed still there.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from joblease.messages import JobEvent
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from joblease_dashboard.actions import deadletters
from joblease_dashboard.actions.actions import Actions
from joblease_dashboard.actions.kinds import ACTIONS, Action
from joblease_dashboard.actions.submission import fields_of, form_of, read_form, submitted
from joblease_dashboard.problems import Problem, wants_page

if TYPE_CHECKING:
    from joblease.broker import Broker

    from joblease_dashboard.access.access import Access
    from joblease_dashboard.api.jobs import Api
    from joblease_dashboard.live.workers import Workers
    from joblease_dashboard.pages.render import Renderer

CORRECTABLE = (400, 404, 409, 413, 422)
"""Answers to a form that whoever filled it in can do something about."""


class Forms:
    """Questions to people, and what they answer."""

    def __init__(
        self, render: "Renderer", api: "Api", access: "Access", actions: Actions, workers: "Workers", broker: "Broker"
    ) -> None:
        self._render = render
        self._api = api
        self._access = access
        self._actions = actions
        self._workers = workers
        self._broker = broker

    async def ask(self, request: Request) -> Response:
        """Ask before doing something to a job."""
        action, job, _ = await self._action(request)
        await self._access.require(request, action.verb, job["namespace"])
        action.check(job)
        return self._render.page(request, "ask.html", action=action, job=job)

    async def act(self, request: Request) -> Response:
        """Do something to a job."""
        action, job, events = await self._action(request)
        job_id = await self._actions.do(request, action, job, events)
        return self._render.done(request, f"/jobs/{job_id}", {"jobId": job_id, "action": action.name})

    async def submit_form(self, request: Request) -> Response:
        """The form for a new job, made from what the chosen handler takes; with `copy`, filled in as for that job."""
        values = {"namespace": request.query_params.get("namespace") or "default"}
        values["handler"] = request.query_params.get("handler", "").strip()
        if copied := request.query_params.get("copy"):
            job, events = await self._api.history_of(request, copied)
            description, _ = self._workers.handlers().get(job["handler"], (None, ""))
            values = {
                "namespace": job["namespace"],
                "handler": job["handler"],
                **form_of(submitted(events), fields_of(description)),
            }
        await self._access.require(request, "create", values["namespace"])
        return self._submit_page(request, values)

    async def submit(self, request: Request) -> Response:
        """Create a job."""
        form = await read_form(request)
        try:
            job_id = await self._actions.submit(request, form)
        except Problem as problem:
            if problem.status in CORRECTABLE and wants_page(request):
                return self._submit_page(request, form, problem)
            raise
        return self._render.done(request, f"/jobs/{job_id}", {"jobId": job_id, "action": "submit"})

    def _submit_page(self, request: Request, values: Mapping[str, str], problem: Problem | None = None) -> Response:
        known, chosen = self._workers.handlers(), values.get("handler", "")
        description, queue = known.get(chosen, (None, "default"))
        return self._render.page(
            request, "submit.html", problem.status if problem else 200, handlers=known, chosen=chosen,
            description=description, fields=fields_of(description), values={"queue": queue, **values},
            namespace=values.get("namespace") or "default", problem=str(problem) if problem else "",
        )  # fmt: skip

    async def ask_replay(self, request: Request) -> Response:
        """Ask before sending dead letters back."""
        await self._access.require(request, "patch", "")
        wanted = request.query_params.get("message", "")
        letters = await deadletters.look(self._broker)
        found = [each for each in letters if each.queue and wanted in ("", each.id)]
        if not found:
            raise Problem(404, "Nothing to replay", "it is not in joblease.dead any more, or it cannot be read")
        return self._render.page(request, "ask_replay.html", wanted=wanted, letters=found)

    async def replay(self, request: Request) -> Response:
        """Send dead letters back."""
        form = await read_form(request)
        done = await self._actions.replay(request, form.get("message") or None)
        if done.ended and wants_page(request):
            return self._render.page(request, "replayed.html", sent=done.sent, ended=done.ended)
        return self._render.done(request, "/queues", {"replayed": len(done.sent), "ended": done.ended_jobs()})

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

    async def _action(self, request: Request) -> tuple[Action, dict[str, Any], list[JobEvent]]:
        action = ACTIONS.get(request.path_params["action"])
        job, events = await self._api.history(request)
        if action is None:
            raise Problem(404, "No such action", f"a job can be asked to {', '.join(ACTIONS)}")
        return action, job, events


def _local(target: str | None) -> str:
    """A path of this dashboard to go to: nobody is sent elsewhere."""
    return target if target and target.startswith("/") and not target.startswith(("//", "/\\")) else "/"
