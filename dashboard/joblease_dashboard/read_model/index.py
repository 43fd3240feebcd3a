"""Writes `JobIndex`: a row for each job, which its events add up to.

Several dashboards may share the queue, so that a job's events can be written by different ones: a job's row is only
replaced under the ETag of the version that was added to. In the usual case that ETag is remembered from the last write
and nothing is read. A job's events are numbered without gaps: when one is missing, because another dashboard has it or
its worker died before it could announce it, the trail has it, and the row is made from that.
"""

import asyncio
import contextlib
from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from joblease.messages import JobEvent
from joblease.trail import AuditTrail, UnknownJob
from joblease.transactions import Write, submit

from joblease_dashboard import metrics
from joblease_dashboard.read_model.keys import key, partition
from joblease_dashboard.read_model.parts import parts
from joblease_dashboard.read_model.rows import Row, job_row

if TYPE_CHECKING:
    from azure.data.tables.aio import TableClient

    from joblease_dashboard.read_model.statistics import Stats

REMEMBERED_JOBS = 50_000
TIMES = ("startedAt", "runStartedAt")


@dataclass(frozen=True, slots=True)
class _Version:
    sequence: int
    etag: str
    times: Mapping[str, str]
    """Of the row: when the job and its last run began."""


class Index:
    """Writes it, and counts in `stats` the jobs that end."""

    def __init__(self, table: "TableClient", stats: "Stats", trail: AuditTrail) -> None:
        self._table = table
        self._stats = stats
        self._trail = trail
        self._versions: OrderedDict[str, _Version] = OrderedDict()

    async def add(self, events: Sequence[JobEvent]) -> None:
        """Write what events say of their jobs. May be repeated. Raises `AzureError`."""
        by_partition: dict[str, dict[str, list[JobEvent]]] = defaultdict(lambda: defaultdict(list))
        for event in events:
            by_partition[partition(event.submitted_at)][event.job_id].append(event)
        for jobs in by_partition.values():
            for part in parts(list(jobs.items())):
                await self._add(part)

    async def _add(self, part: Sequence[tuple[str, list[JobEvent]]]) -> None:
        """Jobs of one partition. When anything in a transaction is refused, its rows are read and it is made anew."""
        while True:
            complete = await asyncio.gather(*(self._complete(*each) for each in part))
            rows = [row for job_id, events in complete if (row := job_row(events, self._known(job_id)))]
            if not rows:
                return
            try:
                etags = await submit(self._table, [self._write(row) for row in rows])
            except HttpResponseError as error:
                if error.status_code not in (404, 409, 412):
                    raise
                await asyncio.gather(*(self._read(row["jobId"], row["PartitionKey"], row["RowKey"]) for row in rows))
            else:
                for row, etag in zip(rows, etags, strict=True):
                    self._written(row, etag)
                metrics.INDEX_ROWS.labels("JobIndex").inc(len(rows))
                return

    def _written(self, row: Row, etag: str) -> None:
        known = self._versions.get(row["jobId"])
        times = {**(known.times if known else {}), **_times(row)}
        self._remember(row["jobId"], _Version(row["sequence"], etag, times))
        if "completedAt" in row:
            self._stats.count({**times, **row})

    async def _complete(self, job_id: str, events: list[JobEvent]) -> tuple[str, list[JobEvent]]:
        """A job and its new events; all its events when some are missing between its row and them."""
        if self._has_gap(job_id, events):
            await self._read(job_id, *key(events[0].submitted_at, job_id))
            if self._has_gap(job_id, events):
                with contextlib.suppress(UnknownJob):
                    return job_id, await self._trail.history(job_id)
        return job_id, events

    def _has_gap(self, job_id: str, events: Sequence[JobEvent]) -> bool:
        version = self._versions.get(job_id)
        last = version.sequence if version else 0
        fresh = {event.sequence for event in events if event.sequence > last}
        return bool(fresh) and max(fresh) - last > len(fresh)

    def _known(self, job_id: str) -> Mapping[str, Any] | None:
        version = self._versions.get(job_id)
        return {"sequence": version.sequence} if version else None

    def _write(self, row: Row) -> Write:
        version = self._versions.get(row["jobId"])
        return Write("merge", row, version.etag) if version else Write("insert", row)

    async def _read(self, job_id: str, partition_key: str, row_key: str) -> None:
        try:
            found = await self._table.get_entity(partition_key, row_key, select=["sequence", *TIMES])
        except ResourceNotFoundError:
            self._versions.pop(job_id, None)
        else:
            self._remember(job_id, _Version(found["sequence"], str(found.metadata["etag"]), _times(found)))

    def _remember(self, job_id: str, version: _Version) -> None:
        self._versions[job_id] = version
        self._versions.move_to_end(job_id)
        if len(self._versions) > REMEMBERED_JOBS:
            self._versions.popitem(last=False)


def _times(row: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(row[name]) for name in TIMES if row.get(name)}
