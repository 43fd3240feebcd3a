"""The broker's queues, and the dead letters."""

from starlette.requests import Request
from starlette.responses import Response

from joblease_dashboard.actions import deadletters
from joblease_dashboard.live.queues import depths
from joblease_dashboard.pages.page import Rooms


async def queues(rooms: Rooms, request: Request) -> Response:
    """The queues. Needs the right to list jobs of all namespaces."""
    await rooms.access.require(request, "list", "")
    pools = {"default"} | rooms.workers.queues() | rooms.board.queues()
    return rooms.render.page(
        request, "queues.html",
        queues=await depths(rooms.broker, rooms.workers, pools, rooms.defer_seconds),
        letters=await deadletters.look(rooms.broker), shown=deadletters.MAX_SHOWN,
        may_replay=await rooms.access.allows(request, "patch", ""),
    )  # fmt: skip
