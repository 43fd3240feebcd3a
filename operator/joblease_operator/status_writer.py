"""Writes statuses: few, late enough to be worth it, and never in the way of admitting jobs.

Transitions that follow each other within a moment (queued, running) become one write; an outcome is written at once;
progress is written every few seconds at most. The message of a waiting job names the holders of its group; it is
refreshed when the job is twice as old as at the last time, so that thousands of waiting jobs cost next to nothing. A
status that the API server already has is not written again: each write costs a revision in etcd and a message to every
watcher.

A status is not written before everybody has been told what it says, unless something keeps the operator from telling,
and then the status says so. That is how the next operator knows what may be left to tell.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from joblease.errors import ErrorClass, classify, log_level
from joblease.messages import now
from joblease.states import State

from joblease_operator.job import Body, Job
from joblease_operator.kube import Conflict, Gone, JobRequests
from joblease_operator.queue import WorkQueue
from joblease_operator.status import following, safe, stamp, status_of, without_times

if TYPE_CHECKING:
    from joblease_operator.scheduler import Scheduler
    from joblease_operator.settings import OperatorSettings

log = logging.getLogger(__name__)

DEBOUNCE_SECONDS = 0.1
END_SECONDS = 2.0
"""For what is still to be written when the operator ends."""
REFRESH_SECONDS = 60.0
"""Least time until the message of a waiting job changes: who holds the slot changes with every job that ends."""
VOLATILE = ("progress", "message")
_BEFORE_ITS_START = (None, State.SUBMITTED, State.QUEUED, State.INTERRUPTED, State.RETRYING)


class StatusWriter:
    """Use as an async context manager."""

    def __init__(
        self,
        settings: "OperatorSettings",
        requests: JobRequests,
        scheduler: "Scheduler",
        on_settled: Callable[[Job], None],
        on_gone: Callable[[Job], None],
    ) -> None:
        """`on_settled` is called with each job whose outcome has been written, `on_gone` when there is no resource."""
        self._settings = settings
        self._requests = requests
        self._scheduler = scheduler
        self._on_settled = on_settled
        self._on_gone = on_gone
        self._jobs: dict[str, Job] = {}
        self._queue = WorkQueue(self._write, workers=16)

    async def __aenter__(self) -> Self:
        await self._queue.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for uid in self._jobs:  # each by the one who writes it already, if somebody does
            self._queue.add(uid)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await self._queue.handled()
        await self._queue.__aexit__(kind, error, trace)

    def write(self, job: Job) -> None:
        """Have the job's status written if it is not what the API server has."""
        if job.gone or (job.settled and not job.written):
            self.forget(job.uid)
            return
        status = self._status(job)
        if without_times(status) != without_times(job.written):
            self._jobs[job.uid] = job
            self._queue.add(job.uid, 0 if job.finished else self._pause(job, status))
        elif job.finished and not job.trouble:
            self.forget(job.uid)
            job.mark_settled()
            self._on_settled(job)
        elif self._waits(job):  # the holder of its group may change without any event of this job
            self._jobs[job.uid] = job
            self._queue.add(job.uid, self._refresh(job))
        else:
            self.forget(job.uid)

    def forget(self, uid: str) -> None:
        """Drop what was to be written."""
        self._jobs.pop(uid, None)

    def _status(self, job: Job) -> Body:
        if job.settled:
            return following(job.written, job.generation)
        return status_of(job, self._scheduler.why_waiting(job.uid) if job.state in _BEFORE_ITS_START else None)

    def _waits(self, job: Job) -> bool:
        return job.state is State.SUBMITTED and not self._scheduler.is_admitted(job.uid)

    def _pause(self, job: Job, status: Body) -> float:
        """Seconds until a write is due, by what has changed since the last one."""
        if not _same_but_volatile(status, job.written):
            return DEBOUNCE_SECONDS
        if self._waits(job):
            return max(self._refresh(job), DEBOUNCE_SECONDS)
        return max(job.written_at + self._settings.operator_progress_seconds - time.monotonic(), DEBOUNCE_SECONDS)

    def _refresh(self, job: Job) -> float:
        """Seconds until the holders in a waiting job's message are refreshed; the longer it waits, the less often."""
        interval = max(REFRESH_SECONDS, (now() - job.created_at).total_seconds())
        return max(job.written_at + interval - time.monotonic(), REFRESH_SECONDS / 10)

    async def _write(self, uid: str) -> float | None:
        job = self._jobs.get(uid)
        if job is None or (job.unannounced and not job.trouble):
            return None  # whoever announces it calls `write`
        status = stamp(self._status(job), job.written, now())
        if job.gone or without_times(status) == without_times(job.written):
            self.write(job)
            return None
        try:
            await self._patch(job, status)
        except Gone:
            self.forget(uid)
            self._on_gone(job)
            return None
        except Conflict:
            return DEBOUNCE_SECONDS
        except Exception as error:  # noqa: BLE001 - the API server is away: it is waited for
            log.log(log_level(error), "the status of %s cannot be written yet: %s", job.label, error)
            return 1.0
        job.written, job.written_at = status, time.monotonic()
        self.write(job)  # it may have changed meanwhile
        return None

    async def _patch(self, job: Job, status: Body) -> None:
        """Write the status, or what is left of it when the API server will never take it."""
        for body in (status, safe(status)):
            try:
                await self._requests.patch_status(job, body)
            except (Gone, Conflict):
                raise
            except Exception as error:
                if classify(error) is not ErrorClass.PERMANENT:
                    raise
                log.exception("%s: the API server will never take this status", job.label)
            else:
                return


def _same_but_volatile(one: Body, other: Body) -> bool:
    def stable(status: Body) -> Body:
        plain = {name: value for name, value in without_times(status).items() if name not in VOLATILE}
        plain["conditions"] = [
            {name: value for name, value in each.items() if name != "message"} for each in plain["conditions"]
        ]
        return plain

    return stable(one) == stable(other)
