"""From a message to the right to run its job: the leases first, then the head row.

The leases keep honest workers apart; the head row decides. What the head says when it is claimed tells everything that
may have happened since the message was published: the job was finished, cancelled, handed back, or its last worker
died in the middle of it.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from joblease.leases import LeaseHeld, LeaseMissing, LeaseUnknown, job_blob, slot_blob
from joblease.messages import JobEvent, JobMessage, State, Status
from joblease.trail import AuditTrail, Head, HeadChanged, NewEvent

if TYPE_CHECKING:
    from joblease_worker.keeper import Keeper, Lease

MAX_SLOT_TRIES = 8
"""Slots of a wide group that one delivery tries; each costs a storage request."""


class Conflict(Exception):
    """The job cannot run now: somebody else holds a lease, or storage does not answer."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Skip(Exception):
    """There is nothing to run: the message is a duplicate, or out of date."""


class Leases:
    """The leases of one run."""

    def __init__(self, keeper: "Keeper", job: "Lease", slot: "Lease | None") -> None:
        self._keeper = keeper
        self._job = job
        self._slot = slot

    def describe(self, metadata: dict[str, str]) -> None:
        """Write into the blobs who holds them, if the run lasts long enough for anybody to look."""
        for lease in filter(None, (self._job, self._slot)):
            lease.metadata = metadata

    @property
    def deadline(self) -> float:
        """Until when all of them are certainly ours, if no renewal gets through; monotonic seconds."""
        return min(lease.deadline for lease in (self._job, self._slot) if lease)

    def guard(self, pid: int | None) -> None:
        """Let a process group live only as long as all of them; None ends that."""
        for lease in filter(None, (self._job, self._slot)):
            self._keeper.guard(lease, pid)

    async def release(self, *, finished: bool) -> None:
        """Give all back; the blob of a finished job is not needed again."""
        slot = [self._keeper.release(self._slot)] if self._slot else []  # first: somebody may wait for it
        await asyncio.gather(*slot, self._keeper.release(self._job, delete=finished))


async def take_leases(keeper: "Keeper", message: JobMessage, on_lost: Callable[[str], None]) -> Leases:
    """Take a slot of the group, then the job. The slot is first since it is the one that is usually taken.

    Raises `Conflict`, or `LeaseMissing` when the job has no blob: it was finished, or never quite published.
    """
    slot = await _take_slot(keeper, message, on_lost) if message.limit else None
    try:
        job = await keeper.acquire(job_blob(message.job_id), on_lost)
    except (LeaseHeld, LeaseUnknown, LeaseMissing) as error:
        if slot:
            await keeper.release(slot)
        if isinstance(error, LeaseMissing):
            raise
        raise _conflict(error, "the job's lease") from None
    return Leases(keeper, job, slot)


async def _take_slot(keeper: "Keeper", message: JobMessage, on_lost: Callable[[str], None]) -> "Lease":
    others = [slot for slot in range(message.limit) if slot != message.slot]
    hinted = [message.slot] if message.slot is not None and message.slot < message.limit else []
    candidates = (hinted + random.sample(others, min(len(others), MAX_SLOT_TRIES)))[:MAX_SLOT_TRIES]
    last: LeaseHeld | LeaseUnknown = LeaseHeld(message.group)
    for slot in candidates:
        try:
            return await keeper.acquire(slot_blob(message.group, slot), on_lost, create=True)
        except (LeaseHeld, LeaseUnknown) as error:
            last = error
    raise _conflict(last, f"each slot of group {message.group!r} (limit {message.limit})")


def _conflict(error: Exception, what: str) -> Conflict:
    if isinstance(error, LeaseUnknown):
        return Conflict("storage", f"storage did not say who holds {what}: {error}")
    return Conflict("lease", f"another worker holds {what}")


@dataclass(frozen=True, slots=True)
class Claim:
    """The job is ours: its head after the claim, and what was written."""

    head: Head
    events: list[JobEvent]
    recovered: bool
    """Somebody had it before, and may have died before telling everybody what it had written."""


async def claim(trail: AuditTrail, message: JobMessage, worker: str) -> Claim:
    """Claim the head row: one request when the message's hint is still right. Raises `Skip`.

    The returned head may be terminal: the job turned out to be cancelled, or has crashed its last worker.
    """
    head = _hinted_head(message) or await trail.head(message.job_id)
    while True:
        events, changes = _next(head, message, worker)
        try:
            recovered = head.state in (State.RUNNING, State.INTERRUPTED)
            return Claim(*await trail.append(head, events, worker=worker, **changes), recovered)
        except HeadChanged as changed:
            head = changed.current


def _hinted_head(message: JobMessage) -> Head | None:
    hint = message.head
    if hint is None:
        return None
    return Head(
        job_id=message.job_id,
        namespace=message.namespace,
        name=message.name,
        handler=message.handler,
        queue=message.queue,
        group=message.group,
        submitted_at=hint.submitted_at,
        order=hint.order,
        state=State.QUEUED,
        epoch=hint.epoch,
        attempt=hint.attempt,
        sequence=hint.sequence,
        etag=hint.etag,
    )


def _next(head: Head, message: JobMessage, worker: str) -> tuple[list[NewEvent], dict[str, Any]]:
    """What a claim writes, given the head: events, and changes of the head."""
    if head.state.terminal:
        raise Skip(f"the job is {head.state} already")
    if head.state in (State.SUBMITTED, State.RETRYING):
        raise Skip(f"the job is {head.state} and will be published when it is due")
    if head.cancel_requested:
        return [NewEvent(Status.CANCELLED, "cancelled before it started")], {"state": State.CANCELLED}
    started: dict[str, Any] = {"state": State.RUNNING, "epoch": head.epoch + 1, "next_attempt_at": None}
    if head.state is State.INTERRUPTED:  # handed back by its worker: the same attempt goes on
        return [NewEvent(Status.STARTED, f"attempt {head.attempt} goes on on {worker}")], started
    attempt = head.attempt + 1
    events = [NewEvent(Status.STARTED, f"attempt {attempt} of {message.retry.max_attempts} on {worker}")]
    if head.state is State.RUNNING:
        lost = f"attempt {head.attempt} on {head.worker} is lost: the worker died or lost its lease"
        events.insert(
            0,
            NewEvent(Status.INTERRUPTED, lost, attempt=head.attempt, worker=head.worker, state=State.INTERRUPTED),
        )
        if head.attempt >= message.retry.max_attempts:
            message_text = f"its worker was lost in attempt {head.attempt} of {message.retry.max_attempts}"
            events[1] = NewEvent(Status.FAILED, message_text, data={"reason": State.WORKER_CRASHED.value})
            return events, {"state": State.WORKER_CRASHED}
    return events, {**started, "attempt": attempt}
