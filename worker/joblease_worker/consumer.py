"""From the broker's message to its acknowledgement.

Each delivery ends in exactly one of four ways, all of them after the outcome is safe elsewhere: done (acknowledge),
deferred (a copy in the waiting queue is confirmed, then acknowledge), handed back (a copy in the jobs queue is
confirmed, then acknowledge), or parked with a reason in `joblease.dead`. When not even that works, nothing is
acknowledged and the broker delivers the message again: every step here may be repeated.
"""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import AzureError
from joblease import logs, tracing
from joblease.broker import BROKEN, Broker, PublishFailed
from joblease.leases import LeaseHeld, LeaseMissing, LeaseUnknown, job_blob
from joblease.messages import ControlMessage, JobEvent, JobMessage, State, Status
from joblease.topology import DEAD, DEFERRALS_HEADER, JOBS, REASON_HEADER, defer_queue
from joblease.trail import AuditTrail, Head, HeadChanged, NewEvent, UnknownJob
from pydantic import ValidationError
from structlog.contextvars import bind_contextvars

from joblease_worker import metrics
from joblease_worker.announcer import Announcer
from joblease_worker.claim import Conflict, Skip, claim, take_leases
from joblease_worker.run import Fenced, Run, Why

if TYPE_CHECKING:
    from aio_pika.abc import AbstractIncomingMessage

    from joblease_worker.keeper import Keeper
    from joblease_worker.runner import ProcessPool
    from joblease_worker.settings import WorkerSettings

log = logging.getLogger(__name__)

ERRORS_HEADER = "x-joblease-errors"
MAX_ERRORS = 5
"""Deliveries that may fail for a reason nobody foresaw, before the message is parked."""


