"""Writes `JobIndex`: a row for each job, which its events add up to.

Several dashboards may share the queue, so that a job's events can be written by different ones: a job's row is only
replaced under the ETag of the version that was added to. In the usual case that ETag is remembered from the last write
and nothing is read. A job's events are numbered without gaps: when one is missing, because another dashboard has it or
its worker died before it could announce it, the trail has it, and the row is made from that.

A job is counted in the statistics before its row says that it has ended: a job that has ended here has been counted.
"""

import contextlib
from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from joblease.messages import JobEvent
from joblease.states import State
from joblease.together import together
from joblease.trail import AuditTrail, UnknownJob
from joblease.transactions import Write, submit

from joblease_dashboard import metrics
from joblease_dashboard.read_model.keys import key, partition
from joblease_dashboard.read_model.parts import outdated, parts
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
    ended: bool
    times: Mapping[str, str]
    """Of the row: when the job and its last run began."""


class Index:
    """Writes it, and counts in `stats` the jobs that end; in a rebuild they are counted later."""

    def __init__(self, table: "TableClient", trail: AuditTrail, stats: "Stats | None") -> None:
        self._table = table
        self._trail = trail
        self._stats = stats
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
        """Jobs of one partition. When anything in a transaction is refused, its rows are read and it is made anew.

        What was once read from the trail is kept for that: a job that was counted must not end later in its row.
        """
        while True:
            part = await together(*(self._complete(*each) for each in part))
            rows = [row for job_id, events in part if (row := self._row(job_id, events))]
            if not rows:
                return
            if self._stats:
                await self._stats.add(self._times(row) | row for row in rows if "completedAt" in row)
            try:
                etags = await submit(self._table, [self._write(row) for row in rows])
            except HttpResponseError as error:
                if not outdated(error):
                    raise
                await together(*(self._read(row["jobId"], row["PartitionKey"], row["RowKey"]) for row in rows))
            else:
                for row, etag in zip(rows, etags, strict=True):
                    self._remember(row["jobId"], _version(row, etag, self._times(row)))
                metrics.INDEX_ROWS.labels("JobIndex").inc(len(rows))
                return

    def _row(self, job_id: str, events: Sequence[JobEvent]) -> Row | None:
        """What the events add to the job's row."""
        known = self._versions.get(job_id)
        if known is None:
            return job_row(events)
        return None if known.ended else job_row(events, {"sequence": known.sequence})

    def _times(self, row: Row) -> dict[str, str]:
        """When a job and its last run began, as its row has it when `row` is added."""
        known = self._versions.get(row["jobId"])
        return {**(known.times if known else {}), **_times(row)}

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
        if version and version.ended:
            return False
        last = version.sequence if version else 0
        fresh = {event.sequence for event in events if event.sequence > last}
        return bool(fresh) and max(fresh) - last > len(fresh)

    def _write(self, row: Row) -> Write:
        version = self._versions.get(row["jobId"])
        return Write("merge", row, version.etag) if version else Write("insert", row)

    async def _read(self, job_id: str, partition_key: str, row_key: str) -> None:
        try:
            found = await self._table.get_entity(partition_key, row_key, select=["sequence", "state", *TIMES])
        except ResourceNotFoundError:
            self._versions.pop(job_id, None)
        else:
            self._remember(job_id, _version(found, str(found.metadata["etag"]), _times(found)))

    def _remember(self, job_id: str, version: _Version) -> None:
        self._versions[job_id] = version
        self._versions.move_to_end(job_id)
        if len(self._versions) > REMEMBERED_JOBS:
            self._versions.popitem(last=False)


def _version(row: Mapping[str, Any], etag: str, times: Mapping[str, str]) -> _Version:
    return _Version(row["sequence"], etag, State(row["state"]).terminal, times)


def _times(row: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(row[name]) for name in TIMES if row.get(name)}
