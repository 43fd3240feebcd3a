"""The workers, and what each runs."""

from starlette.requests import Request
from starlette.responses import Response

from joblease_dashboard.pages.page import Rooms


async def workers(rooms: Rooms, request: Request) -> Response:
    """The workers. Needs the right to list jobs of all namespaces."""
    await rooms.access.require(request, "list", "")
    found = rooms.workers.all()
    rows = [(each, [(id_, rooms.board.get(id_)) for id_ in each.report.jobs]) for each in found]
    living = [each.report for each in found if each.alive]
    return rooms.render.page(
        request, "workers.html", workers=rows, living=len(living),
        busy=sum(len(report.jobs) for report in living), room=sum(report.concurrency for report in living),
    )  # fmt: skip
