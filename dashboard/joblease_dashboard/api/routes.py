"""What the API serves, and who answers. `openapi` describes each; the dashboard's pages ask in the same way."""

from collections.abc import Awaitable, Callable
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from joblease_dashboard.actions.bulk import PATCH
from joblease_dashboard.actions.kinds import ACTIONS
from joblease_dashboard.api import changes, installation, selected, submissions
from joblease_dashboard.api.events import events
from joblease_dashboard.api.jobs import job, jobs
from joblease_dashboard.api.present import present
from joblease_dashboard.api.sources import Sources
from joblease_dashboard.api.statistics import statistics
from joblease_dashboard.api.stream import stream

Answer = Callable[[Sources, Request], Awaitable[Response]]
ROUTES: dict[str, dict[str, Answer]] = {
    "/api/events": {"GET": events},
    "/api/jobs": {"GET": events},
    "/api/jobs/{job_id}": {"GET": job},
    "/api/requests": {"GET": jobs, "POST": submissions.submit},
    "/api/requests:batch": {"POST": submissions.batch},
    **{f"/api/requests:{name}": {"POST": partial(selected.act, name)} for name in (*ACTIONS, PATCH)},
    "/api/requests/{job_id}": {"GET": present, "PATCH": changes.patch},
    **{f"/api/requests/{{job_id}}/{name}": {"POST": partial(changes.act, each)} for name, each in ACTIONS.items()},
    "/api/workers": {"GET": installation.workers},
    "/api/queues": {"GET": installation.queues},
    "/api/dead-letters": {"GET": installation.dead_letters},
    "/api/stats": {"GET": statistics},
    "/api/stream": {"GET": stream},
}
"""Who answers what, by path and method."""


async def answer(answers: dict[str, Answer], sources: Sources, request: Request) -> Response:
    """The answer of whoever is meant."""
    return await answers.get(request.method, answers.get("GET", next(iter(answers.values()))))(sources, request)
