"""The workers, as they report themselves: who lives, what each runs, which handlers there are.

Nothing of it is stored. A dashboard that starts knows all workers after one period; one that falls silent is shown as
missing for a while, then forgotten.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from joblease.broker import acknowledge
from joblease.messages import HandlerDescription, WorkerReport, now
from pydantic import ValidationError

if TYPE_CHECKING:
    from aio_pika.abc import AbstractIncomingMessage

MISSED_PERIODS = 3
"""Reports that may be lost before a worker counts as missing."""
FORGET = timedelta(minutes=15)
MAX_WORKERS = 5_000


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker as it was heard of last."""

    report: WorkerReport
    seen: datetime
    """When the report came."""
    state: str
    """`serving`, `draining`, `stopped` or `missing`."""

    @property
    def alive(self) -> bool:
        """Whether it can be believed to run jobs and to renew its leases."""
        return self.state in ("serving", "draining")

    @property
    def lease_expires(self) -> datetime:
        """When its leases end, if it renewed them when it reported and never again."""
        return self.seen + timedelta(seconds=self.report.lease_seconds)


class Workers:
    """The last report of each worker."""

    def __init__(self, clock: Callable[[], datetime] = now) -> None:
        self._clock = clock
        self._reports: dict[str, tuple[WorkerReport, datetime]] = {}

    async def on_report(self, delivery: "AbstractIncomingMessage") -> None:
        """Take a report."""
        await acknowledge(delivery)
        try:
            self.add(WorkerReport.model_validate_json(delivery.body))
        except ValidationError:
            return  # a worker of another release, perhaps: it is not on the list then

    def add(self, report: WorkerReport) -> None:
        """Remember a report. When it came is what counts: clocks differ."""
        at = self._clock()
        self._reports[report.worker] = (report, at)
        for name, (_, seen) in list(self._reports.items()):
            if at - seen > FORGET:
                del self._reports[name]
        while len(self._reports) > MAX_WORKERS:
            del self._reports[min(self._reports, key=lambda name: self._reports[name][1])]

    def all(self) -> list[Worker]:
        """All of them, by queue and name."""
        found = [Worker(report, seen, self._state(report, seen)) for report, seen in self._reports.values()]
        return sorted(found, key=lambda each: (each.report.queue, each.report.worker))

    def serving(self, queue: str) -> list[WorkerReport]:
        """Workers that take jobs from the queue."""
        return [each.report for each in self.all() if each.state == "serving" and each.report.queue == queue]

    def queues(self) -> set[str]:
        """Queues that are served."""
        return {report.queue for report, _ in self._reports.values()}

    def unacknowledged(self, queue: str) -> int:
        """Messages of the queue that live workers hold."""
        return sum(each.report.unacknowledged for each in self.all() if each.alive and each.report.queue == queue)

    def get(self, name: str) -> Worker | None:
        """One worker."""
        if name not in self._reports:
            return None
        report, seen = self._reports[name]
        return Worker(report, seen, self._state(report, seen))

    def running(self, job_id: str) -> Worker | None:
        """The worker that says that it runs the job."""
        return next((each for each in self.all() if each.alive and job_id in each.report.jobs), None)

    def handlers(self) -> dict[str, tuple[HandlerDescription, str]]:
        """What can be run: each handler, and a queue whose workers know it."""
        found: dict[str, tuple[HandlerDescription, str]] = {}
        for each in self.all():
            if each.alive:
                for handler in each.report.handlers:
                    found.setdefault(handler.name, (handler, each.report.queue))
        return dict(sorted(found.items()))

    def _state(self, report: WorkerReport, seen: datetime) -> str:
        if (
            report.state != "stopped"
            and (self._clock() - seen).total_seconds() > report.period_seconds * MISSED_PERIODS
        ):
            return "missing"
        return report.state
