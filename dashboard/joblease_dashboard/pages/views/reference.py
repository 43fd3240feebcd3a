"""The API's description, to be read."""

from starlette.requests import Request
from starlette.responses import Response

from joblease_dashboard.access.identity import encrypted
from joblease_dashboard.api.outline import operations, schemas
from joblease_dashboard.pages.page import Rooms


async def reference(rooms: Rooms, request: Request) -> Response:
    """Every operation with its parameters, bodies and answers, and how to ask for it."""
    host = f"{'https' if encrypted(request) else 'http'}://{request.headers.get('host', '')}"
    return rooms.render.page(
        request, "reference.html", operations=operations(), schemas=schemas(), host=host, mode=rooms.access.mode
    )
