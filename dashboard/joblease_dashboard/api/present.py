"""`GET /api/requests/{jobId}`: how a job stands, and what came of it.

A job that the operator has not noticed yet has no trail. Whoever names it (`namespace`, `name`) is answered from its
resource, so that whoever has submitted a job always finds it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from joblease.messages import Status
from joblease.states import Kind, State
from starlette.responses import JSONResponse, Response

from joblease_dashboard.actions.submission import check_names
from joblease_dashboard.api.history import story
from joblease_dashboard.api.parameters import check_known
from joblease_dashboard.problems import Problem

if TYPE_CHECKING:
    from joblease.messages import JobEvent
    from starlette.requests import Request

    from joblease_dashboard.api.sources import Sources
    from joblease_dashboard.read_model.rows import Row

NAMED = ("namespace", "name")


@dataclass(frozen=True, slots=True)
class Found:
    """A job."""

    row: "Row"
    first: "list[JobEvent]"
    """How it began."""
    last: "list[JobEvent]"
    """How it went on to now; nothing when its trail has not begun."""


async def present(sources: "Sources", request: "Request") -> Response:
    """The job with its result or its error."""
    check_known(request, NAMED)
    found = await find(sources, request)
    answer: dict[str, Any] = {"job": found.row}
    state = State(found.row["state"])
    if state.terminal and found.last:
        event = found.last[-1]
        data = event.data or {}
        if state.kind is Kind.COMPLETED:
            answer |= {"result": data["result"]} if "result" in data else {}
        else:
            answer["error"] = str(data.get("error") or event.message)
    return JSONResponse(answer, headers={"Cache-Control": "no-store"})


async def find(sources: "Sources", request: "Request") -> Found:
    """The job in a request's path. Raises `Problem` when there is none, or none for this person."""
    job_id: str = request.path_params["job_id"]
    namespace, name = (request.query_params.get(each, "") for each in NAMED)
    try:
        found = await story(sources, request, job_id)
    except Problem as problem:
        if problem.status != 404 or not namespace or not name:
            raise
        check_names(namespace, name)
        row = await _resource(sources, request, {"jobId": job_id, "namespace": namespace, "name": name})
        if row is None:
            raise
        return Found(row, [], [])
    return Found(found.row, found.first, found.last)


async def _resource(sources: "Sources", request: "Request", named: "Row") -> "Row | None":
    """The row of a job that has only a resource."""
    found = await sources.actions.resource(request, named)
    if found is None:
        return None
    spec, created = found["spec"], found["metadata"]["creationTimestamp"]
    return {
        **named, "handler": spec["handler"], "queue": spec.get("queue", ""),
        "group": (spec.get("concurrency") or {}).get("group", ""), "submittedAt": created, "updatedAt": created,
        "sequence": 0, "status": Status.SUBMITTED, "state": State.SUBMITTED, "attempt": 0,
        "message": "the operator has not noticed it yet",
    }  # fmt: skip
