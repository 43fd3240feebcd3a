"""The workers, as they report themselves: who lives, what each runs, which handlers there are.

Nothing of it is stored. A dashboard that starts knows all workers after one period; one that falls silent is shown as
missing for a while, then forgotten.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from joblease.messages import HandlerDescription, WorkerReport, now
from pydantic import ValidationError

if TYPE_CHECKING:
    from aio_pika.abc import AbstractIncomingMessage

MISSED_PERIODS = 3
"""Reports that may be lost before a worker counts as missing."""
FORGET = timedelta(minutes=15)
MAX_WORKERS = 5_000


class Workers:
    """The last report of each worker."""

    def __init__(self, clock: Callable[[], datetime] = now) -> None:
        self._clock = clock
        self._reports: dict[str, tuple[WorkerReport, datetime]] = {}

    async def on_report(self, delivery: "AbstractIncomingMessage") -> None:
        """Take a report."""
        await delivery.ack()
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

    def all(self) -> list[tuple[WorkerReport, datetime, str]]:
        """Each worker's report, when that came, and `serving`, `draining`, `stopped` or `missing`."""
        found = [(report, seen, self._state(report, seen)) for report, seen in self._reports.values()]
        return sorted(found, key=lambda each: (each[0].queue, each[0].worker))

    def serving(self, queue: str) -> list[WorkerReport]:
        """Workers that take jobs from the queue."""
        return [report for report, _, state in self.all() if state == "serving" and report.queue == queue]

    def queues(self) -> set[str]:
        """Queues that are served."""
        return {report.queue for report, _ in self._reports.values()}

    def unacknowledged(self, queue: str) -> int:
        """Messages of the queue that live workers hold."""
        living = (report for report, _, state in self.all() if state in ("serving", "draining"))
        return sum(report.unacknowledged for report in living if report.queue == queue)

    def get(self, name: str) -> tuple[WorkerReport, datetime, str] | None:
        """One worker."""
        return next((each for each in self.all() if each[0].worker == name), None)

    def handlers(self) -> dict[str, tuple[HandlerDescription, str]]:
        """What can be run: each handler, and a queue whose workers know it."""
        found: dict[str, tuple[HandlerDescription, str]] = {}
        for report, _, state in self.all():
            if state in ("serving", "draining"):
                for each in report.handlers:
                    found.setdefault(each.name, (each, report.queue))
        return dict(sorted(found.items()))

    def _state(self, report: WorkerReport, seen: datetime) -> str:
        if (
            report.state != "stopped"
            and (self._clock() - seen).total_seconds() > report.period_seconds * MISSED_PERIODS
        ):
            return "missing"
        return report.state
