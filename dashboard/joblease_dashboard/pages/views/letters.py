"""The dead letters. They are looked at when somebody asks for this page, and not again by itself."""

from starlette.requests import Request
from starlette.responses import Response

from joblease_dashboard.actions import deadletters
from joblease_dashboard.pages.page import Rooms


async def letters(rooms: Rooms, request: Request) -> Response:
    """The oldest of them. Needs the right to list jobs of all namespaces."""
    await rooms.access.require(request, "list", "")
    return rooms.render.page(
        request, "letters.html", letters=await deadletters.look(rooms.broker), shown=deadletters.MAX_SHOWN,
        may_replay=await rooms.access.allows(request, "patch", ""),
    )  # fmt: skip
