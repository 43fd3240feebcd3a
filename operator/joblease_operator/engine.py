"""Brings each job from what it is to what it should be, one step at a time, as often as it takes.

Everything here is level-triggered: `observe` (a resource changed) and `on_event` (a worker said something) only note
what is known now and mark the job; `_reconcile` looks at what is known and does what is missing. A step that fails is
tried again; a step that was done twice does no harm, because every write goes through the audit trail's fence and every
message may be delivered twice. So the operator can die anywhere and simply starts over.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from joblease import logs, tracing
from joblease.broker import Broker
from joblease.leases import LeaseBlobs, job_blob
from joblease.messages import JobEvent, State, Status
from joblease.resource import JobRequestSpec, check_parameters_size
from joblease.trail import AuditTrail, Head, NewEvent, UnknownJob
from pydantic import ValidationError

from joblease_operator import metrics
from joblease_operator.admissions import Admissions
from joblease_operator.expiry import Expiry
from joblease_operator.job import Body, Job
from joblease_operator.kube import Conflict, Gone, JobRequests
from joblease_operator.publisher import Publisher
from joblease_operator.queue import WorkQueue
from joblease_operator.record import Record, cancelled, facts, queued
from joblease_operator.resync import Resync
from joblease_operator.status_writer import StatusWriter
from joblease_operator.sweeper import Sweeper

if TYPE_CHECKING:
    from aio_pika.abc import AbstractIncomingMessage

    from joblease_operator.settings import OperatorSettings

log = logging.getLogger(__name__)

_CANCELLABLE = (State.SUBMITTED, State.QUEUED, State.RETRYING, State.INTERRUPTED)


class Engine:
    """All jobs of the installation."""

    def __init__(
        self,
        settings: "OperatorSettings",
        broker: Broker,
        trail: AuditTrail,
        blobs: LeaseBlobs,
        requests: JobRequests,
    ) -> None:
        self._publisher = Publisher(settings, broker)
        self._blobs = blobs
        self._requests = requests
        self._jobs: dict[str, Job] = {}
        self._queue = WorkQueue(self._reconcile_safely)
        self._admissions = Admissions(settings, self._jobs, self._queue.add)
        self._record = Record(trail, self._take_note, self._queue.add)
        self._expiry = Expiry(settings, requests)
        self.status_writer = StatusWriter(settings, requests, self._admissions.scheduler, self._expiry.see_to)
        self._restored = False
        self._resync = Resync(
            settings, self._jobs, self._admissions, self._record, blobs, self._queue.add, self._publish
        )
        self._sweeper = Sweeper(settings, trail, blobs, self._publisher, self._jobs)

    async def run(self) -> None:
        """Restore the picture from the API server and the trail, then reconcile until cancelled."""
        async with self._queue, self.status_writer:
            while not self._restored:
                try:
                    await self._restore()
                except Exception as error:  # noqa: BLE001 - whatever is away, it is waited for
                    log.warning("the present jobs cannot be listed yet, trying again: %s", error)
                    await asyncio.sleep(1)
            await asyncio.gather(
                self._admissions.keep_time(), self._expiry.run(), self._resync.run(), self._sweeper.run()
            )

    @property
    def problems(self) -> list[str]:
        """What keeps the operator from being ready."""
        return [] if self._restored else ["the present jobs have not been read yet"]

    # What is known

    def observe(self, kind: str | None, body: Body) -> None:
        """A resource as the API server has it now; `kind` is `DELETED` when it has gone."""
        metadata = body["metadata"]
        job = self._jobs.get(metadata["uid"])
        if job is None:
            if kind == "DELETED":
                return
            job = Job(metadata["uid"], metadata["namespace"], metadata["name"], _moment(metadata["creationTimestamp"]))
            self._jobs[job.uid] = job
            job.written = body.get("status") or {}
            self._recall_outcome(job)
        job.traceparent = (metadata.get("annotations") or {}).get(tracing.ANNOTATION) or job.traceparent
        known = job.generation, job.deleting, job.gone
        job.generation = metadata.get("generation", 0)
        job.deleting = bool(metadata.get("deletionTimestamp"))
        job.gone = kind == "DELETED"
        if (job.generation, job.deleting, job.gone) == known:
            return  # its status was written: that was us
        spec = body.get("spec") or {}
        job.ttl = spec.get("ttlSecondsAfterFinished")
        if not job.finished:
            try:
                job.spec = JobRequestSpec.model_validate(spec)
            except ValidationError as error:  # the CRD is older or newer than we are
                job.trouble = f"the operator cannot read this JobRequest: {error.errors()[0]['msg']}"
                log.warning("%s: %s", job.label, error)
                self.status_writer.write(job)
                return
        self._queue.add(job.uid)

    @staticmethod
    def _recall_outcome(job: Job) -> None:
        """An ended job is recognised by its status alone; its trail need not be read."""
        for condition in job.written.get("conditions") or []:
            if condition["type"] == "Succeeded" and condition["status"] != "Unknown":
                job.state = State(condition["reason"])
                job.completed_at = _moment(job.written.get("completedAt") or condition["lastTransitionTime"])
                job.settle()

    async def on_event(self, delivery: "AbstractIncomingMessage") -> None:
        """Something that happened to a job. It can be acknowledged at once: the trail has it."""
        async with delivery.process(ignore_processed=True):
            metrics.EVENTS_SEEN.inc()
            try:
                event = JobEvent.model_validate_json(delivery.body)
            except ValidationError as error:
                log.warning("unreadable event dropped: %s", error)
                return
            job = self._jobs.get(event.job_id)
            if job:
                self._take_note(job, [event])

    def _take_note(self, job: Job, events: Sequence[JobEvent]) -> None:
        was_finished = job.finished
        known = job.sequence
        for event in events:
            job.apply(event)
        if job.sequence == known:
            return
        job.last_news = time.monotonic()
        if job.finished and not was_finished:
            metrics.JOBS_ENDED.labels(str(job.state)).inc()
            self._admissions.leave(job)  # first of all: somebody waits for this slot
        elif job.state is State.RETRYING:
            job.published = False
            self._admissions.wait(job)
        self._queue.add(job.uid)

    # What is to be done

    async def _reconcile_safely(self, uid: str) -> float | None:
        """Reconcile a job; the pause before it is to be tried again, or None."""
        job = self._jobs.get(uid)
        if job is None:
            return None
        with logs.bind(job=uid, attempt=job.attempt, worker=job.worker):
            return await self._reconcile_once(job)

    async def _reconcile_once(self, job: Job) -> float | None:
        try:
            await self._reconcile(job)
        except (Gone, Conflict):
            return None  # the watch brings what it is now
        except Exception as error:
            metrics.RECONCILE_ERRORS.inc()
            job.trouble = f"the operator tries again after: {type(error).__name__}: {error}"
            log.warning("%s: %s", job.label, job.trouble, exc_info=log.isEnabledFor(logging.DEBUG))
            self.status_writer.write(job)
            return 1.0
        job.trouble = ""
        self.status_writer.write(job)
        return None

    async def _reconcile(self, job: Job) -> None:
        try:
            await self._see_to_state(job)
        finally:  # after the job itself was published: nobody waits for its events, somebody may wait for it
            await self._publisher.announce(job)
        if job.gone:
            self._forget_if_done(job)
        elif job.finished:
            job.spec = job.head = None
            if job.settled:  # its outcome is written before it is deleted
                self._expiry.see_to(job)

    async def _see_to_state(self, job: Job) -> None:
        if job.state is None:
            await self._begin(job)
        if job.state in (State.SUBMITTED, State.RETRYING):
            await self._wait_or_publish(job)
        elif not job.finished:
            await self._see_to_running(job)

    async def _begin(self, job: Job) -> None:
        """The trail's first rows; or, after a restart, what they say already."""
        if job.written.get("jobId") or not self._restored:
            with contextlib.suppress(UnknownJob):
                await self._record.tell_what_is_known(job)
                return
        assert job.spec is not None  # noqa: S101 - only ended jobs have none
        head = self._new_head(job)
        try:
            check_parameters_size(job.spec.parameters)
        except ValueError as error:
            submitted = NewEvent(Status.SUBMITTED, state=State.SUBMITTED, data=facts(job, parameters=False))
            failed = NewEvent(Status.FAILED, str(error), data={"reason": State.FAILED.value})
            await self._record.write(job, [submitted, failed], head, state=State.FAILED)
            return
        # The blob comes first: by it the sweeper finds every job that was begun, also when its resource has gone.
        await self._blobs.create(job_blob(job.uid), {"jobId": job.uid, "namespace": job.namespace})
        self._sweeper.work.set()
        submitted = NewEvent(Status.SUBMITTED, state=State.SUBMITTED, data=facts(job))
        if not job.wants_cancel and self._admissions.wait(job):
            await self._record.write(job, [submitted, queued(job)], head, state=State.QUEUED)
        else:
            await self._record.write(job, [submitted], head)

    def _new_head(self, job: Job) -> Head:
        assert job.spec is not None  # noqa: S101
        group, _ = self._admissions.group_of(job.spec)
        return Head(job.uid, job.namespace, job.name, job.spec.handler, job.spec.queue, group, job.created_at)

    async def _wait_or_publish(self, job: Job) -> None:
        if job.wants_cancel:
            self._admissions.leave(job)
            await self._record.write(job, [cancelled(job)], state=State.CANCELLED)
            await self._publisher.announce(job)
            await self._blobs.discard(job_blob(job.uid))
            return
        if self._admissions.admitted(job) or self._admissions.wait(job):
            await self._record.write(job, [queued(job)], state=State.QUEUED)
            await self._see_to_running(job)

    async def _see_to_running(self, job: Job) -> None:
        """A job that the workers have, or should have."""
        if job.finished:
            return
        self._admissions.hold(job)
        if job.wants_cancel:
            await self._cancel_published(job)
        elif job.state is State.QUEUED and not job.published:
            await self._publish(job)

    async def _publish(self, job: Job) -> None:
        await self._publisher.publish(job, *self._admissions.group_of(job.spec))

    async def _cancel_published(self, job: Job) -> None:
        if job.cancel_sent:
            return
        if job.state in _CANCELLABLE:
            await self._record.write(job, [cancelled(job)], state=State.CANCELLED)
        if job.state is State.RUNNING:
            await self._record.write(job, [], cancel_requested=True)
            await self._publisher.order_cancel(job.uid)
            job.cancel_sent = True

    def _forget_if_done(self, job: Job) -> None:
        if job.finished:
            self._jobs.pop(job.uid, None)
            self._expiry.forget(job.uid)
            self.status_writer.forget(job.uid)

    async def _restore(self) -> None:
        """The first look at everything: admitted jobs must hold their slots before any other is admitted."""
        async for body in self._requests.everything():
            self.observe(None, body)
        unread = [job for job in self._jobs.values() if job.state is None and job.spec]
        limit = asyncio.Semaphore(32)

        async def read(job: Job) -> None:
            async with limit:
                with contextlib.suppress(UnknownJob):
                    events = await self._record.read(job)
                    if job.state not in (State.RUNNING, State.INTERRUPTED):
                        job.unannounced = events  # the operator before this one may have died before it told anybody
            if job.state not in (None, State.SUBMITTED, State.RETRYING) and not job.finished:
                self._admissions.hold(job)

        await asyncio.gather(*(read(job) for job in unread))
        self._restored = True
        log.info("%d jobs found, %d of them active", len(self._jobs), len(unread))
        self._admissions.open()
        for uid in self._jobs:
            self._queue.add(uid)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
