"""The form for a new job. What is wrong with it is said on it, with everything that was typed still there."""

from collections.abc import Mapping

from joblease.policy import HandlerPolicy
from starlette.requests import Request
from starlette.responses import Response

from joblease_dashboard.actions.forms import read_form
from joblease_dashboard.actions.submission import fields_of, form_of, new_key, repeatable
from joblease_dashboard.api.history import story
from joblease_dashboard.pages.page import Rooms
from joblease_dashboard.problems import Problem, wants_page

CORRECTABLE = (400, 404, 409, 413, 422)
"""Answers to a form that whoever filled it in can do something about."""


async def show(rooms: Rooms, request: Request) -> Response:
    """The form, made from what the chosen handler takes; with `copy`, filled in as for that job."""
    values = {"namespace": request.query_params.get("namespace") or "default"}
    values["handler"] = request.query_params.get("handler", "").strip()
    if copied := request.query_params.get("copy"):
        found = await story(rooms, request, copied)
        job = found.row
        description, _ = rooms.workers.handlers().get(job["handler"], (None, ""))
        filled = form_of(repeatable(job["name"], found.first), fields_of(description))
        values = {"namespace": job["namespace"], "handler": job["handler"], **filled}
    await rooms.access.require(request, "create", values["namespace"])
    return _page(rooms, request, values)


async def submit(rooms: Rooms, request: Request) -> Response:
    """Create a job."""
    form = await read_form(request)
    try:
        job_id = await rooms.actions.submit(request, form)
    except Problem as problem:
        if problem.status in CORRECTABLE and wants_page(request):
            return _page(rooms, request, form, problem)
        raise
    return rooms.render.done(request, f"/jobs/{job_id}", {"jobId": job_id, "action": "submit"})


def _page(rooms: Rooms, request: Request, values: Mapping[str, str], problem: Problem | None = None) -> Response:
    known, chosen = rooms.workers.handlers(), values.get("handler", "")
    description, queue = known.get(chosen, (None, "default"))
    return rooms.render.page(
        request, "submit.html", problem.status if problem else 200, handlers=known, chosen=chosen,
        description=description, fields=fields_of(description),
        policy=(description and description.policy) or HandlerPolicy(),
        values={"queue": queue, "key": new_key(), **values},
        namespace=values.get("namespace") or "default", problem=str(problem) if problem else "",
    )  # fmt: skip
