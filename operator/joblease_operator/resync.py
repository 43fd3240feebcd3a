"""Heals what events did not tell: looks at the head rows of running jobs that have been silent for long.

Events are delivered at least once, but a worker can die between a row in the trail and its event. The trail knows.
Jobs that wait are nobody's but the operator's; those that were handed to a queue are looked after by `pools`.
"""

import asyncio
import logging
import math
import time
from typing import TYPE_CHECKING

from joblease.errors import ErrorClass, classify, log_level
from joblease.leases import LeaseBlobs

if TYPE_CHECKING:
    from joblease_operator.active import Active
    from joblease_operator.job import Job
    from joblease_operator.record import Record
    from joblease_operator.settings import OperatorSettings

log = logging.getLogger(__name__)


class Resync:
    """Use `run` as a task."""

    def __init__(self, settings: "OperatorSettings", active: "Active", record: "Record", blobs: LeaseBlobs) -> None:
        self._settings = settings
        self._active = active
        self._record = record
        self._blobs = blobs

    async def run(self) -> None:
        """A round each `JOBLEASE_OPERATOR_RESYNC_SECONDS`, until cancelled."""
        while True:
            await asyncio.sleep(self._settings.operator_resync_seconds)
            for job in list(self._active.running.values()):
                try:
                    await self._look_after(job)
                except Exception as error:  # noqa: BLE001 - the next round comes
                    log.log(log_level(error), "%s cannot be looked after now: %s", job.label, error)
                    if classify(error) is ErrorClass.TRANSIENT:
                        break  # storage is away

    async def _look_after(self, job: "Job") -> None:
        silent = time.monotonic() - job.last_news
        if silent < self._settings.operator_resync_seconds or await self._record.look(job):
            return
        over_due = silent >= self._settings.operator_republish_seconds
        if over_due and job.head and await self._blobs.discard(job.head.claim_blob):
            self._active.miss(job, since=-math.inf)  # known to be lost: it does not wait behind those that may be
