"""Deletes ended JobRequests when their time to live is over. Their audit trail stays.

Times are kept in memory only: after a restart they follow from the statuses again.
"""

import asyncio
import heapq
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from joblease.errors import log_level
from joblease.jobrequest import NEVER
from joblease.messages import now

from joblease_operator import alarm
from joblease_operator.job import Job
from joblease_operator.kube import Gone, JobRequests

if TYPE_CHECKING:
    from joblease_operator.settings import OperatorSettings

log = logging.getLogger(__name__)

RETRY = timedelta(seconds=10)


class Expiry:
    """Use `run` as a task."""

    def __init__(self, settings: "OperatorSettings", requests: JobRequests, on_gone: Callable[[Job], None]) -> None:
        """`on_gone` is called with a job that somebody else has deleted."""
        self._on_gone = on_gone
        self._default = settings.operator_ttl_seconds_after_finished
        self._requests = requests
        self._jobs: dict[str, tuple[datetime, Job]] = {}
        self._due: list[tuple[datetime, str]] = []
        self._changed = asyncio.Event()

    def see_to(self, job: Job) -> None:
        """Delete a job in time whose outcome is in its status; what is known from before is replaced."""
        if job.gone or job.deleting or job.completed_at is None:
            return
        ttl = self._default if job.ttl is None else job.ttl
        if ttl == NEVER:
            self.forget(job.uid)
            return
        self._at(job.completed_at + timedelta(seconds=ttl), job)

    def forget(self, uid: str) -> None:
        """It has gone already."""
        self._jobs.pop(uid, None)

    async def run(self) -> None:
        """Delete what is due, until cancelled."""
        while True:
            await alarm.until(self._due[0][0] if self._due else None, self._changed)
            while self._due and self._due[0][0] <= now():
                when, uid = heapq.heappop(self._due)
                if uid in self._jobs and self._jobs[uid][0] == when:
                    await self._delete(self._jobs.pop(uid)[1])

    def _at(self, when: datetime, job: Job) -> None:
        if self._jobs.get(job.uid, (None,))[0] != when:
            self._jobs[job.uid] = (when, job)
            heapq.heappush(self._due, (when, job.uid))
            self._changed.set()

    async def _delete(self, job: Job) -> None:
        try:
            await self._requests.delete(job)
        except Gone:
            self._on_gone(job)
        except Exception as error:  # noqa: BLE001 - the API server is away, or somebody changes the resource
            log.log(log_level(error), "%s has outlived its time but cannot be deleted yet: %s", job.label, error)
            self._at(now() + RETRY, job)
