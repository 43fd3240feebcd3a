"""Ends jobs that nobody looks after any more, and deletes what they have left behind.

A `JobRequest` that is deleted while the operator is away is never seen again, but its job may have been begun. What
remains of it is the blob that its worker would lease, which exists from before a job's first row in the trail to after
its last; so the list of these blobs (one request for thousands) is the list of all jobs in progress. A job in it that
has no resource is cancelled, as if the operator had seen the deletion; a blob whose job has ended is deleted.

Nothing is listed while nothing happens: after a round that found nothing to do, the next one waits for a job.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from azure.core.exceptions import AzureError
from joblease import tracing
from joblease.broker import PublishFailed
from joblease.leases import LeaseBlobs, job_blob
from joblease.messages import State, Status
from joblease.trail import AuditTrail, Head, HeadChanged, NewEvent, UnknownJob

if TYPE_CHECKING:
    from joblease_operator.job import Job
    from joblease_operator.publisher import Publisher
    from joblease_operator.settings import OperatorSettings

log = logging.getLogger(__name__)


class Sweeper:
    """Use `run` as a task once all resources are known."""

    def __init__(
        self,
        settings: "OperatorSettings",
        trail: AuditTrail,
        blobs: LeaseBlobs,
        publisher: "Publisher",
        jobs: "Mapping[str, Job]",
    ) -> None:
        """`jobs`: all that have a resource, by id."""
        self._settings = settings
        self._trail = trail
        self._blobs = blobs
        self._publisher = publisher
        self._jobs = jobs
        self._unheld: dict[str, int] = {}
        """Epochs of running jobs that nobody held in the last round: their handler may have to be killed yet."""
        self.work = asyncio.Event()
        """Set when there may be something to sweep."""

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            self.work.clear()
            try:
                left = await self._sweep()
            except (AzureError, PublishFailed) as error:
                log.warning("the blobs of jobs cannot be swept now, trying again: %s", error)
                left = True
            if left or any(not job.finished for job in self._jobs.values()):
                self.work.set()
            await asyncio.sleep(self._settings.operator_resync_seconds)
            await self.work.wait()

    async def _sweep(self) -> bool:
        """One round; whether another one will have something to do."""
        left = False
        before, self._unheld = self._unheld, {}
        async for job_id, metadata, leased in self._blobs.jobs():
            job = self._jobs.get(job_id)
            if job and not job.finished:
                continue
            left |= not await self._end(job_id, metadata, leased=leased, unheld=before.get(job_id))
        return left

    async def _end(self, job_id: str, metadata: Mapping[str, str], *, leased: bool, unheld: int | None) -> bool:
        """End a job without a resource; whether nothing of it is left."""
        try:
            head = await self._trail.head(job_id)
        except UnknownJob:  # deleted between the blob and the first row
            if not self._serves(metadata.get("namespace", "")):
                return True
            head = None
        if head and not self._serves(head.namespace):
            return True  # another operator's
        if head and not head.state.terminal:
            if job_id in self._jobs:
                return False  # its resource has come meanwhile
            if leased:
                await self._publisher.order_cancel(job_id)
                return False
            if head.state is State.RUNNING and unheld != head.epoch:
                self._unheld[job_id] = head.epoch
                return False
            await self._cancel(head)
            return False  # the next round tells of it
        if head:  # its last worker may have died before it told everybody
            for event in await self._trail.history(job_id):
                await self._publisher.tell(event, tracing.child_of(None))
        await self._blobs.discard(job_blob(job_id))
        return not leased

    async def _cancel(self, head: Head) -> None:
        log.warning("%s/%s was deleted while nobody looked: cancelled", head.namespace, head.name)
        try:
            await self._trail.append(
                head, [NewEvent(Status.CANCELLED, "the JobRequest was deleted")], state=State.CANCELLED
            )
        except HeadChanged as changed:
            log.info("%s: somebody was faster", changed)

    def _serves(self, namespace: str) -> bool:
        served = self._settings.operator_namespaces
        return not served or namespace in served
