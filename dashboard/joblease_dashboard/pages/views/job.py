"""The page of a job: how it stands, what happened to it, and what can be done."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from joblease.messages import JobEvent
from joblease.states import Kind, State
from starlette.requests import Request
from starlette.responses import Response

from joblease_dashboard.actions.kinds import ACTIONS
from joblease_dashboard.actions.submission import submitted
from joblease_dashboard.api.history import LAST, story
from joblease_dashboard.api.parameters import whole
from joblease_dashboard.live.why import Why
from joblease_dashboard.pages.page import Rooms
from joblease_dashboard.pages.timeline import timeline
from joblease_dashboard.read_model.rows import Row

SIBLINGS = 20


async def job(rooms: Rooms, request: Request) -> Response:
    """One job, with the last rows of its history, or with those before a certain one."""
    before = whole(request, "before", 0)
    found = await story(rooms, request, request.path_params["job_id"])
    head, row, shown = found.head, found.row, found.last
    if before:
        shown = await rooms.trail.stretch(head, max(before - 1 - LAST, 0), max(before - 1, 0))
    state, namespace = State(row["state"]), row["namespace"]
    spec = submitted(found.first)
    resource = await rooms.actions.resource(request, row) if state.kind is Kind.WAITING else None
    suspended = bool(resource["spec"].get("suspend")) if resource else None
    may = {
        verb: rooms.access.can_act and await rooms.access.allows(request, verb, namespace)
        for verb in ("create", "patch")
    }
    copies = {"handler", "parameters"} <= set(spec)
    siblings = rooms.board.siblings(row)
    return rooms.render.page(
        request, "job.html", job=row, events=shown[::-1], event_count=head.sequence, epoch=head.epoch,
        older=shown[0].sequence if shown and shown[0].sequence > 1 else None, newest=not before,
        submitted=spec, policy=head.policy if state.admitted or state.terminal or state is State.RETRYING else None,
        last=_last_words(found.last), checkpoint=json.loads(head.checkpoint) if head.checkpoint else None,
        why=await _why(rooms, request, row, resource) if state.kind is Kind.WAITING else None,
        lease=_lease(rooms, row) if state is State.RUNNING else None,
        claim=head.claim_blob if state is State.RUNNING else None,
        actions=[
            each
            for each in ACTIONS.values()
            if each.fits(state, suspended=suspended) and may[each.verb] and (copies or each.sets is not None)
        ],
        may_copy=may["create"] and copies, timeline=timeline(found.last, _begun(row)),
        record=await rooms.actions.record.of(row["jobId"]),
        siblings=siblings[:SIBLINGS], sibling_count=len(siblings),
    )  # fmt: skip


def _begun(row: Row) -> datetime | None:
    """When the last run began."""
    return datetime.fromisoformat(row["runStartedAt"]) if row.get("runStartedAt") else None


async def _why(rooms: Rooms, request: Request, row: Row, resource: Mapping[str, Any] | None) -> Why:
    """Why it waits, as far as the events, the resource and the operator tell."""
    if resource and resource["spec"].get("suspend"):
        return Why("it is suspended, and waits until somebody resumes it")
    reasons = rooms.board.reasons(everything=await rooms.access.allows(request, "list", ""))
    why = reasons.why(rooms.board.get(row["jobId"]) or row)
    if resource and why.guessed:
        conditions = (resource.get("status") or {}).get("conditions") or []
        said = next((each["message"] for each in conditions if each["type"] == "Succeeded"), "")
        return Why(said) if said else why
    return why


def _lease(rooms: Rooms, row: Row) -> dict[str, Any]:
    """Who holds the job's lease, and until when if they do not renew it any more, as they report themselves."""
    worker = rooms.workers.get(row.get("worker", ""))
    if worker is None or row["jobId"] not in worker.report.jobs:
        return {"holder": row.get("worker", ""), "expires": None}
    return {"holder": worker.report.worker, "expires": worker.lease_expires, "renewed": worker.alive}


def _last_words(events: list[JobEvent]) -> dict[str, Any]:
    """Result, error and traceback of the last attempt, if there are any."""
    for event in reversed(events):
        if event.data and {"result", "error"} & set(event.data):
            return event.data
        if event.status == "Started":
            break
    return {}
