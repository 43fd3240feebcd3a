"""Writes statuses: few, late enough to be worth it, and never in the way of admitting jobs.

Transitions that follow each other within a moment (queued, running) become one write; an outcome is written at once;
progress is written every few seconds at most. Whom a job waits for is written again each time it is twice as old, so
that thousands of waiting jobs cost next to nothing. What the API server has already is not written again. It pays for
every write with a revision in etcd and a message to every watcher.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from joblease.messages import now

from joblease_operator.job import Body, Job, stamp, status_of, without_times
from joblease_operator.kube import Conflict, Gone, JobRequests
from joblease_operator.queue import WorkQueue

if TYPE_CHECKING:
    from joblease_operator.scheduler import Scheduler
    from joblease_operator.settings import OperatorSettings

log = logging.getLogger(__name__)

DEBOUNCE_SECONDS = 0.1
REFRESH_SECONDS = 60.0
"""Least time until the message of a waiting job changes: who holds the slot changes with every job that ends."""
VOLATILE = ("progress", "message")


class StatusWriter:
    """Use as an async context manager."""

    def __init__(
        self,
        settings: "OperatorSettings",
        requests: JobRequests,
        scheduler: "Scheduler",
        on_settled: Callable[[Job], None],
    ) -> None:
        """`on_settled` is called with each job whose outcome has been written."""
        self._settings = settings
        self._requests = requests
        self._scheduler = scheduler
        self._on_settled = on_settled
        self._jobs: dict[str, Job] = {}
        self._queue = WorkQueue(self._write, workers=16)

    async def __aenter__(self) -> Self:
        await self._queue.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                for uid in list(self._jobs):
                    await self._write(uid)
        await self._queue.__aexit__(kind, error, trace)

    def write(self, job: Job) -> None:
        """Have the job's status written if it is not what the API server has."""
        if job.gone or job.settled:
            self.forget(job.uid)
            return
        status = self._status(job)
        if without_times(status) == without_times(job.written):
            self.forget(job.uid)
            if job.finished and not job.trouble:
                job.settle()
                self._on_settled(job)
            return
        self._jobs[job.uid] = job
        if job.finished:
            self._queue.add(job.uid)
        else:
            self._queue.add(job.uid, self._pause(job, status))

    def forget(self, uid: str) -> None:
        """Drop what was to be written."""
        self._jobs.pop(uid, None)

    def _status(self, job: Job) -> Body:
        waits = not job.finished and not self._scheduler.is_admitted(job.uid) and job.state is not None
        try:
            return status_of(job, self._scheduler.why_waiting(job.uid) if waits else None)
        except KeyError:  # not in line yet
            return status_of(job, None)

    def _pause(self, job: Job, status: Body) -> float:
        """Seconds until a write is due, by what has changed since the last one."""
        if not _same_but_volatile(status, job.written):
            return DEBOUNCE_SECONDS
        interval = self._settings.operator_progress_seconds
        if not self._scheduler.is_admitted(job.uid):  # the longer it waits, the less often it is told for whom
            interval = max(REFRESH_SECONDS, (now() - job.created_at).total_seconds())
        return max(job.written_at + interval - time.monotonic(), DEBOUNCE_SECONDS)

    async def _write(self, uid: str) -> float | None:
        job = self._jobs.get(uid)
        if job is None:
            return None
        status = stamp(self._status(job), job.written, now())
        if without_times(status) == without_times(job.written):
            self.write(job)
            return None
        try:
            await self._requests.patch_status(job, status)
        except (Gone, Conflict):
            self.forget(uid)
            return None
        except Exception as error:  # noqa: BLE001 - the API server is away: it is waited for
            log.warning("the status of %s cannot be written yet: %s", job.label, error)
            return 1.0
        job.written, job.written_at = status, time.monotonic()
        self.write(job)  # it may have changed meanwhile
        return None


def _same_but_volatile(one: Body, other: Body) -> bool:
    def stable(status: Body) -> Body:
        plain = {name: value for name, value in without_times(status).items() if name not in VOLATILE}
        plain["conditions"] = [
            {name: value for name, value in each.items() if name != "message"} for each in plain["conditions"]
        ]
        return plain

    return stable(one) == stable(other)
