"""Brings each job from what it is to what it should be, one step at a time, as often as it takes.

Everything here is level-triggered: `observe` (a resource changed) and `on_event` (a worker said something) only note
what is known now and mark the job; `_reconcile` looks at what is known and does what is missing. A step that fails is
tried again; a step that was done twice does no harm, because every write goes through the audit trail's fence and every
message may be delivered twice. So the operator can die anywhere and simply starts over.
"""

import asyncio
import contextlib
import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from joblease import logs
from joblease.broker import Broker, acknowledge
from joblease.errors import ErrorClass, classify, log_level, unforeseen
from joblease.head import Head
from joblease.jobrequest import JobRequestSpec, check_parameters
from joblease.keys import Keys
from joblease.leases import LeaseBlobs
from joblease.messages import JobEvent, Status
from joblease.policy import HandlerPolicy
from joblease.states import State
from joblease.trail import AuditTrail, NewEvent, UnknownJob
from pydantic import ValidationError

from joblease_operator import metrics, restore
from joblease_operator.active import HANDED, Active
from joblease_operator.admissions import Admissions
from joblease_operator.drift import Drift
from joblease_operator.duplicates import Duplicates
from joblease_operator.ending import Ending
from joblease_operator.expiry import Expiry
from joblease_operator.job import Body, Job
from joblease_operator.kube import JobRequests
from joblease_operator.open_jobs import OpenJobs
from joblease_operator.policies import BEFORE_ADMISSION, Policies
from joblease_operator.pools import Pools
from joblease_operator.publisher import Publisher
from joblease_operator.queue import MAX_PAUSE_SECONDS, WorkQueue
from joblease_operator.record import Record, describe, facts, failed, queued, waiting
from joblease_operator.resync import Resync
from joblease_operator.status import GIVEN_UP, TROUBLE, outcome, reason_of, unfinished
from joblease_operator.status_writer import StatusWriter
from joblease_operator.sweeper import Sweeper

if TYPE_CHECKING:
    from aio_pika.abc import AbstractIncomingMessage

    from joblease_operator.settings import OperatorSettings

log = logging.getLogger(__name__)

WRITTEN = (State.SUSPENDED, State.SCHEDULED, State.WAITING_FOR_GROUP, State.RETRYING)
"""What a job waits for is in its trail, but for workers: they come and go, and all jobs of their queue would say so."""


