"""One run of one job, under its claim: the handler in its process, every step in the trail, one ending.

Three things can go on at the same time: the handler speaks, the trail is written, and somebody wants it to stop. They
meet in `_Stop` (the first reason wins, except that a lost lease beats all) and in `_record`, through which every
write goes and which knows whether the job is still ours.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import AzureError
from joblease import backoff
from joblease.messages import JobEvent, JobMessage, State, Status, now, rfc3339
from joblease.trail import MAX_EVENTS, AuditTrail, Head, HeadChanged, NewEvent

from joblease_worker import metrics
from joblease_worker.runner import Ending, HandlerProcess, ProcessPool, StartFailed

if TYPE_CHECKING:
    from joblease_worker.announcer import Announcer
    from joblease_worker.claim import Claim, Leases
    from joblease_worker.settings import WorkerSettings

log = logging.getLogger(__name__)

TRAIL_RETRY_SECONDS = 1.0


class Fenced(Exception):
    """The job is not ours any more: another worker has claimed it, or it has its outcome."""


class Why(Enum):
    """Why a run is stopped before its handler returns."""

    CANCEL = "cancelled"
    DEADLINE = "deadline exceeded"
    DRAIN = "the worker shuts down"
    LOST = "the lease was lost"


class Run:
    """A claimed job's run."""

    def __init__(
        self, settings: "WorkerSettings", trail: AuditTrail, pool: ProcessPool, message: JobMessage, traceparent: str
    ) -> None:
        self._settings = settings
        self._trail = trail
        self._pool = pool
        self._message = message
        self._traceparent = traceparent
        self._head: Head
        self._announcer: Announcer
        self._leases: Leases
        self._process: HandlerProcess | None = None
        self._steps: asyncio.Queue[NewEvent] = asyncio.Queue(MAX_EVENTS - 1)
        self._killer: asyncio.Task[None] | None = None
        self._fenced: Fenced | None = None
        self.why: Why | None = None

    def stop(self, why: Why) -> None:
        """Ask the handler to end; kill it after the grace period. The first reason wins."""
        if self.why is None:
            self.why = why
            self._killer = asyncio.create_task(self._kill_after_grace(why), name="killer")

    def lease_lost(self, reason: str) -> None:
        """Kill the handler now: somebody else may hold the lease soon. May be called from any thread."""
        self.why = Why.LOST
        log.error("lease lost, the handler is killed: %s", reason)
        process = self._process
        if process:
            process.kill(Why.LOST.value)

    async def execute(self, claimed: "Claim", leases: "Leases", announcer: "Announcer") -> tuple[Head, list[JobEvent]]:
        """Run the handler to its end and record it. Raises `Fenced`.

        Returns the head as this run left it, and the last events, which are not announced yet: whoever hears of the
        end sends the next job, and must find the leases free.
        """
        self._head, self._leases, self._announcer = claimed.head, leases, announcer
        started = time.monotonic()
        metrics.JOB_QUEUE_WAIT_SECONDS.observe(max(0.0, (now() - claimed.head.submitted_at).total_seconds()))
        label = self._message.handler if self._message.handler in self._pool.handlers else "unknown"
        with metrics.JOBS_RUNNING.track_inprogress():
            ending = await self._run_handler()
        last_events = await self._finish(ending)
        metrics.JOB_DURATION_SECONDS.labels(label).observe(time.monotonic() - started)
        metrics.JOBS_FINISHED.labels(label, self._head.state.value).inc()
        log.info("%s: %s", self._head.state.value, ending.error or ending.kind)
        return self._head, last_events

    async def _run_handler(self) -> Ending:
        async with AsyncExitStack() as stack:
            try:
                self._process = await stack.enter_async_context(self._pool.process())
            except StartFailed as error:
                return Ending("died", error=str(error))
            stack.callback(self._let_go)
            self._leases.guard(self._process.pid)
            if self.why:  # it was to stop before it began
                return Ending("stopped")
            writer = asyncio.create_task(self._write_steps(), name="steps")
            deadline = asyncio.create_task(self._watch_deadline(), name="deadline")
            try:
                return await self._process.run(
                    self._context(), self._leases.deadline, self._on_step, self._log_fields()
                )
            except asyncio.CancelledError:
                self._process.kill("the worker was stopped")
                raise
            finally:
                for task in filter(None, (writer, deadline, self._killer)):
                    task.cancel()
                    with suppress(asyncio.CancelledError):
                        await task

    def _let_go(self) -> None:
        """The process is not ours any more: another job may use it next, unless this one had to be stopped."""
        if self.why and self._process:  # what the handler started and left behind must not go on
            self._process.kill(self.why.value)
        self._process = None
        self._leases.guard(None)

    def _context(self) -> dict[str, Any]:
        message = self._message
        return {
            "id": message.job_id,
            "name": message.name,
            "namespace": message.namespace,
            "handler": message.handler,
            "parameters": message.parameters,
            "input_file_path": message.input_file_path,
            "description": message.description,
            "attempt": self._head.attempt,
            "epoch": self._head.epoch,
            "worker": self._settings.worker_name,
            "traceparent": self._traceparent,
        }

    def _log_fields(self) -> dict[str, Any]:
        return {"job": self._message.job_id, "attempt": self._head.attempt, "worker": self._settings.worker_name}

    async def _watch_deadline(self) -> None:
        if self._message.active_deadline_seconds:
            await asyncio.sleep(self._message.active_deadline_seconds)
            self.stop(Why.DEADLINE)

    async def _kill_after_grace(self, why: Why) -> None:
        if self._process:
            self._process.ask_to_stop(self._message.job_id)
        await asyncio.sleep(self._settings.cancel_grace_seconds)
        if self._process:
            self._process.kill(why.value)

    async def _on_step(self, step: Mapping[str, Any]) -> None:
        progress = step["progress"]
        percent = None if progress is None else round(progress * 100)
        word = Status.step(step["step"])
        await self._steps.put(NewEvent(word, step["message"], percent, step["data"], now(), state=State.RUNNING))

    def _waiting_steps(self) -> list[NewEvent]:
        return [self._steps.get_nowait() for _ in range(self._steps.qsize())]

    async def _write_steps(self) -> None:
        """Write steps as they come; those that arrive during a write go together into the next one."""
        while True:
            steps = [await self._steps.get(), *self._waiting_steps()]
            write = asyncio.ensure_future(self._tell(steps))
            try:
                await asyncio.shield(write)
            except asyncio.CancelledError:  # the run ends: let the write end too, then the last one follows
                await write
                raise
            while self._fenced:  # what is still said is not heard, but must not block
                await self._steps.get()

    async def _tell(self, steps: list[NewEvent]) -> None:
        """Write steps to the trail, and announce them."""
        try:
            await self._announcer.announce(await self._record(steps))
        except Fenced as fenced:  # nothing may follow these steps without them
            self._fenced = fenced
            self.lease_lost(str(fenced))

    async def _record(self, events: list[NewEvent], **changes: Any) -> list[JobEvent]:
        """Write to the trail as this run. Raises `Fenced`.

        Somebody else may have touched the head (a cancel request, a deferral): that is read and respected. Storage
        trouble is waited out for as long as the lease is ours; after that, what was said is tried once more, so that
        the trail can tell how far the run came, but no outcome is.
        """
        moment, mark = now(), secrets.token_hex(8)  # the same for each try: one that went through is recognised
        events = [replace(event, timestamp=event.timestamp or moment) for event in events]
        while True:
            if self.why is Why.LOST and changes.get("state") not in (None, State.INTERRUPTED):
                raise Fenced(Why.LOST.value)
            try:
                self._head, written = await self._trail.append(self._head, events, write=mark, **changes)
            except HeadChanged as changed:
                current = changed.current
                if current.epoch != self._head.epoch or current.state is not State.RUNNING:
                    raise Fenced(str(changed)) from None
                self._head = current
                if current.cancel_requested:
                    self.stop(Why.CANCEL)
                if changed.written:
                    return changed.written
            except AzureError as error:
                if self.why is Why.LOST:
                    raise Fenced(Why.LOST.value) from None
                log.warning("the audit trail cannot be written, trying again: %s", error)
                await asyncio.sleep(TRAIL_RETRY_SECONDS)
            else:
                return written

    async def _finish(self, ending: Ending) -> list[JobEvent]:
        """Write the last steps and the ending in one transaction. Raises `Fenced`."""
        if self._fenced:
            raise self._fenced
        if self.why is not Why.LOST and time.monotonic() > self._leases.deadline:
            self.lease_lost("this worker was stopped for longer than its lease")  # before the keeper could say so
        changes, last = self._last_event(ending)
        return await self._record([*self._waiting_steps(), last], **changes)

    def _last_event(self, ending: Ending) -> tuple[dict[str, Any], NewEvent]:
        if self.why is Why.LOST:
            return {"state": State.INTERRUPTED}, NewEvent(
                Status.INTERRUPTED, "the lease was lost; another worker goes on"
            )
        if ending.kind == "completed":
            data = None if ending.result is None else {"result": ending.result}
            return {"state": State.COMPLETED}, NewEvent(
                Status.COMPLETED, f"attempt {self._head.attempt} completed", 100, data
            )
        if self.why is Why.CANCEL:
            return {"state": State.CANCELLED}, NewEvent(Status.CANCELLED, "cancelled while it was running")
        if self.why is Why.DRAIN:
            return {"state": State.INTERRUPTED}, NewEvent(
                Status.INTERRUPTED, f"{self._settings.worker_name} shuts down; another worker goes on"
            )
        if self.why is Why.DEADLINE:
            text = f"did not end within activeDeadlineSeconds ({self._message.active_deadline_seconds:g} s)"
            return self._failure(Ending("failed", error=text), State.DEADLINE_EXCEEDED)
        return self._failure(ending, State.FAILED)

    def _failure(self, ending: Ending, outcome: State) -> tuple[dict[str, Any], NewEvent]:
        """A failed attempt: another one later, or the job's outcome."""
        retry = self._message.retry
        data: dict[str, Any] = {"error": ending.error or "the handler stopped without being asked to"}
        if ending.traceback:
            data["traceback"] = ending.traceback
        text = f"attempt {self._head.attempt} of {retry.max_attempts} failed: {data['error']}"
        if ending.permanent or self._head.attempt >= retry.max_attempts:
            data["reason"] = outcome.value
            return {"state": outcome}, NewEvent(Status.FAILED, text, data=data)
        pause: timedelta = backoff.delay(retry, self._head.attempt)
        due = now() + pause
        data["nextAttemptAt"] = rfc3339(due)
        text += f"; next attempt in {pause.total_seconds():.0f} s"
        return {"state": State.RETRYING, "next_attempt_at": due}, NewEvent(Status.RETRYING, text, data=data)
