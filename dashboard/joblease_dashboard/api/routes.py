"""What the API serves, and who answers. `openapi` describes each; the dashboard's pages ask in the same way."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from joblease_dashboard.api.events import events
from joblease_dashboard.api.jobs import job, jobs
from joblease_dashboard.api.sources import Sources
from joblease_dashboard.api.statistics import statistics
from joblease_dashboard.api.stream import stream

ROUTES: dict[str, Callable[[Sources, Request], Awaitable[Response]]] = {
    "/api/events": events,
    "/api/jobs": events,
    "/api/jobs/{job_id}": job,
    "/api/requests": jobs,
    "/api/stats": statistics,
    "/api/stream": stream,
}