class Consumer:
    """Handles the messages of the jobs queue and of the control exchange."""

    def __init__(
        self, settings: "WorkerSettings", broker: Broker, trail: AuditTrail, keeper: "Keeper", pool: "ProcessPool"
    ) -> None:
        self._settings = settings
        self._broker = broker
        self._trail = trail
        self._keeper = keeper
        self._pool = pool
        self._runs: dict[str, Run] = {}
        self._deliveries: set[asyncio.Task[None]] = set()
        self._draining = False
        # The prefetch bounds deliveries per connection; after a reconnect, those of the lost one may still be running.
        self._capacity = asyncio.Semaphore(settings.worker_concurrency)

    @property
    def running(self) -> list[str]:
        """Ids of the jobs that run here."""
        return list(self._runs)

    @property
    def unacknowledged(self) -> int:
        """Deliveries that are not settled yet."""
        return len(self._deliveries)

    async def on_job(self, delivery: "AbstractIncomingMessage") -> None:
        """Handle a delivery in a task of its own, which `drain` can wait for."""
        task = asyncio.create_task(self._handle(delivery), name=f"delivery {delivery.message_id}")
        self._deliveries.add(task)
        task.add_done_callback(self._deliveries.discard)

    async def on_control(self, delivery: "AbstractIncomingMessage") -> None:
        """Obey an order, if it is about a job that runs here."""
        async with delivery.process(ignore_processed=True):
            try:
                control = ControlMessage.model_validate_json(delivery.body)
            except ValidationError as error:
                log.warning("unreadable control message dropped: %s", error)
                return
            if run := self._runs.get(control.job_id):
                run.stop(Why.CANCEL)

    async def drain(self, grace: float) -> None:
        """Let running jobs end within `grace` seconds, then hand the others back."""
        if self._deliveries:
            log.info("shutting down: %d job(s) may go on for %.0f s", len(self._deliveries), grace)
            await asyncio.wait(self._deliveries, timeout=grace)
        self._draining = True
        for run in self._runs.values():
            run.stop(Why.DRAIN)
        if self._deliveries:
            await asyncio.wait(self._deliveries)

    async def _handle(self, delivery: "AbstractIncomingMessage") -> None:
        try:
            message = JobMessage.model_validate_json(delivery.body)
        except ValidationError as error:
            problem = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
            await self._settle(delivery, self._park(delivery, "unreadable", f"not a job message: {problem}"))
            return
        traceparent = tracing.child_of(str(delivery.headers.get(tracing.HEADER) or ""))
        with logs.bind(
            job=message.job_id,
            attempt=message.head.attempt + 1 if message.head else None,
            worker=self._settings.worker_name,
            trace=tracing.trace_id(traceparent),
        ):
            try:
                async with self._capacity:
                    if self._draining:
                        return  # not acknowledged: the broker delivers it to another worker
                    await self._work(delivery, message, traceparent)
            except UnknownJob as error:
                await self._settle(delivery, self._park(delivery, "no trail", str(error)))
            except (AzureError, LeaseHeld, LeaseUnknown, PublishFailed) as error:
                log.warning("deferred: %s", error)
                await self._settle(delivery, self._defer(delivery, message, "storage"))
            except Exception:
                log.exception("an unforeseen error; the job will be tried again")
                await self._settle(delivery, self._after_error(delivery, message))

    async def _work(self, delivery: "AbstractIncomingMessage", message: JobMessage, traceparent: str) -> None:
        run = Run(self._settings, self._trail, self._pool, message, traceparent)
        try:
            leases = await take_leases(self._keeper, message, run.lease_lost)
        except LeaseMissing:
            await self._without_blob(delivery, message, traceparent)
            return
        except Conflict as conflict:
            log.info("deferred: %s", conflict)
            await self._note_deferral(delivery, message, conflict, traceparent)
            await self._settle(delivery, self._defer(delivery, message, conflict.reason))
            return
        async with Announcer(self._broker, traceparent) as announcer:
            head: Head | None = None
            outcome: list[JobEvent] = []
            self._runs[message.job_id] = run  # before the claim: an order that comes in between must find it
            if self._draining:
                run.stop(Why.DRAIN)
            try:
                claimed = await claim(self._trail, message, self._settings.worker_name)
                head = claimed.head
                events = claimed.events
                if claimed.recovered:
                    with contextlib.suppress(AzureError):  # what the lists lack is still in the trail
                        events = await self._trail.history(message.job_id)
                bind_contextvars(attempt=head.attempt)
                if head.state.terminal:
                    outcome = events
                else:
                    await announcer.announce(events)
                    leases.describe(self._holder(message, head))
                    head, outcome = await run.execute(claimed, leases, announcer)
            except Skip as skip:
                log.info("skipped: %s", skip)
                head = await self._repeat_events(message.job_id, announcer)
            except Fenced as fenced:
                log.warning("given up: %s", fenced)
            finally:
                self._runs.pop(message.job_id, None)
                await leases.release(finished=bool(head and head.state.terminal))
            await announcer.announce(outcome)
            if not await announcer.finished():
                raise PublishFailed(f"not every event of {message.job_id} was announced")
        if run.why is Why.LOST:
            await self._settle(delivery, self._defer(delivery, message, "lost"))
        elif head and head.state is State.INTERRUPTED:
            await self._settle(delivery, self._hand_back(delivery, message))
        else:
            await self._settle(delivery)

    def _holder(self, message: JobMessage, head: Head) -> dict[str, str]:
        """What the blobs say about who holds them."""
        return {
            "worker": self._settings.worker_name,
            "namespace": message.namespace,
            "jobId": message.job_id,
            "epoch": str(head.epoch),
        }

    async def _without_blob(self, delivery: "AbstractIncomingMessage", message: JobMessage, traceparent: str) -> None:
        """A job without a lease blob has ended, or else the blob is made and the job tried again at once."""
        head = await self._trail.head(message.job_id)
        if not head.state.terminal:
            lease = await self._keeper.acquire(job_blob(message.job_id), lambda _: None, create=True)
            await self._keeper.release(lease)
            await self._work(delivery, message, traceparent)
            return
        log.info("skipped: the job is %s already", head.state)
        async with Announcer(self._broker, traceparent) as announcer:
            await self._repeat_events(message.job_id, announcer)
            if not await announcer.finished():
                raise PublishFailed(f"not every event of {message.job_id} was announced")
        await self._settle(delivery)

    async def _repeat_events(self, job_id: str, announcer: Announcer) -> Head:
        """Announce a job's history again: whoever missed an event hears it now, the others skip it."""
        head = await self._trail.head(job_id)
        await announcer.announce(await self._trail.history(job_id))
        return head

    async def _note_deferral(
        self, delivery: "AbstractIncomingMessage", message: JobMessage, conflict: Conflict, traceparent: str
    ) -> None:
        """Record the first deferral of a queued job; more of them would tell nothing new and cost a write each."""
        if _count(delivery, DEFERRALS_HEADER) or conflict.reason == "storage":
            return
        head = await self._trail.head(message.job_id)
        if head.state is not State.QUEUED:
            return
        with contextlib.suppress(HeadChanged):
            _, events = await self._trail.append(head, [NewEvent(Status.DEFERRED, str(conflict))])
            async with Announcer(self._broker, traceparent) as announcer:
                await announcer.announce(events)
                await announcer.finished()

    async def _after_error(self, delivery: "AbstractIncomingMessage", message: JobMessage) -> None:
        errors = _count(delivery, ERRORS_HEADER) + 1
        if errors > MAX_ERRORS:
            await self._park(delivery, "error", f"{errors} deliveries ended in an error; see the workers' logs")
        else:
            await self._defer(delivery, message, "error", {ERRORS_HEADER: errors})

    async def _defer(
        self,
        delivery: "AbstractIncomingMessage",
        message: JobMessage,
        reason: str,
        headers: dict[str, int] | None = None,
    ) -> None:
        deferrals = {DEFERRALS_HEADER: _count(delivery, DEFERRALS_HEADER) + 1}
        target = defer_queue(self._settings.worker_queue, self._settings.defer_seconds)
        await self._copy(delivery, "", target, message.encode(), deferrals | (headers or {}))
        metrics.DEFERRALS.labels(reason).inc()

    async def _hand_back(self, delivery: "AbstractIncomingMessage", message: JobMessage) -> None:
        """To another worker, now. The hint is out of date since this worker has written."""
        body = message.model_copy(update={"head": None}).encode()
        await self._copy(delivery, JOBS, self._settings.worker_queue, body, {})

    async def _park(self, delivery: "AbstractIncomingMessage", reason: str, message: str) -> None:
        log.error("parked in %s: %s", DEAD, message)
        await self._copy(delivery, "", DEAD, delivery.body, {REASON_HEADER: message[:1000]})
        metrics.DEAD_LETTERS.labels(reason).inc()

    async def _copy(
        self,
        delivery: "AbstractIncomingMessage",
        exchange: str,
        key: str,
        body: bytes,
        headers: dict[str, int] | dict[str, str],
    ) -> None:
        kept = {name: value for name, value in delivery.headers.items() if name in (tracing.HEADER, ERRORS_HEADER)}
        message_id = delivery.message_id or "unnamed"
        await self._broker.publish(exchange, key, body, message_id=message_id, headers={**kept, **headers})

    async def _settle(
        self, delivery: "AbstractIncomingMessage", before: Coroutine[Any, Any, None] | None = None
    ) -> None:
        """Do what must be safe first, then acknowledge; when that fails, the broker delivers the message again."""
        try:
            if before:
                await before
        except PublishFailed as error:
            log.warning("the message goes back to the queue: %s", error)
            with contextlib.suppress(*BROKEN):
                await delivery.nack(requeue=True)
            return
        try:
            await delivery.ack()
        except BROKEN as error:
            log.info("not acknowledged, the channel is gone; the next delivery will be skipped: %s", error)


def _count(delivery: "AbstractIncomingMessage", header: str) -> int:
    value = delivery.headers.get(header)
    return value if isinstance(value, int) else 0
