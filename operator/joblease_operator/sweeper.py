"""Finds what nobody looks after any more, in the list of open jobs: once after the start, and then rarely.

A `JobRequest` that is deleted while the operator is away is never seen again, but its job may have been begun. What
remains of it is its row in the list (`open_jobs`), which is there from before its first row in the trail to after its
last. A job in that list that the API server does not know any more is ended as if its deletion had been seen; the row
of a job that has ended goes. Releases up to 0.1 kept that list as blobs, one a job; they are read, too. That a resource
is not known *here* proves nothing: this operator may be cut off from the API server, and another one have its jobs.

Workers that died have left the blobs of their sessions, which nobody may have asked for.

The slots of a group are kept as long as it is used now and then, since to make one costs a request.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from joblease import tracing
from joblease.errors import log_level, unforeseen
from joblease.head import Head
from joblease.leases import LeaseBlobs, job_blob, session_blob
from joblease.messages import now
from joblease.trail import AuditTrail, UnknownJob

if TYPE_CHECKING:
    from joblease_operator.admissions import Admissions
    from joblease_operator.job import Job
    from joblease_operator.kube import JobRequests
    from joblease_operator.open_jobs import OpenJobs
    from joblease_operator.publisher import Publisher
    from joblease_operator.settings import OperatorSettings

log = logging.getLogger(__name__)

MAX_FAILURES = 10
"""In a row, after which a round ends: each may have waited for an answer."""
UNUSED_SECONDS = 600.0
"""A group in which no job was admitted for so long, and none waits, is not used."""


class Sweeper:
    """Use `run` as a task once all resources are known."""

    def __init__(
        self,
        settings: "OperatorSettings",
        trail: AuditTrail,
        blobs: LeaseBlobs,
        open_jobs: "OpenJobs",
        requests: "JobRequests",
        publisher: "Publisher",
        admissions: "Admissions",
        jobs: "Mapping[str, Job]",
        adopt: Callable[[Head], None],
    ) -> None:
        """`jobs`: all that have a resource, by id. `adopt` is called with each job that has none and must end."""
        self._settings = settings
        self._trail = trail
        self._blobs = blobs
        self._open_jobs = open_jobs
        self._requests = requests
        self._publisher = publisher
        self._admissions = admissions
        self._jobs = jobs
        self._adopt = adopt
        self._left: dict[str, tuple[str | None, str | None]] = {}
        """Jobs that are looked at again in the next round, and what the list says: namespace and name."""
        self._old: set[str] = set()
        """Jobs that have a blob of an older release."""

    async def run(self) -> None:
        """Sweep until cancelled: what is left each `…_RESYNC_SECONDS`, everything each `…_SWEEP_SECONDS`."""
        next_sweep = time.monotonic()
        while True:
            try:
                if time.monotonic() >= next_sweep:
                    await self._sweep()
                    next_sweep = time.monotonic() + self._settings.operator_sweep_seconds
                await self._open_jobs.flush()
                await self._discard_unused_slots()
                await self._clear_what_is_left()
            except Exception as error:  # noqa: BLE001 - whatever is away, the next round comes
                log.log(log_level(error), "what has been left behind cannot be cleared now, trying again: %s", error)
            await asyncio.sleep(self._settings.operator_resync_seconds)

    async def _sweep(self) -> None:
        async for job_id, namespace, name in self._open_jobs.everything():
            self._see(job_id, namespace, name)
        async for job_id, metadata in self._blobs.jobs():
            self._old.add(job_id)
            self._see(job_id, metadata.get("namespace"), metadata.get("name"))
        async for session, leased in self._blobs.sessions():
            if not leased:
                await self._blobs.discard(session_blob(session))
        async for group, _ in self._blobs.slots():
            self._admissions.used.setdefault(group, time.monotonic())

    def _see(self, job_id: str, namespace: str | None, name: str | None) -> None:
        job = self._jobs.get(job_id)
        if job is None or job.finished:
            self._left[job_id] = namespace, name

    async def _clear_what_is_left(self) -> None:
        """One job's trouble is no other's; when many in a row fail, it is no job's, and the next round goes on."""
        failures = 0
        for job_id, (namespace, name) in [*self._left.items()]:
            try:
                done, failures = await self._clear(job_id, namespace, name), 0
            except Exception as error:
                text = "job %s cannot be cleared now, trying again: %s"
                log.log(log_level(error), text, job_id, error, exc_info=unforeseen(error))
                done, failures = False, failures + 1
            left = self._left.pop(job_id)
            if not done:
                self._left[job_id] = left  # the last one in the next round
            if failures == MAX_FAILURES:
                break

    async def _clear(self, job_id: str, namespace: str | None, name: str | None) -> bool:
        """Whether nothing is left to be done about a job in the list."""
        job = self._jobs.get(job_id)
        if (job and not job.finished) or not self._serves(namespace):
            return True
        try:
            head = await self._trail.head(job_id)
            namespace, name = head.namespace, head.name
        except UnknownJob:  # the operator died between its row in the list and the first in the trail
            head = None
        if not namespace or not self._serves(namespace):
            return True
        if not head or not head.state.terminal:
            if name and await self._requests.exists(namespace, name, job_id):
                return False  # it has come meanwhile, or another operator has begun it
            if name:
                log.warning("%s/%s was deleted while nobody looked", namespace, name)
                # Begun or not: an operator that stood still may be about to begin it, and finds it ended then.
                self._adopt(head or Head(job_id, namespace, name, "unknown", "unknown", "", now()))
                return True
        else:  # its last worker may have died before it told everybody
            for event in await self._trail.history(job_id, after=head.sequence - 1):
                await self._publisher.publish_event(event, tracing.child_of(None))
        self._open_jobs.remove(job_id)
        if job_id in self._old and await self._blobs.discard(job_blob(job_id)):
            self._old.remove(job_id)
        return job_id not in self._old

    async def _discard_unused_slots(self) -> None:
        since = time.monotonic() - UNUSED_SECONDS
        for group, used in [*self._admissions.used.items()]:
            if used < since and not self._admissions.scheduler.has_group(group):
                async for _, blob in self._blobs.slots(group):
                    await self._blobs.discard(blob)
                del self._admissions.used[group]

    def _serves(self, namespace: str | None) -> bool:
        """Whether a job may be this operator's; of some blobs it is not known whose they are."""
        served = self._settings.operator_namespaces
        return not served or namespace is None or namespace in served
