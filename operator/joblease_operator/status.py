"""The status of a `JobRequest`: made from what is known about the job, and read again after a restart."""

from datetime import datetime
from typing import Any

from joblease.head import Head
from joblease.jobrequest import MAX_MESSAGE
from joblease.messages import rfc3339
from joblease.states import State

from joblease_operator.job import Body, Job

TROUBLE = "the operator tries again after: "
"""Begins what a status says as long as the operator is not through with what it says besides."""
GIVEN_UP = "the operator gave up after: "
_NOT_WRITTEN = "the API server refused what this status would say; the audit trail has it"


def status_of(job: Job, waiting: tuple[State, str] | None) -> Body:
    """The status to be written. `waiting` is why the job has not started, where that is known."""
    reason, message = reason_of(job, waiting)
    if job.trouble:
        message = f"{message}; {job.trouble}" if message else job.trouble
    message = message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…"
    status = {
        "jobId": job.uid if job.state else None,
        "observedGeneration": job.generation,
        "attempt": job.attempt,
        "worker": job.worker,
        "startedAt": rfc3339(job.started_at) if job.started_at else None,
        "completedAt": rfc3339(job.completed_at) if job.completed_at else None,
        "nextAttemptAt": rfc3339(job.next_attempt_at) if job.next_attempt_at else None,
        "progress": job.progress,
        "policy": job.policy.shown() if job.policy and job.state is not State.SUBMITTED else None,
        "message": message,
        "result": job.result,
        "conditions": _conditions(job, reason, message),
    }
    return {name: value for name, value in status.items() if value is not None}


def _conditions(job: Job, reason: State, message: str) -> list[Body]:
    return [
        {"type": kind, "status": status, "reason": reason.value, "message": text, "observedGeneration": job.generation}
        for kind, status, text in (("Succeeded", reason.succeeded, message), ("Finished", reason.finished, ""))
    ]


def reason_of(job: Job, waiting: tuple[State, str] | None) -> tuple[State, str]:
    """Where a job is, in the word that people see, and what is to be said about it."""
    if job.unsupported and job.spec is None and job.state in (None, State.SUBMITTED, State.RETRYING):
        return State.UNSUPPORTED, f"this operator cannot read the JobRequest: {job.unsupported}"
    if job.state is None and job.message:  # a duplicate, of a job that goes on
        return State.QUEUED, job.message
    if job.state is None or job.state is State.SUBMITTED:
        return waiting or (State.QUEUED, "admitted, about to be published")
    if job.state in (State.QUEUED, State.INTERRUPTED):
        return waiting or (State.QUEUED, job.message)
    if job.state is State.RETRYING and waiting and waiting[0] is not State.SCHEDULED:  # or its time has come
        return waiting
    return job.state, job.message


def following(status: Body, generation: int) -> Body:
    """The status of an ended job, brought up to a new generation of its resource; without an operator's trouble."""
    conditions = [
        {**each, "message": _without_trouble(each["message"]), "observedGeneration": generation}
        for each in status.get("conditions") or []
    ]
    message = _without_trouble(status.get("message", ""))
    return {**status, "message": message, "observedGeneration": generation, "conditions": conditions}


def _without_trouble(message: str) -> str:
    return message.partition(TROUBLE)[0].removesuffix("; ")


def safe(status: Body) -> Body:
    """What is left of a status that the API server refuses: nothing that a handler has given."""
    conditions = [{**each, "message": _NOT_WRITTEN} for each in status["conditions"]]
    kept = {name: value for name, value in status.items() if name not in ("result", "worker", "progress")}
    return {**kept, "message": _NOT_WRITTEN, "conditions": conditions}


def outcome(status: Body) -> tuple[State, datetime] | None:
    """The outcome that a status tells, and since when; None when it tells none, or the operator was not through."""
    condition, finished = _condition(status, "Succeeded"), _condition(status, "Finished")
    if not condition or TROUBLE in condition["message"]:
        return None
    if condition["status"] == "Unknown" and not (finished and finished["status"] == "True"):
        return None
    ended = datetime.fromisoformat(status.get("completedAt") or condition["lastTransitionTime"])
    return State(condition["reason"]), ended


def unfinished(status: Body) -> bool:
    """Whether it tells an outcome of which not everybody had been told: its writer died before it was through."""
    condition, finished = _condition(status, "Succeeded"), _condition(status, "Finished")
    return bool(condition and finished and finished["status"] == "True" and TROUBLE in condition["message"])


def tells(status: Body, head: Head) -> bool:
    """Whether a status was written after everybody had been told of all that the operator has written for this head."""
    condition = _condition(status, "Succeeded")
    if not condition or TROUBLE in condition["message"]:
        return False
    if head.state is State.SUBMITTED:
        return True
    attempt: int = status.get("attempt", 0)
    return condition["reason"] == head.state.value and attempt == head.attempt


def stamp(status: Body, before: Body, moment: datetime) -> Body:
    """The status with each condition's transition time: kept from `before` while the condition's status stays."""
    known = {each["type"]: each for each in before.get("conditions") or []}
    conditions = []
    for condition in status["conditions"]:
        old = known.get(condition["type"], {})
        since = old.get("lastTransitionTime") if old.get("status") == condition["status"] else None
        conditions.append({**condition, "lastTransitionTime": since or f"{moment:%Y-%m-%dT%H:%M:%SZ}"})
    return {**status, "conditions": conditions}


def without_times(status: Body) -> Body:
    """A status as it can be compared: without transition times."""
    plain = dict(status)
    plain["conditions"] = [
        {name: value for name, value in each.items() if name != "lastTransitionTime"}
        for each in status.get("conditions") or []
    ]
    return plain


def _condition(status: Body, kind: str) -> dict[str, Any] | None:
    return next((each for each in status.get("conditions") or [] if each["type"] == kind), None)
