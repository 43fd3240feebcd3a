"""Heals what events did not tell: looks into the trail of active jobs that have been silent for long.

Events are delivered at least once, but a worker can die between a row in the trail and its event. The trail knows.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from joblease.leases import LeaseBlobs, job_blob
from joblease.messages import State

from joblease_operator.job import Job

if TYPE_CHECKING:
    from joblease_operator.admissions import Admissions
    from joblease_operator.record import Record
    from joblease_operator.settings import OperatorSettings

log = logging.getLogger(__name__)


class Resync:
    """Use `run` as a task."""

    def __init__(
        self,
        settings: "OperatorSettings",
        jobs: Mapping[str, Job],
        admissions: "Admissions",
        record: "Record",
        blobs: LeaseBlobs,
        look_again: Callable[[str], None],
        publish: Callable[[Job], Awaitable[None]],
    ) -> None:
        """`look_again` has a job reconciled, `publish` hands it to the workers."""
        self._settings = settings
        self._jobs = jobs
        self._admissions = admissions
        self._record = record
        self._blobs = blobs
        self._look_again = look_again
        self._publish = publish

    async def run(self) -> None:
        """A round each `JOBLEASE_OPERATOR_RESYNC_SECONDS`, until cancelled."""
        interval = self._settings.operator_resync_seconds
        while True:
            await asyncio.sleep(interval)
            silent = time.monotonic() - interval
            for job in [job for job in self._jobs.values() if job.last_news < silent and not job.finished]:
                if job.state is None or not self._admissions.admitted(job):
                    self._look_again(job.uid)
                    continue
                with contextlib.suppress(Exception):  # storage is away: the next round comes
                    await self._look_after(job)

    async def _look_after(self, job: Job) -> None:
        silent_since, known = job.last_news, job.sequence
        await self._record.read(job)
        if job.sequence != known:
            return
        job.last_news = silent_since
        if time.monotonic() - silent_since < self._settings.operator_republish_seconds:
            return
        if job.state is State.RUNNING and await self._blobs.holder(job_blob(job.uid)) is not None:
            return
        log.warning("%s has been %s without news for long; it is published again", job.label, job.state)
        await self._publish(job)
