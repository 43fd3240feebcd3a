"""`GET /api/stats`: jobs that ended, and how long they waited and ran, over a window."""

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

from joblease_dashboard.api.parameters import check_known, window_of
from joblease_dashboard.read_model.statistics import totals

if TYPE_CHECKING:
    from starlette.requests import Request

    from joblease_dashboard.api.sources import Sources


async def statistics(sources: "Sources", request: "Request") -> Response:
    """The window's points and totals."""
    check_known(request, ("window",))
    await sources.access.require(request, "list", "")
    window = window_of(request.query_params)
    points = await sources.statistics.read(window)
    return JSONResponse({"window": window, **totals(points), "points": points})
