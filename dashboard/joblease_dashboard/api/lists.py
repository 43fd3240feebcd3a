"""Lists in pages: what a request asks for, and the answer in JSON."""

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from joblease_dashboard.api.parameters import COMMON, bad, check_known, filters, page_size
from joblease_dashboard.read_model.rows import fields
from joblease_dashboard.read_model.tokens import BadToken

if TYPE_CHECKING:
    from starlette.requests import Request

    from joblease_dashboard.access.access import Access
    from joblease_dashboard.read_model.queries import Page, TimeTable


async def read_page(access: "Access", table: "TimeTable", request: "Request", size: int, special: str) -> "Page":
    """The page that a request asks for: of `size` unless it says so; `special` is a parameter of this list alone.

    Two storage requests. Raises `Problem`.
    """
    values = request.query_params
    check_known(request, (*COMMON, special))
    await access.require(request, "list", values.get("namespace", ""))
    try:
        return await table.page(page_size(values, size), values.get("page_token") or None, filters(values))
    except BadToken as error:
        raise bad("page_token", str(error)) from None


def answer(name: str, page: "Page") -> Response:
    """The page as JSON."""
    content: dict[str, Any] = {name: [fields(row) for row in page.rows]}
    if page.token:
        content["nextPageToken"] = page.token
    return JSONResponse(content, headers={"Cache-Control": "no-store"})
