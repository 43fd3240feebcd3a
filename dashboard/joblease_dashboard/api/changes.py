"""What programs do to one job: `POST /api/requests/{jobId}/cancel` and the like, and `PATCH /api/requests/{jobId}`."""

from typing import TYPE_CHECKING

from joblease.states import Kind, State
from starlette.responses import JSONResponse, Response

from joblease_dashboard.api.documents import read_body
from joblease_dashboard.api.models import Again, Changes
from joblease_dashboard.api.parameters import check_known
from joblease_dashboard.api.present import NAMED, find
from joblease_dashboard.problems import Problem

if TYPE_CHECKING:
    from starlette.requests import Request

    from joblease_dashboard.actions.kinds import Action
    from joblease_dashboard.api.sources import Sources


async def act(action: "Action", sources: "Sources", request: "Request") -> Response:
    """Cancel, suspend, resume or retry a job."""
    check_known(request, NAMED)
    said = Again() if action.sets else await read_body(Again, request)
    found = await find(sources, request)
    await sources.access.require(request, action.verb, found.row["namespace"])
    action.check(found.row)
    if action.sets is None:
        seed = f"{found.row['jobId']} {said.submission_id}" if said.submission_id else ""
        made = await sources.actions.retry(request, found.row, found.first, seed)
        return JSONResponse(made.fields(), headers={"Location": f"/api/requests/{made.job_id}"})
    await sources.actions.change(request, action.name, found.row, action.sets)
    return JSONResponse({"jobId": found.row["jobId"]})


async def patch(sources: "Sources", request: "Request") -> Response:
    """Change the priority of a job that does not run, or when it is deleted."""
    check_known(request, NAMED)
    sets = (await read_body(Changes, request)).fields()
    row = (await find(sources, request)).row
    await sources.access.require(request, "patch", row["namespace"])
    if "priority" in sets and State(row["state"]).kind is not Kind.WAITING:
        raise Problem(409, "Too late", f"job {row['name']} is {row['state']}: its priority has no meaning any more")
    await sources.actions.change(request, "patch", row, sets)
    return JSONResponse({"jobId": row["jobId"]})
