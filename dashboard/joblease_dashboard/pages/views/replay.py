"""The page that asks before dead letters are sent back, and sends them."""

from starlette.requests import Request
from starlette.responses import Response

from joblease_dashboard.actions import deadletters
from joblease_dashboard.actions.forms import read_form
from joblease_dashboard.pages.page import Rooms
from joblease_dashboard.problems import Problem, wants_page


async def show(rooms: Rooms, request: Request) -> Response:
    """Ask: about one message, or about all that can be read."""
    await rooms.access.require(request, "patch", "")
    wanted = request.query_params.get("message", "")
    letters = await deadletters.look(rooms.broker)
    found = [each for each in letters if each.queue and wanted in ("", each.id)]
    if not found:
        raise Problem(404, "Nothing to replay", "it is not in joblease.dead any more, or it cannot be read")
    return rooms.render.page(request, "ask_replay.html", wanted=wanted, letters=found)


async def replay(rooms: Rooms, request: Request) -> Response:
    """Send them back."""
    form = await read_form(request)
    done = await rooms.actions.replay(request, form.get("message") or None)
    if done.ended and wants_page(request):
        return rooms.render.page(request, "replayed.html", sent=done.sent, ended=done.ended)
    return rooms.render.done(request, "/queues/letters", {"replayed": len(done.sent), "ended": done.ended_jobs()})
