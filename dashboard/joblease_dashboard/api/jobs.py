"""Jobs: `GET /api/requests` lists them with their present state, `GET /api/jobs/{jobId}` tells the history of one."""

import re
from typing import TYPE_CHECKING

from joblease.trail import UnknownJob
from starlette.responses import JSONResponse, Response

from joblease_dashboard.api.lists import answer, read_page
from joblease_dashboard.api.parameters import check_known
from joblease_dashboard.problems import Problem
from joblease_dashboard.read_model.rows import Row, event_fields, fields, job_row

if TYPE_CHECKING:
    from joblease.messages import JobEvent
    from starlette.requests import Request

    from joblease_dashboard.api.sources import Sources
    from joblease_dashboard.read_model.queries import Page

PAGE_SIZE = 50
JOB_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


async def jobs(sources: "Sources", request: "Request") -> Response:
    """Jobs with their present state."""
    return answer("jobs", await job_page(sources, request))


async def job_page(sources: "Sources", request: "Request") -> "Page":
    """The page of jobs that a request asks for. Raises `Problem`."""
    return await read_page(sources.access, sources.jobs, request, PAGE_SIZE, "state")


async def job(sources: "Sources", request: "Request") -> Response:
    """A job and its complete history."""
    check_known(request, ())
    row, events = await history(sources, request, request.path_params["job_id"])
    return JSONResponse({"job": row, "events": [event_fields(event) for event in events]})


async def history(sources: "Sources", request: "Request", job_id: str) -> "tuple[Row, list[JobEvent]]":
    """A job's row and events. Raises `Problem` when there is no such job, or none that the user may see."""
    try:
        if not JOB_ID.fullmatch(job_id):
            raise UnknownJob(job_id)
        events = await sources.trail.history(job_id)
        if not await sources.access.allows(request, "get", events[0].namespace):
            raise UnknownJob(job_id)
    except UnknownJob:
        raise Problem(404, "No such job", f"there is no job {job_id!r} in the audit trail", jobId=job_id) from None
    return fields(job_row(events) or {}), events