class Engine:
    """All jobs of the installation."""

    def __init__(
        self,
        settings: "OperatorSettings",
        broker: Broker,
        trail: AuditTrail,
        blobs: LeaseBlobs,
        requests: JobRequests,
        open_jobs: OpenJobs,
        keys: Keys,
    ) -> None:
        self._open_jobs = open_jobs
        self._requests = requests
        self._jobs: dict[str, Job] = {}
        self._leads = False
        self._active = Active()
        self._queue = WorkQueue(self._reconcile_safely)
        self._publisher = Publisher(settings, broker)
        self.policies = Policies(settings, self._reconsider)
        self._admissions = Admissions(self.policies, self._jobs, self._queue.add)
        self._record = Record(trail, self._take_note, self._changed)
        self._sweeper = Sweeper(
            settings, trail, blobs, open_jobs, requests, self._publisher, self._admissions, self._jobs, self._adopt
        )
        self._ending = Ending(trail, self._record, self._publisher, blobs)
        self._duplicates = Duplicates(trail, self._record, keys, self._jobs)
        self._expiry = Expiry(settings, requests, self._gone)
        scheduler = self._admissions.scheduler
        self.status_writer = StatusWriter(settings, requests, scheduler, self._expiry.see_to, self._gone)
        self._resync = Resync(settings, self._active, self._record, blobs)
        self._pools = Pools(
            settings, broker, self._jobs, self._active, self._admissions, self._record, self._publish,
            self._fail_handed, self.status_writer.write,
        )  # fmt: skip
        self._drift = Drift(settings, requests, self._jobs, self._gone)

    async def run(self) -> None:
        """Take the lead: complete the picture from the API server and the trail, then reconcile until cancelled."""
        self._leads = True
        await restore.restore(self._requests, self._jobs, self.observe, self._record, self._admissions, self._queue.add)
        self._drift.suspect()  # the picture may have what was deleted unseen
        async with self._queue, self.status_writer, asyncio.TaskGroup() as tasks:
            self._admissions.open()
            tasks.create_task(self._admissions.keep_time())
            for part in (self._expiry, self._resync, self._pools, self._drift, self._sweeper):
                tasks.create_task(part.run())

    @property
    def problems(self) -> list[str]:
        """What keeps the operator from being ready."""
        return [] if self._admissions.is_open else ["the present jobs have not been read yet"]

    # What is known

    def observe(self, kind: str | None, body: Body) -> None:
        """A resource as the API server has it now; `kind` is `DELETED` when it has gone, None in a listing.

        Before `run`, this is all that is known of a job: a picture of what is there, and of nothing that happens to it.
        """
        uid = body["metadata"]["uid"]
        if not self._leads:
            if kind == "DELETED":  # the leader sees to it; or else the sweeper, as soon as this one leads
                self._jobs.pop(uid, None)
            else:
                self._first_seen(body).see(kind, body)
            return
        if kind is None and self._admissions.is_open:  # the watch was lost, and with it perhaps what was deleted
            self._drift.suspect()
        job = self._jobs.get(uid)
        if job is None:
            if kind == "DELETED":
                return
            job = self._first_seen(body)
        news, status = job.see(kind, body), body.get("status") or {}
        # Of an ended job, an older status may be heard of only now: to go on from that would write it again. And an
        # operator that led before, or thought so, may have died before it was through with the outcome.
        older = status.get("observedGeneration") != job.generation and outcome(status) is not None
        behind = job.settled and (older or unfinished(status))
        if behind:
            job.written = status
        if news or behind:
            self._queue.add(uid)

    def _first_seen(self, body: Body) -> Job:
        job = self._jobs[body["metadata"]["uid"]] = Job.of(body)
        if ended := outcome(job.written):  # its trail need not be read
            job.state, job.completed_at = ended
            job.listed = False
            job.mark_settled()
        return job

    async def on_event(self, delivery: "AbstractIncomingMessage") -> None:
        """Something that happened to a job. It can be acknowledged at once: the trail has it."""
        metrics.EVENTS_SEEN.inc()
        try:
            event = JobEvent.model_validate_json(delivery.body)
            if job := self._jobs.get(event.job_id):
                self._take_note(job, [event])
        except ValidationError as error:
            log.warning("unreadable event dropped: %s", error)
        finally:
            await acknowledge(delivery)

    def _take_note(self, job: Job, events: Sequence[JobEvent]) -> None:
        known = job.sequence
        for event in events:
            job.apply(event)
            if event.status == Status.DEFERRED and event.data:  # given back, for what its handler says
                policy = HandlerPolicy.model_validate(event.data["handlerPolicy"])
                self.policies.hear(event.queue, event.handler, policy)
        if job.sequence != known:
            self._changed(job)

    def _changed(self, job: Job) -> None:
        if job.finished:
            metrics.JOBS_ENDED.labels(str(job.state)).inc()
            self._admissions.leave(job)  # first of all: somebody waits for this slot
        elif job.state is State.RETRYING and job.spec:
            self._admissions.enqueue(job)
        self._active.note(job, job.last_news)
        self._queue.add(job.uid)

    def _reconsider(self, changed: Collection[tuple[str, str]]) -> None:
        """Jobs of these queues and handlers that were not admitted yet have other rules now."""
        for job in self._jobs.values():
            if job.state in BEFORE_ADMISSION and job.spec and (job.spec.queue, job.spec.handler) in changed:
                self._queue.add(job.uid)

    def _gone(self, job: Job) -> None:
        """The API server has no such resource any more, whatever the watch has told."""
        if not job.gone:
            job.gone = True
            self._queue.add(job.uid)

    def _adopt(self, head: Head) -> None:
        """A job whose resource was deleted while nobody looked, and which was begun if its head has an ETag."""
        job = Job(head.job_id, head.namespace, head.name, head.submitted_at, gone=True)
        if head.etag:
            job.recall(head)
        self._jobs[job.uid] = job
        self._queue.add(job.uid)

    # What is to be done

    async def _reconcile_safely(self, uid: str) -> float | None:
        """Reconcile a job; the pause before it is to be tried again, or None."""
        job = self._jobs.get(uid)
        if job is None:
            return None
        with logs.bind(job=uid, attempt=job.attempt, worker=job.worker):
            try:
                await self._reconcile(job)
            except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this job
                metrics.RECONCILE_ERRORS.inc()
                return await self._after(job, error)
            job.trouble = ""
            self.status_writer.write(job)
            return None

    async def _after(self, job: Job, error: Exception) -> float | None:
        """Try again, or give up what can never succeed: that concerns this job alone, and it holds up nobody.

        A fault of ours is no reason to fail a job, nor all jobs, if it is one that meets them all: whoever repairs the
        operator finds them waiting.
        """
        if unforeseen(error):
            log.error("%s: unforeseen, it will be tried again", job.label, exc_info=error)
            if job.state not in (State.RUNNING, State.INTERRUPTED):
                self._admissions.leave(job)
        else:
            log.log(log_level(error), "%s: %s", job.label, describe(error), exc_info=log.isEnabledFor(logging.DEBUG))
        if classify(error) is ErrorClass.PERMANENT and not unforeseen(error):
            try:
                await self._fail(job, error)
                await self._publisher.publish_events(job)
            except Exception as another:
                if classify(another) is ErrorClass.PERMANENT:
                    log.exception("%s cannot even fail; it is looked at again in %.0f s", job.label, MAX_PAUSE_SECONDS)
                    self._admissions.leave(job)
                    job.trouble = GIVEN_UP + describe(error)
                    self.status_writer.write(job)
                    if job.gone:
                        self._forget(job)
                        return None
                    return MAX_PAUSE_SECONDS  # it may be storage after all, and somebody repairs it
                error = another
        job.trouble = TROUBLE + describe(error) if not job.finished or job.unannounced else ""
        self.status_writer.write(job)
        return 1.0

    async def _reconcile(self, job: Job) -> None:
        try:
            await self._see_to_state(job)
        except Exception:  # nothing else: what an order to end interrupts must not go on, nor fail with another error
            await self._publisher.publish_events(job)
            raise
        # After the job itself: nobody waits for its events, somebody may wait for it.
        await self._publisher.publish_events(job)
        if not job.finished:
            return
        if job.listed:  # everybody was told: from here on nobody need find it
            job.listed = False
            self._open_jobs.remove(job.uid)
        if job.gone:
            self._forget(job)
            return
        job.spec = job.head = None
        if job.settled and not job.written:  # its outcome is written before it is deleted
            self._expiry.see_to(job)

    async def _see_to_state(self, job: Job) -> None:
        if job.state is None and job.written.get("jobId"):
            with contextlib.suppress(UnknownJob):
                await self._record.recall(job)
        if job.finished:
            self._ending.forget(job.uid)
            return
        if job.spec and (job.state is State.RUNNING or (job.state in HANDED and not self._admissions.admitted(job))):
            self._admissions.hold(job)
            self._active.mark(job.uid)  # if nobody serves its queue, it gives the slot back
        if job.wants_cancel:
            await self._end(job)
        elif job.state is None:
            await self._begin(job)
        elif job.state in (State.SUBMITTED, State.RETRYING):
            await self._admit(job)
        elif job.state is State.QUEUED:
            await self._publish_once(job)

    async def _end(self, job: Job) -> None:
        if job.state in (None, State.SUBMITTED, State.RETRYING):
            self._admissions.leave(job)
        if job.state is None:
            await self._open_jobs.add(job)
        pause = await self._ending.end(job, self._new_head(job))
        if pause:
            self._queue.add(job.uid, pause)

    async def _begin(self, job: Job) -> None:
        """The trail's first rows: with the admission, if the job may go at once."""
        if job.spec is None:
            return  # its status says why
        try:
            check_parameters(job.spec.parameters)
            self.policies.of(job)
        except ValueError as error:
            await self._open_jobs.add(job)
            await self._fail(job, error)
            return
        submitted = NewEvent(Status.SUBMITTED, state=State.SUBMITTED, data=facts(job))
        try:
            if job.spec.key:
                if not job.message:  # that of a duplicate, which is listed
                    await self._open_jobs.add(job)  # a key that has its job has one that is looked after
                if await self._end_duplicate(job, job.spec):
                    return
            policy = self.policies.of(job)
            if not self._admissions.stands(job):  # in the order in which they are heard of, whoever is listed first
                self._admissions.enqueue(job)
            head = self._new_head(job)
            if not job.spec.key:
                await self._open_jobs.add(job)
            if self._admissions.admitted(job):
                admission = [submitted, queued(job, policy)]
                await self._record.write(job, admission, head, state=State.QUEUED, policy=policy)
            else:
                first = replace(submitted, reason=self._waits_for(job))
                await self._record.write(job, [first], head, policy=policy if policy.from_handler else None)
        except BaseException:  # a slot is held by what is in the trail, and by nothing else
            self._admissions.leave(job)
            raise

    async def _end_duplicate(self, job: Job, spec: JobRequestSpec) -> bool:
        """Whether another job has the job's key: then this one ends as that one has, now or later."""
        first = await self._duplicates.first(job, spec)
        if first is None:
            return False
        self._admissions.leave(job)
        try:
            pause = await self._duplicates.end(job, spec, first, self._new_head(job))
        except ValueError as error:
            await self._fail(job, error)
            return True
        if pause:
            self._queue.add(job.uid, pause)
        return True

    async def _admit(self, job: Job) -> None:
        if job.spec is None or not await self._knows_policy(job):
            return
        policy = self.policies.of(job)
        if self._admissions.stands(job) or self._admissions.enqueue(job):
            admission = [queued(job, policy)]
            await self._record.write(job, admission, state=State.QUEUED, group=policy.group, policy=policy)
            if job.state is State.QUEUED:
                await self._publish_once(job)
        else:
            reason = self._waits_for(job)
            if reason in WRITTEN and reason is not job.shown:
                await self._record.write(job, [waiting(job, reason)])

    async def _knows_policy(self, job: Job) -> bool:
        """Whether it is known under which rules a job was admitted; else there was news, and it is seen to anew.

        Another operator may have admitted it, and told nobody before it died; a release that knew no policies has none.
        """
        return bool(job.policy) or job.state in BEFORE_ADMISSION or not await self._record.look(job)

    def _waits_for(self, job: Job) -> State:
        """What keeps a job from being admitted, in the word that its status has."""
        return reason_of(job, self._admissions.scheduler.why_waiting(job.uid))[0]

    async def _publish_once(self, job: Job) -> None:
        if job.spec and job.published != job.attempt + 1:
            await self._publish(job)

    async def _publish(self, job: Job) -> None:
        if not await self._knows_policy(job):
            return
        await self._publisher.publish(job, self.policies.of(job), self._admissions.scheduler.slot(job.uid))

    async def _fail(self, job: Job, error: Exception) -> None:
        """A job that can never run ends with the reason, and without what storage may have refused of it."""
        if job.finished or job.state in (State.RUNNING, State.INTERRUPTED):
            raise error  # it has its outcome; or a worker has it, or will
        head, events = None, [failed(error)]
        if job.state is None:
            head = self._new_head(job)
            events = [NewEvent(Status.SUBMITTED, state=State.SUBMITTED, data=facts(job, parameters=False)), *events]
        await self._record.write(job, events, head, state=State.FAILED)

    async def _fail_handed(self, job: Job, reason: str) -> None:
        """End a job that no worker has, and none will get."""
        await self._record.write(job, [failed(ValueError(reason))], state=State.FAILED)

    def _new_head(self, job: Job) -> Head:
        handler, queue = (job.spec.handler, job.spec.queue) if job.spec else ("unknown", "unknown")
        group = self.policies.place(job).group
        return Head(job.uid, job.namespace, job.name, handler, queue, group, job.created_at, order=job.order)

    def _forget(self, job: Job) -> None:
        self._jobs.pop(job.uid, None)
        for part in (self._expiry, self.status_writer, self._active, self._ending):
            part.forget(job.uid)
