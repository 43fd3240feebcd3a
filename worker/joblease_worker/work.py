"""From a readable message to the verdict about it: the leases, the claim, the run, and what is said about them."""

import contextlib
import logging
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from joblease.broker import Broker
from joblease.errors import ErrorClass, classify, log_level
from joblease.head import Head
from joblease.messages import JobEvent, JobMessage, Status
from joblease.states import State
from joblease.topology import DEFERRALS_HEADER
from joblease.trail import AuditTrail, HeadChanged, NewEvent
from structlog.contextvars import bind_contextvars

from joblease_worker.announcer import Announcer, Reading
from joblease_worker.claim import Claim, NothingToRun, claim, hand_back, recent
from joblease_worker.closing import Why
from joblease_worker.conflict import Conflict
from joblease_worker.locks import RunLeases, take_leases
from joblease_worker.record import Fenced
from joblease_worker.run import Run
from joblease_worker.settlement import UNKNOWN_HANDLER_HEADER, Deferred, Done, HandedBack, Verdict, count

if TYPE_CHECKING:
    from aio_pika.abc import AbstractIncomingMessage

    from joblease_worker.keeper import Keeper
    from joblease_worker.pool import ProcessPool
    from joblease_worker.session import Session
    from joblease_worker.settings import WorkerSettings

log = logging.getLogger(__name__)

UNKNOWN_HANDLER_SECONDS = 60
"""How long a job whose handler is not here waits for a worker that has it: pods of two releases may serve a queue."""

POLICY_UNKNOWN = "no worker had announced its handler's policy when the job was admitted: it goes back into line"


