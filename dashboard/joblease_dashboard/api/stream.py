"""`GET /api/stream`: events as they happen."""

from typing import TYPE_CHECKING

from starlette.responses import Response, StreamingResponse

from joblease_dashboard.access.identity import identity
from joblease_dashboard.api.parameters import check_known
from joblease_dashboard.live.streams import NotReady, TooManyStreams
from joblease_dashboard.problems import Problem

if TYPE_CHECKING:
    from starlette.requests import Request

    from joblease_dashboard.api.sources import Sources

MEDIA_TYPE = "text/event-stream"
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


async def stream(sources: "Sources", request: "Request") -> Response:
    """Server-sent events, of one job or namespace or all."""
    check_known(request, ("jobId", "namespace", "lastEventId"))
    last_id = request.headers.get("last-event-id") or request.query_params.get("lastEventId")
    job_id, namespace = (request.query_params.get(name) or None for name in ("jobId", "namespace"))
    await sources.access.require(request, "watch", namespace or "")
    if request.method == "HEAD":  # nothing follows: whoever waited for an end of that would wait for ever
        return StreamingResponse(iter(()), media_type=MEDIA_TYPE, headers=HEADERS)
    access = sources.access
    person = access.address(request) if access.mode == "none" else identity(request).user

    async def may() -> bool:
        return await access.still_allows(request, "watch", namespace or "")

    try:
        frames = await sources.streams.open(person, may, last_id, job_id, namespace)
    except TooManyStreams as error:
        if error.own:
            raise Problem(429, "Too many streams", "you have as many live streams as one person may have") from None
        raise Problem(503, "Too many streams", "all live streams are taken; try again later") from None
    except NotReady:
        raise Problem(503, "Not ready", "the log of events was not read yet; try again in a moment") from None
    return StreamingResponse(frames, media_type=MEDIA_TYPE, headers=HEADERS)
