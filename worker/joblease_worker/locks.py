"""The leases that one run needs: the worker's session, and a slot of its concurrency group."""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from joblease.clock import boot_seconds
from joblease.leases import Grant, LeaseHeld, LeaseLost, LeaseUnknown, slot_blob
from joblease.messages import JobMessage
from joblease.states import State

from joblease_worker.conflict import Conflict, running
from joblease_worker.keeper import Use

if TYPE_CHECKING:
    from joblease.trail import AuditTrail

    from joblease_worker.keeper import Keeper, Lease
    from joblease_worker.session import Session

MAX_SLOT_TRIES = 8
"""Slots of a wide group that one delivery tries; each costs a storage request."""

OnLost = Callable[[str], None]


class RunLeases:
    """The leases of one run."""

    def __init__(self, keeper: "Keeper", use: Use, session: str, slot: "Lease | None") -> None:
        self._keeper = keeper
        self._use = use
        self._slot = slot
        self.session = session

    @property
    def slot(self) -> Grant | None:
        """The slot's lease."""
        return self._slot.grant if self._slot else None

    def describe(self, metadata: dict[str, str]) -> None:
        """Write into the slot's blob who holds it, if the run lasts long enough for anybody to look."""
        if self._slot:
            self._slot.metadata = metadata

    @property
    def deadline(self) -> float:
        """Until when all of them are certainly ours, if no renewal gets through; as `boot_seconds` counts."""
        return min(lease.deadline for lease in self._use.leases)

    @property
    def session_lost(self) -> bool:
        """Whether others may find the session closed by now, and take over what was claimed under it."""
        session = self._use.leases[0]
        return not session.ours or boot_seconds() >= session.deadline

    def guard(self, pid: int | None) -> None:
        """Let a process group live only as long as all of them; None ends that."""
        self._keeper.guard(self._use, pid)

    async def release(self) -> None:
        """Give the slot back; the session goes on. Ends after the storage timeout."""
        self._keeper.end(self._use)
        if self._slot:
            await self._keeper.release(self._slot)


async def take_leases(
    keeper: "Keeper", session: "Session", trail: "AuditTrail", message: JobMessage, on_lost: OnLost
) -> RunLeases:
    """Make the run hang on the worker's session, and take a slot of the group. Raises `Conflict`."""
    use = Use(on_lost)
    try:
        name, lease = await session.lease()
        keeper.begin(use, lease)
        slot = await _take_slot(keeper, session, trail, message) if message.limit else None
        leases = RunLeases(keeper, use, name, slot)
        if slot:
            keeper.begin(use, slot)
    except BaseException as error:
        keeper.end(use)
        what = f"each slot of group {message.group!r} (limit {message.limit})"
        if isinstance(error, LeaseHeld):
            raise Conflict("lease", f"another worker holds {what}") from None
        if isinstance(error, LeaseUnknown | LeaseLost):
            raise Conflict("storage", f"storage did not grant what the run needs: {error}") from None
        raise
    return leases


async def _take_slot(keeper: "Keeper", session: "Session", trail: "AuditTrail", message: JobMessage) -> "Lease":
    """A free slot; or, of a job whose worker has died, the one that its run had."""
    others = [slot for slot in range(message.limit) if slot != message.slot]
    hinted = [message.slot] if message.slot is not None and message.slot < message.limit else []
    candidates = (hinted + random.sample(others, min(len(others), MAX_SLOT_TRIES)))[:MAX_SLOT_TRIES]
    for slot in candidates:
        try:
            return await keeper.acquire(slot_blob(message.group, slot), {})
        except LeaseHeld:
            continue
    head = await trail.head(message.job_id)
    if head.slot and await session.is_over(head):
        if head.slot.blob not in (slot_blob(message.group, slot) for slot in range(message.limit)):
            raise LeaseHeld  # the limit was lowered since
        return await keeper.acquire(head.slot.blob, {})
    if head.state is State.RUNNING or head.state.terminal:  # its worker gives the slot back, or has died before that
        raise running(head)
    raise LeaseHeld
