"""`POST /api/requests:cancel` and the like: the same done to all jobs that a selector selects."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

from joblease_dashboard.actions.bulk import PATCH, Selection
from joblease_dashboard.api.documents import read_body
from joblease_dashboard.api.models import Selected, SelectedChanges
from joblease_dashboard.api.parameters import check_known

if TYPE_CHECKING:
    from starlette.requests import Request

    from joblease_dashboard.api.sources import Sources


async def act(action: str, sources: "Sources", request: "Request") -> Response:
    """Do it to all of them, or say how many there are."""
    check_known(request, ())
    asked = await read_body(SelectedChanges if action == PATCH else Selected, request)
    chosen = asked.selector
    selection = Selection(chosen.namespace, chosen.handler or "", chosen.labels or "", chosen.state or "")
    sets = asked.set.fields() if isinstance(asked, SelectedChanges) else {}
    done = await sources.bulk.do(request, action, selection, sets, dry_run=asked.dry_run)
    return JSONResponse(asdict(done))
