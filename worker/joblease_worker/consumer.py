"""Consumes jobs and orders from the broker, and drains the worker at its end.

Each delivery gets exactly one verdict and is settled by it (`settlement`), after its outcome is safe elsewhere.
Whatever goes wrong, there is a verdict: what may pass is deferred; what nobody foresaw is deferred and counted; what
came back too often is parked, and its job ends. When the broker cannot be told, it delivers the message again: every
step here may be repeated.
"""

import asyncio
import logging
from typing import TYPE_CHECKING

from joblease import tracing
from joblease.broker import Broker, acknowledge
from joblease.errors import ErrorClass, classify, log_level
from joblease.messages import ControlMessage, JobMessage
from joblease.topology import DELIVERY_LIMIT
from joblease.trail import AuditTrail, UnknownJob
from pydantic import ValidationError
from structlog.contextvars import bind_contextvars

from joblease_worker.closing import Why
from joblease_worker.parking import Parking
from joblease_worker.run import KILL_SECONDS
from joblease_worker.settlement import ERRORS_HEADER, Deferred, HandedBack, Parked, Settlement, Verdict, count
from joblease_worker.work import Work

if TYPE_CHECKING:
    from aio_pika.abc import AbstractIncomingMessage

    from joblease_worker.keeper import Keeper
    from joblease_worker.pool import ProcessPool
    from joblease_worker.session import Session
    from joblease_worker.settings import WorkerSettings

log = logging.getLogger(__name__)

MAX_ERRORS = 5
"""Times that a message may come back for a reason nobody foresaw, before it is parked."""
DELIVERIES_HEADER = "x-delivery-count"
"""RabbitMQ's count of the deliveries of a message that were not settled."""


class Consumer:
    """Handles the messages of the jobs queue and of the control exchange."""

    def __init__(
        self,
        settings: "WorkerSettings",
        broker: Broker,
        trail: AuditTrail,
        keeper: "Keeper",
        session: "Session",
        pool: "ProcessPool",
    ) -> None:
        self._settings = settings
        self._work = Work(settings, broker, trail, keeper, session, pool)
        self._parking = Parking(trail, self._work.is_over, broker)
        self._settlement = Settlement(settings, broker)
        self._deliveries: set[asyncio.Task[None]] = set()
        self._draining = False
        # The prefetch bounds deliveries per connection; after a reconnect, those of the lost one may still be running.
        self._capacity = asyncio.Semaphore(settings.worker_concurrency)

    @property
    def running(self) -> list[str]:
        """Ids of the jobs that run here."""
        return list(self._work.runs)

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
        """Obey an order, if it is about a job that runs here. It may be repeated."""
        try:
            control = ControlMessage.model_validate_json(delivery.body)
        except ValidationError as error:
            log.warning("unreadable control message dropped: %s", error)
        else:
            if run := self._work.runs.get(control.job_id):
                run.stop(Why.CANCEL)
        await acknowledge(delivery)

    async def drain(self, grace: float) -> None:
        """Let running jobs end within `grace` seconds, then hand the others back.

        A run that is stopped ends after its handler's grace period, or, while storage is away, with its lease. What is
        not settled then is given up: the broker delivers it again.
        """
        if self._deliveries:
            log.info("shutting down: %d job(s) may go on for %.0f s", len(self._deliveries), grace)
            await asyncio.wait(self._deliveries, timeout=grace)
        self._draining = True
        self._work.drain()
        if self._deliveries:
            patience = self._settings.cancel_grace_seconds + self._settings.lease_seconds
            await asyncio.wait(self._deliveries, timeout=patience)
        if left := list(self._deliveries):
            log.error("%d job(s) could not be handed back in time", len(left))
            for task in left:
                task.cancel()
            await asyncio.wait(left, timeout=KILL_SECONDS)

    async def _handle(self, delivery: "AbstractIncomingMessage") -> None:
        traceparent = tracing.child_of(str(delivery.headers.get(tracing.HEADER) or ""))
        bind_contextvars(worker=self._settings.worker_name, trace=tracing.trace_id(traceparent))  # of this task alone
        async with self._capacity:
            await self._settlement.settle(delivery, await self._judge(delivery, traceparent))

    async def _judge(self, delivery: "AbstractIncomingMessage", traceparent: str) -> Verdict:
        """Do what a message asks for. Raises nothing."""
        if self._draining:
            return HandedBack()
        if count(delivery, DELIVERIES_HEADER) >= DELIVERY_LIMIT // 2:
            log.error("%s was delivered again and again, and nobody said why", delivery.message_id)
            return await self._after_error(delivery, traceparent)  # not at the broker's limit, without a reason
        try:
            return await self._read(delivery, traceparent)
        except UnknownJob as error:
            return Parked("no trail", str(error))
        except Exception as error:
            if classify(error) is ErrorClass.TRANSIENT:
                log.log(log_level(error), "deferred: %s", error)
                return Deferred("storage")
            log.exception("an unforeseen error; the job will be tried again")
            return await self._after_error(delivery, traceparent)

    async def _read(self, delivery: "AbstractIncomingMessage", traceparent: str) -> Verdict:
        try:
            message = JobMessage.model_validate_json(delivery.body)
        except ValidationError as error:
            problem = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
            return await self._parking.park(
                delivery, Parked("unreadable", f"not a job message: {problem}"), traceparent
            )
        bind_contextvars(job=message.job_id, attempt=message.head.attempt + 1 if message.head else None)
        return await self._work.do(delivery, message, traceparent)

    async def _after_error(self, delivery: "AbstractIncomingMessage", traceparent: str) -> Verdict:
        errors = count(delivery, ERRORS_HEADER) + 1
        if errors <= MAX_ERRORS:
            return Deferred("error", ERRORS_HEADER)
        text = f"{errors} deliveries ended in an error; see the workers' logs"
        return await self._parking.park(delivery, Parked("error", text), traceparent)
