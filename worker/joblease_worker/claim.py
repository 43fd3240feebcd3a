"""The claim of a job's head row, under the worker's session.

Sessions keep honest workers apart; the head row decides. What the head says when it is claimed tells everything that
may have happened since the message was published: the job was finished, cancelled, handed back, or its last worker
died in the middle of it.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from joblease.errors import ErrorClass, classify, log_level, pauses
from joblease.head import Head, hinted
from joblease.messages import JobEvent, JobMessage, Status, now
from joblease.policy import JobPolicy
from joblease.states import State
from joblease.trail import AuditTrail, HeadChanged, NewEvent

from joblease_worker.conflict import running
from joblease_worker.record import Fenced

if TYPE_CHECKING:
    from joblease_worker.locks import RunLeases

log = logging.getLogger(__name__)

REPEATED_EVENTS = 100
"""Of a job that somebody had before: as many as fit into a transaction, after which its worker may have died."""


class NothingToRun(Exception):
    """There is nothing to run: the message is a duplicate, or out of date."""

    def __init__(self, head: Head) -> None:
        super().__init__(f"the job is {head.state}" + (" already" if head.state.terminal else ", and not due yet"))
        self.head = head


@dataclass(frozen=True, slots=True)
class Claim:
    """The job is ours: its head after the claim, and what was written."""

    head: Head
    events: list[JobEvent]
    taken_over: bool = False
    """Somebody had the job before, and may have died before telling everybody what it had written."""


async def claim(
    trail: AuditTrail,
    message: JobMessage,
    worker: str,
    leases: "RunLeases",
    is_over: Callable[[Head], Awaitable[bool]],
) -> Claim:
    """Claim the head row: one request when the message's hint is still right.

    `is_over` says whether the claim in a head has ended for good. Raises `NothingToRun`, `Conflict`, `Fenced`.

    The returned head may be terminal: the job turned out to be cancelled, or has crashed its last worker. That its
    worker is lost is proved for the claim in the head that was read, and this one takes its place or none.
    """
    head = hinted(message)
    if head is None:
        head = await trail.head(message.job_id)
    while True:  # ends when nobody else writes: each round follows somebody's write, and only the operator may
        events, changes = _next(head, message, worker)
        taken_over = head.state in (State.RUNNING, State.INTERRUPTED)
        if head.state is State.RUNNING and not await is_over(head):
            raise running(head)
        changes |= {"worker": worker, "session": leases.session, "slot": leases.slot}
        try:
            return Claim(*await _append(trail, head, events, leases, **changes), taken_over)
        except HeadChanged as changed:
            head = changed.current
            if changed.written:
                claimed = changed.written[-1]
                if (head.state, head.epoch) != (claimed.state, claimed.epoch):
                    raise Fenced(f"the job is {head.state} at epoch {head.epoch} by now") from None
                return Claim(head, changed.written, taken_over)


async def _append(
    trail: AuditTrail, head: Head, events: list[NewEvent], leases: "RunLeases", **changes: Any
) -> tuple[Head, list[JobEvent]]:
    """As `AuditTrail.append`, until storage has said whether it was written, or the session is lost.

    A claim that went through unheard would bind the job to a worker that lives, and does not run it.
    Raises `HeadChanged`, `Fenced`, and what storage refuses for good.
    """
    moment, mark = now(), secrets.token_hex(8)  # the same for each try: one that went through is recognised
    events = [replace(event, timestamp=moment) for event in events]
    waits = pauses()
    while True:
        if leases.session_lost:
            raise Fenced("the session was lost before the answer to a write")
        try:
            return await trail.append(head, events, write=mark, **changes)
        except HeadChanged:
            raise
        except Exception as error:
            if classify(error) is not ErrorClass.TRANSIENT:
                raise
            log.log(log_level(error), "the audit trail cannot be written, trying again: %s", error)
            await asyncio.sleep(next(waits))


async def hand_back(trail: AuditTrail, claimed: Head, leases: "RunLeases", why: Exception) -> None:
    """Let others have a job whose run has ended without an ending in the trail. Raises what storage refuses for good.

    Ends with an answer of storage, or with the session, which does as well.
    """
    head = claimed
    while (head.state, head.epoch, head.session) == (State.RUNNING, claimed.epoch, leases.session):
        text = f"attempt {head.attempt} on {head.worker} was given up: {why}"[:500]
        with contextlib.suppress(Fenced):
            try:
                await _append(trail, head, [NewEvent(Status.INTERRUPTED, text)], leases, state=State.INTERRUPTED)
            except HeadChanged as changed:
                head = changed.current
                continue
        return


async def recent(trail: AuditTrail, head: Head) -> list[JobEvent]:
    """A job's last events: what others can lack of them, who may each take more from the trail.

    That is what was written after the last event that is known to have been announced, and not more than fits into a
    transaction. Of an ended job it is the outcome alone: with the events before it, it would seem to run again for
    whoever hears them.
    """
    count = 1 if head.state.terminal else REPEATED_EVENTS
    return await trail.history(head.job_id, after=max(head.announced, head.sequence - count))


def _next(head: Head, message: JobMessage, worker: str) -> tuple[list[NewEvent], dict[str, Any]]:
    """What a claim writes, given the head: events, and changes of the head."""
    if head.state.terminal or head.state in (State.SUBMITTED, State.RETRYING):  # those are published when they are due
        raise NothingToRun(head)
    if head.policy and not _agree(head.policy, message):  # it was admitted anew: there is a newer message, or comes yet
        raise NothingToRun(head)
    if head.cancel_requested:
        return [NewEvent(Status.CANCELLED, _cancelled(head))], {"state": State.CANCELLED}
    attempts = message.retry.max_attempts
    started: dict[str, Any] = {"state": State.RUNNING, "epoch": head.epoch + 1, "next_attempt_at": None}
    if head.state is State.INTERRUPTED:  # handed back by its worker
        where = "from its last checkpoint" if head.checkpoint else "from the beginning"
        text = f"attempt {head.attempt} of {attempts} on {worker}, again {where}"
        return [NewEvent(Status.STARTED, text)], started
    events = []
    if head.state is State.RUNNING:
        lost = f"attempt {head.attempt} on {head.worker} is lost: the worker died or lost its lease"
        events.append(
            NewEvent(Status.INTERRUPTED, lost, attempt=head.attempt, worker=head.worker, state=State.INTERRUPTED)
        )
        if head.attempt >= attempts:
            text = f"its worker was lost in attempt {head.attempt} of {attempts}"
            events.append(NewEvent(Status.FAILED, text, data={"reason": State.WORKER_CRASHED.value}))
            return events, {"state": State.WORKER_CRASHED}
    attempt = head.attempt + 1
    events.append(NewEvent(Status.STARTED, f"attempt {attempt} of {attempts} on {worker}"))
    return events, {**started, "attempt": attempt, "attempt_started_at": now()}


def _cancelled(head: Head) -> str:
    """What is said of a job that is not run because it was cancelled; the operator says the same."""
    if head.state is State.RUNNING:
        return "cancelled; its worker was lost"
    if head.state is State.INTERRUPTED:
        return "cancelled before another worker took it"
    return "cancelled before its next attempt" if head.attempt else "cancelled before it started"


def _agree(policy: JobPolicy, message: JobMessage) -> bool:
    """Whether a message has the rules under which the job was admitted, as the trail has them."""
    said = message.group, message.limit, message.retry.max_attempts, message.provisional
    return said == (policy.group, policy.limit, policy.max_attempts, policy.provisional)
