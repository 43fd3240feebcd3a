"""One run of one job, under its claim: the handler in its process, every step in the trail, one ending.

A run is a task group. One task has the handler, and passes on what it says; one writes that into the trail; one ends
the handler when it is to stop. They meet in a queue of things said, whose last one is the handler's ending. When any of
them fails, the others are cancelled, the handler's process is killed, and the run ends with that reason.
"""

import asyncio
import contextlib
import json
import logging
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from joblease.clock import boot_seconds
from joblease.errors import unforeseen
from joblease.head import Head
from joblease.messages import JobEvent, JobMessage, Status, now
from joblease.rows import compact
from joblease.states import State
from joblease.trail import MAX_EVENTS, AuditTrail, NewEvent, fitting

from joblease_worker import metrics
from joblease_worker.closing import Why, closing
from joblease_worker.ending import DIED, UNSTARTED
from joblease_worker.pool import Ending, HandlerProcess, ProcessPool, StartFailed
from joblease_worker.record import CancelRequested, Fenced, Record

if TYPE_CHECKING:
    from joblease_worker.announcer import Announcer
    from joblease_worker.locks import RunLeases
    from joblease_worker.settings import WorkerSettings

log = logging.getLogger(__name__)

KILL_SECONDS = 5.0
"""Within which the kernel ends a process that was killed, or else the run ends without it."""
CHECKPOINT_SECONDS = 5.0
"""For which a checkpoint waits for a step to be written with."""
LOOK_SECONDS = 1.0
"""How often a deadline is looked at: asyncio's timers stand still while the machine sleeps."""


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
        self._loop = asyncio.get_running_loop()
        self._record: Record
        self._announcer: Announcer
        self._leases: RunLeases
        self._process: HandlerProcess | None = None
        self._said: asyncio.Queue[NewEvent | Ending | Mapping[str, Any]] = asyncio.Queue(MAX_EVENTS - 1)
        self._unwritten: list[NewEvent] = []
        self._checkpoint = ""
        """The last one, unwritten yet, as compact JSON."""
        self._checkpoint_due: float | None = None
        """When it is to be written, whether or not anything else is (the loop's time)."""
        self._stopping = asyncio.Event()
        self.why: Why | None = None

    def stop(self, why: Why) -> None:
        """Have the handler end, in its grace period, which begins with the first order. The greatest reason stands."""
        self.why = max(self.why or why, why)
        self._stopping.set()

    def lease_lost(self, reason: str) -> None:
        """Kill the handler now: somebody else may hold the lease soon. May be called from any thread."""
        log.error("lease lost, the handler is killed: %s", reason)
        with contextlib.suppress(RuntimeError):  # this worker's loop has ended
            self._loop.call_soon_threadsafe(self.stop, Why.LOST)  # before the process's end can be noticed
        if process := self._process:
            process.kill("the lease was lost")

    async def execute(self, head: Head, leases: "RunLeases", announcer: "Announcer") -> tuple[Head, list[JobEvent]]:
        """Run the handler to its end and record it. Raises `Fenced`.

        `head` is the job's as it was claimed. Returns the head as this run left it, and the last events, which are not
        announced yet: whoever hears of the end sends the next job, and must find the leases free.
        """
        self._record = Record(self._trail, head, lambda: announcer.said, lambda: self.why is Why.LOST)
        self._leases, self._announcer = leases, announcer
        started = boot_seconds()
        metrics.JOB_QUEUE_WAIT_SECONDS.observe(max(0.0, (now() - head.submitted_at).total_seconds()))
        label = self._message.handler if self._message.handler in self._pool.handlers else "unknown"
        if head.cancel_requested:
            self.stop(Why.CANCEL)
        with metrics.JOBS_RUNNING.track_inprogress():
            ending = await self._converse()
        last_events = await self._finish(ending)
        metrics.JOB_DURATION_SECONDS.labels(label).observe(boot_seconds() - started)
        metrics.JOBS_FINISHED.labels(label, self._record.head.state.value).inc()
        log.info("%s: %s", self._record.head.state.value, ending.error or ending.how)
        return self._record.head, last_events

    async def _converse(self) -> Ending:
        """Hear the handler out. Raises `Fenced`.

        Ends with the handler, which ends when it is to stop; while the trail cannot be written, with the lease.
        """
        deadline = self._deadline()
        try:
            async with asyncio.TaskGroup() as members:
                handler = members.create_task(self._run_handler(), name="handler")
                stopper = members.create_task(self._stop_in_time(handler, deadline), name="stopper")
                ending = await self._write_steps()
                handler.cancel()
                stopper.cancel()
        except ExceptionGroup as failures:
            error = failures.exceptions[0]
            if isinstance(error, Fenced):
                raise error from None
            log.exception("the run failed")
            self._unwritten.clear()  # a write was cut short: the trail may have them
            return Ending(DIED, error=f"{type(error).__name__}: {error}")
        return ending

    async def _run_handler(self) -> None:
        """Run the handler; each step, and its ending at last, is passed on to the writer."""
        try:
            async with self._pool.process() as process:
                ending = Ending(UNSTARTED) if self._stopping.is_set() else await self._run_in(process)
        except StartFailed as error:
            ending = Ending(DIED, error=str(error))
        await self._said.put(ending)

    async def _run_in(self, process: HandlerProcess) -> Ending:
        self._process, ending = process, None
        try:
            self._leases.guard(process.pid)
            ending = await process.run(self._context(), self._leases.deadline, self._on_said, self._log_fields())
            if self.why in (Why.DEADLINE, Why.CANCEL) and not ending.traceback:
                ending = replace(ending, traceback=process.stood())
            return ending
        finally:
            if ending is None or self._stopping.is_set():  # what it does, or has left behind, must not go on
                process.kill("the run has ended")
            self._process = None
            self._leases.guard(None)

    async def _on_said(self, said: Mapping[str, Any]) -> None:
        if "checkpoint" in said:
            await self._said.put(said["checkpoint"])
            return
        progress = said["progress"]
        percent = None if progress is None else round(progress * 100)
        word = Status.step(said["step"])
        await self._said.put(NewEvent(word, said["message"], percent, said["data"], now(), state=State.RUNNING))

    def _context(self) -> dict[str, Any]:
        message, head = self._message, self._record.head
        return {
            "id": message.job_id,
            "name": message.name,
            "namespace": message.namespace,
            "handler": message.handler,
            "parameters": message.parameters,
            "input_file_path": message.input_file_path,
            "description": message.description,
            "attempt": head.attempt,
            "epoch": head.epoch,
            "worker": self._settings.worker_name,
            "traceparent": self._traceparent,
            "last_checkpoint": json.loads(head.checkpoint) if head.checkpoint else None,
        }

    def _log_fields(self) -> dict[str, Any]:
        attempt = self._record.head.attempt
        return {"job": self._message.job_id, "attempt": attempt, "worker": self._settings.worker_name}

    def _deadline(self) -> float | None:
        """When the attempt must end, which may have begun on another worker; as `boot_seconds` counts."""
        seconds, began = self._message.active_deadline_seconds, self._record.head.attempt_started_at
        if not seconds:
            return None
        used = max(0.0, (now() - began).total_seconds()) if began else 0.0
        if used >= seconds:
            self.stop(Why.DEADLINE)
        return boot_seconds() + seconds - used

    async def _stop_in_time(self, handler: asyncio.Task[None], deadline: float | None) -> None:
        """End the handler at its deadline or when it is to stop: ask it, wait, kill it. Cancelled when it ends."""
        if deadline is not None:
            await self._wait_until(deadline)
        await self._stopping.wait()
        process, grace = self._process, self._settings.cancel_grace_seconds
        if process is None:
            return  # the handler was not called, and will not be
        if self.why is Why.LOST:  # again: `lease_lost` kills what it finds, on a thread of its own
            process.kill("the lease was lost")
        else:
            process.ask_to_stop(self._message.job_id)
            await asyncio.wait({handler}, timeout=grace)
            if self._process:
                process.kill(f"the handler did not end within {grace:g} s of being asked to, and was killed")
        await asyncio.wait({handler}, timeout=KILL_SECONDS)
        if not handler.done() and _exists(process.pid):
            raise TimeoutError(f"the handler's process did not end within {KILL_SECONDS:g} s of being killed")

    async def _wait_until(self, deadline: float) -> None:
        while not self._stopping.is_set():
            left = deadline - boot_seconds()
            if left <= 0:
                self.stop(Why.DEADLINE)
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, LOOK_SECONDS)):
                    await self._stopping.wait()

    async def _write_steps(self) -> Ending:
        """Write steps as they come, until the ending; those that arrive during a write go into the next one."""
        while True:
            for each in await self._hear():
                if isinstance(each, Ending):  # the last one: what is unwritten goes with the closing event
                    return each
                if isinstance(each, NewEvent):
                    self._unwritten.append(each)
                else:
                    self._checkpoint = compact(each)
                    self._checkpoint_due = self._checkpoint_due or self._loop.time() + CHECKPOINT_SECONDS
            if not self._unwritten and (self._checkpoint_due or math.inf) > self._loop.time():
                continue
            try:
                await self._flush()
            except Fenced:
                raise
            except Exception as error:  # noqa: BLE001 - the attempt has failed by it, and nothing else has
                return self._unrecorded("a step", error)

    async def _hear(self) -> list[NewEvent | Ending | Mapping[str, Any]]:
        """What was said since, as soon as something was; nothing when a checkpoint is due before."""
        said: list[NewEvent | Ending | Mapping[str, Any]] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self._checkpoint_due):
                said.append(await self._said.get())
        return said + [self._said.get_nowait() for _ in range(self._said.qsize())]

    async def _flush(self, last: NewEvent | None = None) -> None:
        """Write and announce steps, and the checkpoint; what fits into one transaction with the `last` event not."""
        while self._unwritten or (self._checkpoint and not last):
            count = fitting([*self._unwritten, last] if last else self._unwritten)
            if count > len(self._unwritten):
                return
            whole = count == len(self._unwritten)  # a checkpoint says that the steps before it were done
            try:
                written = await self._record.write(
                    self._unwritten[:count], checkpoint=self._checkpoint if whole else ""
                )
            except CancelRequested:
                self.stop(Why.CANCEL)
                continue
            del self._unwritten[:count]
            if whole:
                self._checkpoint, self._checkpoint_due = "", None
            await self._announcer.announce(written)

    def _unrecorded(self, what: str, error: Exception) -> Ending:
        """Give up what storage refuses; the rest goes with it, or there would be a gap.

        For good, unless nobody foresaw it: then the next attempt may fare better.
        """
        ours = unforeseen(error)
        log.error("%s cannot be recorded: %s", what, error, exc_info=error if ours else None)
        self._unwritten.clear()
        self._checkpoint, self._checkpoint_due = "", None
        text = f"{what} cannot be recorded: {type(error).__name__}: {error}"
        return Ending(DIED if ours else State.FAILED, error=text[:500].encode("ascii", "backslashreplace").decode())

    async def _finish(self, ending: Ending) -> list[JobEvent]:
        """Write the last steps and the closing event in one transaction. Raises `Fenced`.

        Ends with an answer of storage, or with the lease.
        """
        said = ending
        while True:
            if boot_seconds() > self._leases.deadline:  # this worker stood still, and its keeper with it
                self.stop(Why.LOST)
            try:
                if self.why is Why.LOST:
                    await self._flush()
                    raise Fenced("the lease was lost")
                attempt, worker = self._record.head.attempt, self._settings.worker_name
                end = closing(self._message, attempt, worker, ending, self.why)
                await self._flush(end.event)
                events = [*self._unwritten, end.event]
                return await self._record.write(events, checkpoint=self._checkpoint, **end.changes)
            except CancelRequested:
                self.stop(Why.CANCEL)
            except Fenced:
                raise
            except Exception as error:
                if ending is not said:  # not even that
                    raise
                ending = self._unrecorded("the outcome", error)


def _exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
