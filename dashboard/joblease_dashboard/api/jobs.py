"""The audit API: recent events, jobs, and the whole history of one; and the live stream."""

import re
from typing import TYPE_CHECKING, Any

from joblease.trail import AuditTrail, UnknownJob
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from joblease_dashboard.access.access import Access
from joblease_dashboard.api.parameters import COMMON, bad, check_known, filters, page_size
from joblease_dashboard.live.streams import Streams, TooManyStreams
from joblease_dashboard.problems import Problem
from joblease_dashboard.read_model.queries import Page, TimeTable
from joblease_dashboard.read_model.rows import Row, fields, job_row
from joblease_dashboard.read_model.statistics import WINDOWS, Stats, totals
from joblease_dashboard.read_model.tokens import BadToken

if TYPE_CHECKING:
    from joblease.messages import JobEvent

EVENTS_PAGE = 200
JOBS_PAGE = 50
JOB_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


class Api:
    """Answers of `/api`."""

    def __init__(
        self, access: Access, trail: AuditTrail, index: TimeTable, feed: TimeTable, live: Streams, stats: Stats
    ) -> None:
        self._access = access
        self._stats = stats
        self._trail = trail
        self._index = index
        self._feed = feed
        self._live = live

    async def events(self, request: Request) -> Response:
        """`GET /api/jobs`: the last events of all jobs."""
        page = await self.event_page(request)
        return _answer("events", [fields(row) for row in page.rows], page.token)

    async def jobs(self, request: Request) -> Response:
        """`GET /api/requests`: jobs with their present state."""
        page = await self.job_page(request)
        return _answer("jobs", [fields(row) for row in page.rows], page.token)

    async def job(self, request: Request) -> Response:
        """`GET /api/jobs/{jobId}`: a job and its complete history."""
        check_known(request, ())
        row, events = await self.history(request)
        return JSONResponse({"job": row, "events": [event_json(event) for event in events]})

    async def stream(self, request: Request) -> Response:
        """`GET /api/stream`: events as they happen."""
        check_known(request, ("jobId", "namespace", "lastEventId"))
        last_id = request.headers.get("last-event-id") or request.query_params.get("lastEventId")
        job_id, namespace = (request.query_params.get(name) or None for name in ("jobId", "namespace"))
        await self._access.require(request, "watch", namespace or "")
        try:
            stream = await self._live.open(last_id, job_id, namespace)
        except TooManyStreams:
            raise Problem(503, "Too many streams", "all live streams are taken; try again later") from None
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(stream, media_type="text/event-stream", headers=headers)

    async def event_page(self, request: Request) -> Page:
        """The page of events that a request asks for."""
        check_known(request, (*COMMON, "status"))
        await self._access.require(request, "list", request.query_params.get("namespace", ""))
        return await _page(self._feed, request, EVENTS_PAGE)

    async def job_page(self, request: Request) -> Page:
        """The page of jobs that a request asks for."""
        check_known(request, (*COMMON, "state"))
        await self._access.require(request, "list", request.query_params.get("namespace", ""))
        return await _page(self._index, request, JOBS_PAGE)

    async def statistics(self, request: Request) -> Response:
        """`GET /api/stats`: jobs that ended, and how long they waited and ran, over a window."""
        check_known(request, ("window",))
        await self._access.require(request, "list", "")
        window = request.query_params.get("window", "1h")
        if window not in WINDOWS:
            raise bad("window", f"one of {', '.join(WINDOWS)} is expected, not {window!r}")
        points = await self._stats.read(window)
        return JSONResponse({"window": window, **totals(points), "points": points})

    async def history(self, request: Request) -> "tuple[Row, list[JobEvent]]":
        """Row and events of the job in the request's path. Raises `Problem`."""
        return await self.history_of(request, request.path_params["job_id"])

    async def history_of(self, request: Request, job_id: str) -> "tuple[Row, list[JobEvent]]":
        """A job's row and events. Raises `Problem` when there is no such job, or none that the user may see."""
        try:
            if not JOB_ID.fullmatch(job_id):
                raise UnknownJob(job_id)
            events = await self._trail.history(job_id)
            if not await self._access.allows(request, "get", events[0].namespace):
                raise UnknownJob(job_id)
        except UnknownJob:
            raise Problem(404, "No such job", f"there is no job {job_id!r} in the audit trail", jobId=job_id) from None
        return fields(job_row(events) or {}), events


async def _page(table: TimeTable, request: Request, default_size: int) -> Page:
    values = request.query_params
    try:
        return await table.page(
            page_size(values, default_size), values.get("page_token") or None, filters(values, "state")
        )
    except BadToken as error:
        raise Problem(400, "Bad parameter", f"page_token: {error}", parameter="page_token") from None


def _answer(name: str, rows: list[Row], token: str | None) -> Response:
    content: dict[str, Any] = {name: rows}
    if token:
        content["nextPageToken"] = token
    return JSONResponse(content, headers={"Cache-Control": "no-store"})


def event_json(event: "JobEvent") -> Row:
    """An event of a history, with its data."""
    found: Row = event.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"version"})
    return found
