"""The broker's queues."""

from joblease.topology import DEAD
from starlette.requests import Request
from starlette.responses import Response

from joblease_dashboard.live.queues import depths
from joblease_dashboard.pages.page import Rooms


async def queues(rooms: Rooms, request: Request) -> Response:
    """The queues. Needs the right to list jobs of all namespaces."""
    await rooms.access.require(request, "list", "")
    rows = await depths(rooms.broker, rooms.workers, rooms.board, rooms.defer_seconds)
    return rooms.render.page(request, "queues.html", queues=rows, dead=DEAD)
