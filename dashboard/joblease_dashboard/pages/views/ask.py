"""The page that asks before something is done to a job, and does it."""

from starlette.requests import Request
from starlette.responses import Response

from joblease_dashboard.actions.forms import read_form
from joblease_dashboard.actions.kinds import ACTIONS, Action
from joblease_dashboard.actions.submission import new_key, repeatable
from joblease_dashboard.api.history import story
from joblease_dashboard.pages.page import Rooms
from joblease_dashboard.problems import Problem


async def show(rooms: Rooms, request: Request) -> Response:
    """Ask."""
    found = await story(rooms, request, request.path_params["job_id"])
    job, action = found.row, _action(request)
    await rooms.access.require(request, action.verb, job["namespace"])
    action.check(job)
    if action.sets is None:
        repeatable(job["name"], found.first)
    return rooms.render.page(request, "ask.html", action=action, job=job, key=new_key())


async def act(rooms: Rooms, request: Request) -> Response:
    """Do it."""
    found = await story(rooms, request, request.path_params["job_id"])
    action = _action(request)
    job_id = await rooms.actions.do(request, action, found.row, found.first, await read_form(request))
    return rooms.render.done(request, f"/jobs/{job_id}", {"jobId": job_id, "action": action.name})


def _action(request: Request) -> Action:
    """The action in the request's path. Raises `Problem`."""
    action = ACTIONS.get(request.path_params["action"])
    if action is None:
        raise Problem(404, "No such action", f"a job can be asked to {', '.join(ACTIONS)}")
    return action
