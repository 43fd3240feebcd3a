"""The overview: what happens now, and how it went lately."""

from starlette.requests import Request
from starlette.responses import Response

from joblease_dashboard.api.parameters import check_known, window_of, without_empty
from joblease_dashboard.pages.page import Rooms
from joblease_dashboard.read_model.statistics import WINDOWS

SHOWN = 100
"""Rows of each list."""
SHOWN_FAILED = 20


async def overview(rooms: Rooms, request: Request) -> Response:
    """Charts of a window, and what runs, waits and failed."""
    request = without_empty(request)
    check_known(request, ("namespace", "window"))
    namespace = request.query_params.get("namespace", "")
    await rooms.access.require(request, "list", namespace)
    window = window_of(request.query_params)
    board = rooms.board
    counts_all = await rooms.access.allows(request, "list", "")
    running, waiting, reasons = board.running(namespace), board.waiting(namespace), board.reasons(everything=counts_all)
    return rooms.render.page(
        request, "overview.html",
        running=running[:SHOWN], running_count=len(running),
        waiting=[(row, reasons.why(row)) for row in waiting[:SHOWN]], waiting_count=len(waiting),
        failed=board.failed(namespace)[:SHOWN_FAILED],
        workers=[each for each in rooms.workers.all() if each.state == "serving"] if counts_all else None,
        namespace=namespace, window=window, windows=list(WINDOWS),
        picture=await rooms.charts.read(window) if counts_all else None,
        restored=board.restored, overflowed=board.overflowed,
    )  # fmt: skip
