"""What people did to jobs."""

from starlette.requests import Request
from starlette.responses import Response

from joblease_dashboard.api.parameters import bad, check_known, filters, page_size, without_empty
from joblease_dashboard.pages.page import Rooms
from joblease_dashboard.read_model.tokens import BadToken

PAGE_SIZE = 50


async def actions(rooms: Rooms, request: Request) -> Response:
    """The record of a namespace or of all, the last first."""
    asked = without_empty(request)
    values = asked.query_params
    check_known(asked, ("namespace", "page_size", "page_token", "from", "to"))
    await rooms.access.require(request, "list", values.get("namespace", ""))
    try:
        page = await rooms.actions.record.all.page(
            page_size(values, PAGE_SIZE), values.get("page_token"), filters(values)
        )
    except BadToken as error:
        raise bad("page_token", str(error)) from None
    return rooms.render.listed(request, "actions.html", page.token, actions=page.rows)
