"""Tells who listens that this worker lives, and what it does: for the dashboard's list of workers.

A message that nobody stores, rather than a row: a worker that is idle costs no storage request, and one that has died
is missed because it falls silent, not because it managed to say goodbye.
"""

import asyncio
import logging
from typing import TYPE_CHECKING

from joblease import __version__
from joblease.broker import Broker, PublishFailed
from joblease.messages import WorkerReport, now
from joblease.topology import WORKERS

if TYPE_CHECKING:
    from joblease_worker.consumer import Consumer
    from joblease_worker.pool import ProcessPool
    from joblease_worker.settings import WorkerSettings

log = logging.getLogger(__name__)


class Reporter:
    """Reports at once, every period, and whenever the state changes. Use `run` as a task."""

    def __init__(self, settings: "WorkerSettings", broker: Broker, consumer: "Consumer", pool: "ProcessPool") -> None:
        self._settings = settings
        self._broker = broker
        self._consumer = consumer
        self._pool = pool
        self._started_at = now()

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            await self._broker.connected()
            try:
                await self.report("serving")
            except Exception:
                log.exception("this worker could not report what it does")
            await asyncio.sleep(self._settings.worker_report_seconds)

    async def report(self, state: str) -> None:
        """Report now. A report that cannot be sent is not worth another try: the next one says more."""
        report = WorkerReport.model_validate(
            {
                "worker": self._settings.worker_name,
                "queue": self._settings.worker_queue,
                "concurrency": self._settings.worker_concurrency,
                "lease_seconds": self._settings.lease_seconds,
                "period_seconds": self._settings.worker_report_seconds,
                "started_at": self._started_at,
                "timestamp": now(),
                "release": __version__,
                "state": state,
                "jobs": self._consumer.running,
                "unacknowledged": self._consumer.unacknowledged,
                "handlers": list(self._pool.handlers.values()),
            }
        )
        try:
            await self._broker.publish(WORKERS, "", report.encode(), message_id=self._settings.worker_name)
        except PublishFailed:
            return
