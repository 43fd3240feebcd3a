"""The leases that one run needs: a slot of its concurrency group, and the job's own."""

import asyncio
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from joblease.leases import LeaseHeld, LeaseMissing, LeaseUnknown, job_blob, slot_blob
from joblease.messages import JobMessage
from joblease.topology import DEFERRALS_HEADER
from joblease.trail import AuditTrail

from joblease_worker.claim import NothingToRun
from joblease_worker.clock import boot_seconds
from joblease_worker.record import Fenced

if TYPE_CHECKING:
    from joblease_worker.keeper import Keeper, Lease

MAX_SLOT_TRIES = 8
"""Slots of a wide group that one delivery tries; each costs a storage request."""

OnLost = Callable[[str], None]


class Conflict(Exception):
    """The job cannot run here now: somebody else holds a lease, storage does not answer, or its handler is not here."""

    def __init__(self, reason: str, message: str, counter: str = DEFERRALS_HEADER) -> None:
        """`counter` is the message's header that counts how often this was the reason."""
        super().__init__(message)
        self.reason = reason
        self.counter = counter


class RunLeases:
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
        """Until when all of them are certainly ours, if no renewal gets through; as `boot_seconds` counts."""
        return min(lease.deadline for lease in (self._job, self._slot) if lease)

    def check(self) -> None:
        """Raise `Fenced` unless all of them are still ours."""
        if boot_seconds() >= self.deadline:
            raise Fenced("the leases were lost before the claim")

    def guard(self, pid: int | None) -> None:
        """Let a process group live only as long as all of them; None ends that."""
        for lease in filter(None, (self._job, self._slot)):
            self._keeper.guard(lease, pid)

    async def release(self, *, finished: bool) -> None:
        """Give all back; the blob of a finished job is not needed again. Ends after the storage timeout."""
        job = self._keeper.release(self._job, delete=finished)
        if self._slot:  # first: somebody may wait for it
            await asyncio.gather(self._keeper.release(self._slot), job)
        else:
            await job


async def take_leases(keeper: "Keeper", trail: AuditTrail, message: JobMessage, on_lost: OnLost) -> RunLeases:
    """Take a slot of the group, then the job. The slot is first since it is the one that is usually taken.

    Raises `Conflict`, or `NothingToRun` when the job has ended and its blob has gone.
    """
    slot = None
    try:
        if message.limit:
            slot = await _take_slot(keeper, message, on_lost)
        return RunLeases(keeper, await _take_job(keeper, trail, message.job_id, on_lost), slot)
    except BaseException as error:
        if slot:
            await keeper.release(slot)
        what = "the job's lease" if slot else f"each slot of group {message.group!r} (limit {message.limit})"
        if isinstance(error, LeaseHeld):
            raise Conflict("lease", f"another worker holds {what}") from None
        if isinstance(error, LeaseUnknown):
            raise Conflict("storage", f"storage did not say who holds {what}: {error}") from None
        raise


async def _take_job(keeper: "Keeper", trail: AuditTrail, job_id: str, on_lost: OnLost) -> "Lease":
    try:
        return await keeper.acquire(job_blob(job_id), on_lost)
    except LeaseMissing:
        head = await trail.head(job_id)
        if head.state.terminal:
            raise NothingToRun(head) from None
        return await keeper.acquire(job_blob(job_id), on_lost, create=True)


async def _take_slot(keeper: "Keeper", message: JobMessage, on_lost: OnLost) -> "Lease":
    others = [slot for slot in range(message.limit) if slot != message.slot]
    hinted = [message.slot] if message.slot is not None and message.slot < message.limit else []
    candidates = (hinted + random.sample(others, min(len(others), MAX_SLOT_TRIES)))[:MAX_SLOT_TRIES]
    for slot in candidates[:-1]:
        try:
            return await keeper.acquire(slot_blob(message.group, slot), on_lost, create=True)
        except LeaseHeld:
            continue
    return await keeper.acquire(slot_blob(message.group, candidates[-1]), on_lost, create=True)
