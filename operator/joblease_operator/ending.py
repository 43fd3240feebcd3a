"""Ends jobs that were cancelled, or whose `JobRequest` was deleted, whoever has them.

As long as a job that is to end has not ended, the next step is taken again: each few seconds, however much is heard of
it meanwhile, since an order goes to every worker.
"""

import math
import time
from typing import TYPE_CHECKING

from joblease.head import Head
from joblease.leases import LeaseBlobs
from joblease.messages import Status
from joblease.states import State
from joblease.trail import AuditTrail, NewEvent

from joblease_operator.job import Job
from joblease_operator.record import cancelled

if TYPE_CHECKING:
    from joblease_operator.publisher import Publisher
    from joblease_operator.record import Record

REPEAT_SECONDS = 5.0
"""How often a worker is ordered to stop a job: an order is lost when it is not listening."""


class Ending:
    """`end` takes a step; repeat it after the pause that it returns."""

    def __init__(self, trail: AuditTrail, record: "Record", publisher: "Publisher", blobs: LeaseBlobs) -> None:
        self._trail = trail
        self._record = record
        self._publisher = publisher
        self._blobs = blobs
        self._ordered: dict[str, float] = {}
        """When a running job was last ordered to stop; monotonic seconds."""

    async def end(self, job: Job, new_head: Head) -> float | None:
        """Take the next step to the job's end; the pause before it is to be repeated. `new_head`: if it has none."""
        if job.state is None:
            first = NewEvent(Status.SUBMITTED, state=State.SUBMITTED)
            await self._record.write(job, [first, cancelled(job)], new_head, state=State.CANCELLED)
        elif job.state is State.RUNNING:
            await self._end_running(job)
        else:
            await self._record.write(job, [cancelled(job)], state=State.CANCELLED)
        if not job.finished:
            return REPEAT_SECONDS
        self.forget(job.uid)
        return None

    def forget(self, uid: str) -> None:
        """It has ended, or has gone."""
        self._ordered.pop(uid, None)

    async def _end_running(self, job: Job) -> None:
        if time.monotonic() - self._ordered.get(job.uid, -math.inf) < REPEAT_SECONDS / 2:
            return
        head = job.head or await self._trail.head(job.uid)
        if not head.cancel_requested:  # the next worker must know, too
            await self._record.write(job, [], head, cancel_requested=True)
        elif await self._is_lost(head):
            await self._record.write(job, [cancelled(job)], head, state=State.CANCELLED)
        if job.state is State.RUNNING:
            await self._publisher.order_cancel(job.uid)
            self._ordered[job.uid] = time.monotonic()

    async def _is_lost(self, head: Head) -> bool:
        """Whether nobody runs the job any more, nor ever will under the claim in its head."""
        if not await self._blobs.discard(head.claim_blob):
            return False
        await self._blobs.give_back(head.slot)
        return True
