"""What is open right now, kept in memory from the events: what runs, what waits and why, what failed lately.

Asking storage for it would cost a search through days of history at every look. Here it costs one search when the
dashboard starts (`restore`) and nothing afterwards. The number of jobs remembered is bounded; the lists tell when that
was not enough, and the trail has everything anyhow. Failures are kept by namespace, so that those of one push out none
of another.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import AzureError
from joblease.messages import JobEvent, now
from joblease.states import Kind, State

from joblease_dashboard.live.why import Reasons
from joblease_dashboard.read_model.keys import partition
from joblease_dashboard.read_model.rows import Row, fields, job_row

if TYPE_CHECKING:
    from azure.data.tables.aio import TableClient

    from joblease_dashboard.live.workers import Workers

log = logging.getLogger(__name__)

MAX_OPEN = 10_000
MAX_ENDED = 50_000
"""Ended jobs whose events are recognised when they are announced again; an id each, about 10 MB."""
MAX_FAILED = 20
"""Of a namespace."""
MAX_NAMESPACES = 1_000
"""Whose failures are kept: those that failed last."""
RESTORE_DAYS = 31
RETRY_SECONDS = 5.0


class Board:
    """The open jobs, and those that failed lately."""

    def __init__(self, workers: "Workers") -> None:
        self._workers = workers
        self._open: OrderedDict[str, Row] = OrderedDict()
        self._failed: dict[str, list[Row]] = {}
        self._ended: OrderedDict[str, int] = OrderedDict()
        self._awaited: dict[str, asyncio.Event] = {}
        self.restored = False
        self.overflowed = False

    def add(self, event: JobEvent) -> None:
        """Take an event into account; an older one than the last changes nothing."""
        if event.job_id in self._ended:
            return
        known = self._open.get(event.job_id)
        fresh = job_row([event], known)
        if fresh is None:
            return
        self._put({**(known or {}), **fresh})

    def _put(self, row: Row) -> None:
        job_id = row["jobId"]
        if job_id in self._awaited:
            self._awaited[job_id].set()
        state = State(row["state"])
        if state.terminal:
            self._open.pop(job_id, None)
            self._end(row)
            if state.kind is Kind.FAILED:
                self._fail(row)
            return
        self._open[job_id] = row
        if len(self._open) > MAX_OPEN:
            self._open.popitem(last=False)
            self.overflowed = True

    def _fail(self, row: Row) -> None:
        kept = _last_first([*self._failed.get(row["namespace"], ()), row])
        self._failed[row["namespace"]] = kept[:MAX_FAILED]
        if len(self._failed) > MAX_NAMESPACES:
            del self._failed[min(self._failed, key=lambda name: str(self._failed[name][0]["updatedAt"]))]

    def _end(self, row: Row) -> None:
        """Settled is settled: whatever is heard of it again changes nothing."""
        self._ended[row["jobId"]] = row["sequence"]
        if len(self._ended) > MAX_ENDED:
            self._ended.popitem(last=False)

    def get(self, job_id: str) -> Row | None:
        """An open job."""
        return self._open.get(job_id)

    def knows(self, job_id: str) -> bool:
        """Whether anything was heard of the job."""
        return job_id in self._open or job_id in self._ended

    async def hears_of(self, job_id: str) -> None:
        """Wait until there was an event of the job."""
        heard = self._awaited.setdefault(job_id, asyncio.Event())
        if not self.knows(job_id):
            try:
                await heard.wait()
            finally:
                self._awaited.pop(job_id, None)

    def running(self, namespace: str = "") -> list[Row]:
        """What runs, the longest first."""
        found = (row for row in self._rows(namespace) if row["state"] == State.RUNNING)
        return sorted(found, key=lambda row: str(row.get("runStartedAt", "")))

    def waiting(self, namespace: str = "") -> list[Row]:
        """What waits, the oldest first."""
        found = (row for row in self._rows(namespace) if row["state"] != State.RUNNING)
        return sorted(found, key=lambda row: str(row["submittedAt"]))

    def failed(self, namespace: str = "") -> list[Row]:
        """What failed lately, the last first."""
        if namespace:
            return list(self._failed.get(namespace, ()))
        return _last_first(row for rows in self._failed.values() for row in rows)

    def siblings(self, row: Mapping[str, Any]) -> list[Row]:
        """Open jobs of the same concurrency group and namespace."""
        same = (each for each in self._rows(row["namespace"]) if each["group"] == row["group"])
        return [each for each in same if each["jobId"] != row["jobId"]]

    def reasons(self, *, everything: bool) -> Reasons:
        """Tells of any job why it waits, as things are now, to somebody who may see all namespaces, or does not."""
        return Reasons(self._open.values(), self._workers, everything=everything)

    def queues(self) -> set[str]:
        """Queues that open jobs are for."""
        return {row["queue"] for row in self._open.values()}

    def _rows(self, namespace: str) -> Iterable[Row]:
        return (row for row in self._open.values() if namespace in ("", row["namespace"]))

    async def restore(self, index: "TableClient") -> None:
        """Read what is open and what failed last from `JobIndex`, once."""
        while not self.restored:
            try:
                await self._read(index)
            except AzureError as error:
                log.warning("the open jobs cannot be read yet, next try in %.0f s: %s", RETRY_SECONDS, error)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self.restored = True

    async def _read(self, index: "TableClient") -> None:
        condition, values = _open_or_failed()
        async for row in index.query_entities(condition, parameters=values):
            known = self._open.get(row["jobId"])
            if row["jobId"] not in self._ended and (not known or known["sequence"] < row["sequence"]):
                self._put(fields(row))


def _last_first(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: str(row["updatedAt"]), reverse=True)


def _open_or_failed() -> tuple[str, dict[str, str]]:
    """A condition that a job is not old, and has neither completed nor been cancelled; and the parameters."""
    values = {f"s{n}": str(state) for n, state in enumerate(State) if state.kind in (Kind.COMPLETED, Kind.CANCELLED)}
    condition = " and ".join(["PartitionKey le @oldest", *(f"state ne @{name}" for name in values)])
    return condition, values | {"oldest": partition(now() - timedelta(days=RESTORE_DAYS))}