class Work:
    """What a worker does with jobs; `runs` are those that it has claimed, by job id."""

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
        self._broker = broker
        self._trail = trail
        self._keeper = keeper
        self._session = session
        self._pool = pool
        self._draining = False
        self._in_hand: set[str] = set()
        """Jobs that a delivery is about, from before their leases are taken until they are given back."""
        self.runs: dict[str, Run] = {}

    def drain(self) -> None:
        """Stop all runs, and those that begin from now on: another worker is to have their jobs."""
        self._draining = True
        for run in self.runs.values():
            run.stop(Why.DRAIN)

    async def is_over(self, head: Head) -> bool:
        """Whether nobody runs a job under the claim in its head, nor ever will again. Raises as `Session.is_over`."""
        return head.job_id not in self._in_hand and await self._session.is_over(head)

    async def do(self, delivery: "AbstractIncomingMessage", message: JobMessage, traceparent: str) -> Verdict:
        """Run a job, if it is to run here and now. Raises `UnknownJob`, and what went wrong with storage."""
        run = Run(self._settings, self._trail, self._pool, message, traceparent)
        async with Announcer(self._broker, traceparent) as announcer:
            try:
                self._check_handler(delivery, message.handler)
                if message.provisional:
                    await self._give_back_for_policy(message)
                with self._taken(message.job_id):
                    leases = await take_leases(self._keeper, self._session, self._trail, message, run.lease_lost)
                    head, outcome = await self._run(run, message, leases, announcer)
            except Conflict as conflict:
                return await self._defer(delivery, message, conflict, announcer)
            except NothingToRun as nothing:
                log.info("skipped: %s", nothing)
                head, outcome = nothing.head, await recent(self._trail, nothing.head)
            except Fenced as fenced:
                log.warning("given up: %s", fenced)
                return Deferred("lost", soon=0)
            if not await announcer.finish(outcome):
                log.warning("not every event was announced; the next delivery tells them again")
                return Deferred("broker")
        return HandedBack() if head.state is State.INTERRUPTED else Done()

    @contextlib.contextmanager
    def _taken(self, job_id: str) -> "Iterator[None]":
        if job_id in self._in_hand:  # delivered again, since the connection of the first delivery was lost
            raise Conflict("lease", f"{self._settings.worker_name} has the job in hand", soon=0)
        self._in_hand.add(job_id)
        try:
            yield
        finally:
            self._in_hand.remove(job_id)

    def _check_handler(self, delivery: "AbstractIncomingMessage", handler: str) -> None:
        """Leave a job to workers that know its handler; one that has gone round for long fails here."""
        rounds = math.ceil(UNKNOWN_HANDLER_SECONDS / self._settings.defer_seconds)
        if handler not in self._pool.handlers and count(delivery, UNKNOWN_HANDLER_HEADER) < rounds:
            known = ", ".join(self._pool.handlers) or "none"
            raise Conflict(
                "unknown handler",
                f"{self._settings.worker_name} has no handler {handler!r} (it has {known}); "
                f"for {UNKNOWN_HANDLER_SECONDS} s it is tried on other workers",
                UNKNOWN_HANDLER_HEADER,
            )

    async def _give_back_for_policy(self, message: JobMessage) -> None:
        """Have a job admitted anew that no worker has begun, and whose handler's policy the operator did not know.

        Raises `NothingToRun` when it is; of another job, its rules are those under which it was begun.
        """
        handler = self._pool.handlers.get(message.handler)
        if handler is None or handler.policy is None:
            return
        head = await self._trail.head(message.job_id)
        while _is_to_be_given_back(head):
            event = NewEvent(Status.DEFERRED, POLICY_UNKNOWN, data={"handlerPolicy": handler.policy.plain()})
            try:
                head, _ = await self._trail.append(head, [event], state=State.SUBMITTED, policy=None)
            except HeadChanged as changed:
                head = changed.current
        if head.state is State.SUBMITTED or (head.policy and not head.policy.provisional):
            raise NothingToRun(head)

    async def _run(
        self, run: Run, message: JobMessage, leases: RunLeases, announcer: Announcer
    ) -> tuple[Head, Sequence[JobEvent | Reading]]:
        """Claim and run a job, and give the leases back; its head, and the events that nobody has heard of yet."""
        claimed: Claim | None = None
        outcome: Sequence[JobEvent | Reading]
        self.runs[message.job_id] = run  # before the claim: an order that comes in between must find it
        if self._draining:
            run.stop(Why.DRAIN)
        try:
            claimed = await claim(self._trail, message, self._settings.worker_name, leases, self._session.is_over)
            head = claimed.head
            outcome = [self._history(claimed)] if claimed.taken_over else claimed.events
            if not head.state.terminal:
                bind_contextvars(attempt=head.attempt)
                await announcer.announce(outcome)
                leases.describe(self._holder(message, head))
                head, outcome = await run.execute(head, leases, announcer)
        except Exception as error:
            if claimed:  # this worker lives on: others would wait for the end of its session
                await hand_back(self._trail, claimed.head, leases, error)
            raise
        finally:
            self.runs.pop(message.job_id, None)
            await leases.release()
        return head, outcome

    def _history(self, claimed: Claim) -> Reading:
        """What others can lack of a job's events up to its claim: read beside the run, which does not wait for it."""

        async def read() -> list[JobEvent]:
            try:
                events = await recent(self._trail, claimed.head)
            except Exception as error:
                text = "what an earlier worker has written is not announced again: %s"
                log.log(log_level(error), text, error, exc_info=classify(error) is ErrorClass.PERMANENT)
                return claimed.events
            return [event for event in events if event.sequence <= claimed.head.sequence]

        return read

    def _holder(self, message: JobMessage, head: Head) -> dict[str, str]:
        """What the blobs say about who holds them."""
        return {
            "worker": self._settings.worker_name,
            "namespace": message.namespace,
            "jobId": message.job_id,
            "epoch": str(head.epoch),
        }

    async def _defer(
        self, delivery: "AbstractIncomingMessage", message: JobMessage, conflict: Conflict, announcer: Announcer
    ) -> Verdict:
        """Record the first deferral of a queued job; more of them would tell nothing new and cost a write each."""
        log.info("deferred: %s", conflict)
        if conflict.reason != "storage" and not count(delivery, DEFERRALS_HEADER):
            head = await self._trail.head(message.job_id)
            if head.state is State.QUEUED:
                with contextlib.suppress(HeadChanged):
                    _, events = await self._trail.append(head, [NewEvent(Status.DEFERRED, str(conflict))])
                    await announcer.finish(events)
        return Deferred(conflict.reason, conflict.counter, conflict.soon)


def _is_to_be_given_back(head: Head) -> bool:
    """Whether a job was admitted provisionally, and nobody has begun it or cancelled it."""
    provisional = head.policy is not None and head.policy.provisional
    return provisional and head.state is State.QUEUED and not head.attempt and not head.cancel_requested
