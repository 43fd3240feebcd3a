"""The leases that are held."""

from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from joblease_dashboard.api.parameters import bad
from joblease_dashboard.live.locks import held
from joblease_dashboard.pages.page import Rooms
from joblease_dashboard.read_model.tokens import BadToken


async def locks(rooms: Rooms, request: Request) -> Response:
    """The leases that are held. Needs the right to list jobs of all namespaces."""
    await rooms.access.require(request, "list", "")
    token = request.query_params.get("page_token")
    try:
        rows, following = await held(rooms.locks, rooms.workers, token)
    except BadToken as error:
        raise bad("page_token", str(error)) from None
    for row in rows:
        row["job"] = job = rooms.board.get(row["jobId"])
        row["since"] = (job or {}).get("runStartedAt") or row["since"]
    more = "/locks?" + urlencode({"page_token": following}) if following else None
    return rooms.render.page(request, "locks.html", locks=rows, more=more, first=not token)
