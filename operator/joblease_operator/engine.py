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
from typing import TYPE_CHECKING, Any

from joblease import logs, tracing
from joblease.broker import Broker
from joblease.leases import LeaseBlobs, job_blob
from joblease.messages import JobEvent, State, Status, now
from joblease.resource import JobRequestSpec, check_parameters_size
from joblease.trail import AuditTrail, Head, HeadChanged, NewEvent, UnknownJob
from pydantic import ValidationError

from joblease_operator import metrics
from joblease_operator.expiry import Expiry
from joblease_operator.job import Body, Job
from joblease_operator.kube import Conflict, Gone, JobRequests
from joblease_operator.publisher import Publisher
from joblease_operator.queue import WorkQueue
from joblease_operator.scheduler import Candidate, Scheduler
from joblease_operator.status_writer import StatusWriter
from joblease_operator.sweeper import Sweeper

if TYPE_CHECKING:
    from aio_pika.abc import AbstractIncomingMessage

    from joblease_operator.settings import OperatorSettings

log = logging.getLogger(__name__)

LONGEST_SLEEP_SECONDS = 3600.0
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
        self._settings = settings
        self._publisher = Publisher(settings, broker)
        self._trail = trail
        self._blobs = blobs
        self._requests = requests
        self._jobs: dict[str, Job] = {}
        self._scheduler = Scheduler()
        self._queue = WorkQueue(self._reconcile_safely)
        self._expiry = Expiry(settings, requests)
        self.status_writer = StatusWriter(settings, requests, self._scheduler, self._expiry.see_to)
        self._restored = False
        self._timer = asyncio.Event()
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
            await asyncio.gather(self._keep_time(), self._expiry.run(), self._resync(), self._sweeper.run())

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
            self._scheduler.remove(job.uid)
            self._admit()  # first of all: somebody waits for this slot
        elif job.state is State.RETRYING:
            job.published = False
            self._scheduler.wait(self._candidate(job))
            self._admit()
        self._queue.add(job.uid)

    def _admit(self) -> None:
        if not self._restored:
            return
        for admission in self._scheduler.admit(now()):
            job = self._jobs[admission.uid]
            job.slot, job.published = admission.slot, False
            metrics.ADMISSION_WAIT_SECONDS.observe(max(0.0, (now() - job.created_at).total_seconds()))
            self._queue.add(job.uid)
        metrics.JOBS_WAITING.set(self._scheduler.waiting)
        metrics.JOBS_ADMITTED.set(self._scheduler.admitted)
        self._timer.set()

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
                await self._tell_what_is_known(job)
                return
        assert job.spec is not None  # noqa: S101 - only ended jobs have none
        head = self._new_head(job)
        try:
            check_parameters_size(job.spec.parameters)
        except ValueError as error:
            await self._append(
                job, head, [NewEvent(Status.SUBMITTED, state=State.SUBMITTED, data=_facts(job, parameters=False)),
                            NewEvent(Status.FAILED, str(error), data={"reason": State.FAILED.value})],
                state=State.FAILED,
            )  # fmt: skip
            return
        # The blob comes first: by it the sweeper finds every job that was begun, also when its resource has gone.
        await self._blobs.create(job_blob(job.uid), {"jobId": job.uid, "namespace": job.namespace})
        self._sweeper.work.set()
        events = [NewEvent(Status.SUBMITTED, state=State.SUBMITTED, data=_facts(job))]
        if self._ready_now(job):
            await self._append(job, head, [*events, _queued(job)], state=State.QUEUED)
        else:
            await self._append(job, head, events)

    def _ready_now(self, job: Job) -> bool:
        """Put a new job in line; whether it may go at once."""
        if job.wants_cancel:
            return False
        self._scheduler.wait(self._candidate(job))
        self._admit()
        return self._scheduler.is_admitted(job.uid)

    def _new_head(self, job: Job) -> Head:
        assert job.spec is not None  # noqa: S101
        group, _ = self._group_of(job.spec)
        return Head(job.uid, job.namespace, job.name, job.spec.handler, job.spec.queue, group, job.created_at)

    async def _wait_or_publish(self, job: Job) -> None:
        if job.wants_cancel:
            self._scheduler.remove(job.uid)
            self._admit()
            await self._append(job, job.head, [NewEvent(Status.CANCELLED, _why_cancelled(job))], state=State.CANCELLED)
            await self._publisher.announce(job)
            await self._blobs.discard(job_blob(job.uid))
            return
        if not self._scheduler.is_admitted(job.uid):
            self._scheduler.wait(self._candidate(job))
            self._admit()
        if self._scheduler.is_admitted(job.uid):
            await self._append(job, job.head, [_queued(job)], state=State.QUEUED)
            await self._see_to_running(job)

    async def _see_to_running(self, job: Job) -> None:
        """A job that the workers have, or should have."""
        if job.finished:
            return
        self._scheduler.hold_slot(self._candidate(job))
        if job.wants_cancel:
            await self._cancel_published(job)
        elif job.state is State.QUEUED and not job.published:
            await self._publisher.publish(job, *self._group_of(job.spec))

    async def _cancel_published(self, job: Job) -> None:
        if job.cancel_sent:
            return
        if job.state in _CANCELLABLE:
            await self._append(job, job.head, [NewEvent(Status.CANCELLED, _why_cancelled(job))], state=State.CANCELLED)
        if job.state is State.RUNNING:
            await self._append(job, job.head, [], cancel_requested=True)
            await self._publisher.order_cancel(job.uid)
            job.cancel_sent = True

    async def _append(self, job: Job, head: Head | None, events: Sequence[NewEvent], **changes: Any) -> None:
        """Write to the trail if the job is still in the state that led here; else learn what it is by now."""
        before = job.state
        head = head or await self._trail.head(job.uid)
        while before is None or head.state is before:
            try:
                job.head, written = await self._trail.append(head, events, **changes)
            except HeadChanged as changed:
                if before is None:
                    await self._tell_what_is_known(job)
                    return
                head = changed.current
                continue
            job.unannounced += written
            self._take_note(job, written)
            return
        await self._read_trail(job)
        self._queue.add(job.uid)

    async def _tell_what_is_known(self, job: Job) -> None:
        """Go on with a job that was begun by a try whose answer was lost: it may not have told anybody."""
        job.unannounced = await self._read_trail(job)
        self._queue.add(job.uid)

    async def _read_trail(self, job: Job) -> list[JobEvent]:
        """Learn from the trail all that events would have told. Raises `UnknownJob`."""
        events = await self._trail.history(job.uid)
        job.head = None
        self._take_note(job, events)
        job.last_news = time.monotonic()
        return events

    def _candidate(self, job: Job) -> Candidate:
        spec = job.spec
        assert spec is not None  # noqa: S101
        group, limit = self._group_of(spec)
        due = job.next_attempt_at if job.state is State.RETRYING else spec.start_after
        return Candidate(
            uid=job.uid,
            label=job.label,
            group=group,
            limit=limit,
            submitted_at=job.created_at,
            priority=spec.priority,
            not_before=due if due and due > now() else None,
            suspended=spec.suspend,
        )

    def _group_of(self, spec: JobRequestSpec | None) -> tuple[str, int]:
        concurrency, settings = spec and spec.concurrency, self._settings
        group = (concurrency and concurrency.group) or settings.operator_default_group
        named = concurrency.limit if concurrency else None
        return group, settings.operator_default_limit if named is None else named

    def _forget_if_done(self, job: Job) -> None:
        if job.finished:
            self._scheduler.remove(job.uid)
            self._jobs.pop(job.uid, None)
            self._expiry.forget(job.uid)
            self.status_writer.forget(job.uid)

    # What time brings

    async def _keep_time(self) -> None:
        """Admit what has become due."""
        while True:
            self._timer.clear()
            due = self._scheduler.next_due()
            pause = (due - now()).total_seconds() if due else LONGEST_SLEEP_SECONDS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(max(pause, 0.0), LONGEST_SLEEP_SECONDS)):
                    await self._timer.wait()
            due = self._scheduler.next_due()
            if due and due <= now():
                self._admit()

    async def _resync(self) -> None:
        """Heal what events did not tell: look into the trail of active jobs that have been silent."""
        interval = self._settings.operator_resync_seconds
        while True:
            await asyncio.sleep(interval)
            silent = time.monotonic() - interval
            for job in [job for job in self._jobs.values() if job.last_news < silent and not job.finished]:
                if job.state is None or not self._scheduler.is_admitted(job.uid):
                    self._queue.add(job.uid)
                    continue
                with contextlib.suppress(Exception):  # storage is away: the next round comes
                    await self._look_after(job)

    async def _look_after(self, job: Job) -> None:
        silent_since = job.last_news
        known = job.sequence
        await self._read_trail(job)
        if job.sequence != known:
            return
        job.last_news = silent_since
        if time.monotonic() - silent_since < self._settings.operator_republish_seconds:
            return
        if job.state is State.RUNNING and await self._blobs.holder(job_blob(job.uid)) is not None:
            return
        log.warning("%s has been %s without news for long; it is published again", job.label, job.state)
        await self._publisher.publish(job, *self._group_of(job.spec))

    async def _restore(self) -> None:
        """The first look at everything: admitted jobs must hold their slots before any other is admitted."""
        async for body in self._requests.everything():
            self.observe(None, body)
        unread = [job for job in self._jobs.values() if job.state is None and job.spec]
        limit = asyncio.Semaphore(32)

        async def read(job: Job) -> None:
            async with limit:
                with contextlib.suppress(UnknownJob):
                    events = await self._read_trail(job)
                    if job.state not in (State.RUNNING, State.INTERRUPTED):
                        job.unannounced = events  # the operator before this one may have died before it told anybody
            if job.state not in (None, State.SUBMITTED, State.RETRYING) and not job.finished:
                self._scheduler.hold_slot(self._candidate(job))

        await asyncio.gather(*(read(job) for job in unread))
        self._restored = True
        log.info("%d jobs found, %d of them active", len(self._jobs), len(unread))
        self._admit()
        for uid in self._jobs:
            self._queue.add(uid)


def _facts(job: Job, *, parameters: bool = True) -> dict[str, Any]:
    """What the trail keeps of the resource, which will be deleted one day."""
    assert job.spec is not None  # noqa: S101
    spec = job.spec.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"suspend", "cancel"})
    if not parameters:
        spec.pop("parameters", None)
    return {**spec, "traceparent": job.traceparent} if job.traceparent else spec


def _queued(job: Job) -> NewEvent:
    return NewEvent(Status.QUEUED, f"waits for a worker of queue {job.spec.queue if job.spec else ''}")


def _why_cancelled(job: Job) -> str:
    return "the JobRequest was deleted" if job.gone or job.deleting else "cancelled before it started"


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
