"""What the pages of the same names show: `GET /api/workers`, `/api/queues` and `/api/dead-letters`.

Each is of all namespaces, and needs the right to list jobs there.
"""

from typing import TYPE_CHECKING, Any

from joblease.messages import rfc3339
from starlette.responses import JSONResponse, Response

from joblease_dashboard.actions import deadletters
from joblease_dashboard.api.parameters import check_known
from joblease_dashboard.live.queues import depths

if TYPE_CHECKING:
    from starlette.requests import Request

    from joblease_dashboard.api.sources import Sources
    from joblease_dashboard.live.workers import Worker


async def workers(sources: "Sources", request: "Request") -> Response:
    """The workers, as they were heard of last."""
    await _check(sources, request)
    return JSONResponse({"workers": [_worker(each) for each in sources.workers.all()]})


async def queues(sources: "Sources", request: "Request") -> Response:
    """The broker's queues."""
    await _check(sources, request)
    rows = await depths(sources.broker, sources.workers, sources.board, sources.defer_seconds)
    return JSONResponse({"queues": rows})


async def dead_letters(sources: "Sources", request: "Request") -> Response:
    """The oldest dead letters."""
    await _check(sources, request)
    found = [
        {
            "id": each.id, "reason": each.reason, "queue": each.queue, "jobId": each.job_id, "name": each.name,
            "runs": each.is_job, "body": each.body,
        }
        for each in await deadletters.look(sources.broker)
    ]  # fmt: skip
    return JSONResponse({"deadLetters": found})


async def _check(sources: "Sources", request: "Request") -> None:
    check_known(request, ())
    await sources.access.require(request, "list", "")


def _worker(worker: "Worker") -> dict[str, Any]:
    report = worker.report
    return {
        "worker": report.worker, "state": worker.state, "queue": report.queue, "concurrency": report.concurrency,
        "jobs": report.jobs, "seenAt": rfc3339(worker.seen), "startedAt": rfc3339(report.started_at),
        "release": report.release,
        "handlers": [each.model_dump(mode="json", by_alias=True) for each in report.handlers],
    }  # fmt: skip
