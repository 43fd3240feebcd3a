"""Keeps `JobIndex` and `JobFeed` from the events queue, in batches.

Several dashboards may share the queue, so that a job's events can be written by different ones: a job's row is only
replaced under the ETag of the version that was added to. In the usual case that ETag is remembered from the last write
and nothing is read. A job's events are numbered without gaps: when one is missing, because another dashboard has it or
its worker died before it could announce it, the trail has it, and the row is made from that.

Messages are acknowledged after their rows are written; while storage is away they wait, and the prefetch bounds how
many.
"""

import asyncio
import contextlib
import logging
from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import AzureError, HttpResponseError, ResourceNotFoundError
from joblease.broker import Broker, PublishFailed, acknowledge
from joblease.messages import JobEvent, now
from joblease.topology import DEAD, REASON_HEADER
from joblease.trail import AuditTrail, UnknownJob
from joblease.transactions import MAX_WRITES, Write, submit
from pydantic import ValidationError

from joblease_dashboard import metrics
from joblease_dashboard.read_model.keys import key, partition
from joblease_dashboard.read_model.rows import Row, feed_row, job_row

if TYPE_CHECKING:
    from aio_pika.abc import AbstractIncomingMessage
    from azure.data.tables.aio import TableClient

    from joblease_dashboard.read_model.statistics import Stats

log = logging.getLogger(__name__)

BATCH_SECONDS = 0.1
REMEMBERED_JOBS = 50_000
RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Version:
    sequence: int
    etag: str
    started_at: str


class Index:
    """Writes the read model."""

    def __init__(self, jobs: "TableClient", feed: "TableClient", stats: "Stats", trail: AuditTrail) -> None:
        self._jobs = jobs
        self._feed = feed
        self._stats = stats
        self._trail = trail
        self._versions: OrderedDict[str, _Version] = OrderedDict()

    async def add(self, events: Sequence[JobEvent]) -> None:
        """Write events to both tables. May be repeated. Raises `AzureError`."""
        await self._add_to_feed(events)
        by_partition: dict[str, dict[str, list[JobEvent]]] = defaultdict(lambda: defaultdict(list))
        for event in events:
            by_partition[partition(event.submitted_at)][event.job_id].append(event)
        for jobs in by_partition.values():
            await self._add_to_jobs(jobs)
        await self._stats.write()

    async def _add_to_feed(self, events: Sequence[JobEvent]) -> None:
        by_partition: dict[str, dict[str, Row]] = defaultdict(dict)
        for event in events:
            row = feed_row(event)
            by_partition[row["PartitionKey"]][row["RowKey"]] = row
        for rows in by_partition.values():
            for part in _parts(list(rows.values())):
                await submit(self._feed, [Write("replace", row) for row in part])
                metrics.INDEX_ROWS.labels("JobFeed").inc(len(part))

    async def _add_to_jobs(self, jobs: Mapping[str, list[JobEvent]]) -> None:
        """Jobs of one partition. When anything in a transaction is refused, its rows are read and it is made anew."""
        for part in _parts(list(jobs.items())):
            while True:
                complete = await asyncio.gather(*(self._complete(*each) for each in part))
                rows = [row for job_id, events in complete if (row := job_row(events, self._known(job_id)))]
                if not rows:
                    break
                try:
                    etags = await submit(self._jobs, [self._write(row) for row in rows])
                except HttpResponseError as error:
                    if error.status_code not in (404, 409, 412):
                        raise
                    await asyncio.gather(
                        *(self._read(row["jobId"], row["PartitionKey"], row["RowKey"]) for row in rows)
                    )
                else:
                    for row, etag in zip(rows, etags, strict=True):
                        started_at = row.get("startedAt") or self._started(row["jobId"])
                        self._remember(row["jobId"], _Version(row["sequence"], etag, started_at))
                        if "finishedAt" in row:
                            self._stats.count({"startedAt": started_at, **row})
                    metrics.INDEX_ROWS.labels("JobIndex").inc(len(rows))
                    break

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

    def _started(self, job_id: str) -> str:
        version = self._versions.get(job_id)
        return version.started_at if version else ""

    def _write(self, row: Row) -> Write:
        version = self._versions.get(row["jobId"])
        return Write("merge", row, version.etag) if version else Write("insert", row)

    async def _read(self, job_id: str, partition_key: str, row_key: str) -> None:
        try:
            found = await self._jobs.get_entity(partition_key, row_key, select=["sequence", "startedAt"])
        except ResourceNotFoundError:
            self._versions.pop(job_id, None)
        else:
            etag, started_at = str(found.metadata["etag"]), str(found.get("startedAt", ""))
            self._remember(job_id, _Version(found["sequence"], etag, started_at))

    def _remember(self, job_id: str, version: _Version) -> None:
        self._versions[job_id] = version
        self._versions.move_to_end(job_id)
        if len(self._versions) > REMEMBERED_JOBS:
            self._versions.popitem(last=False)


def _parts(items: "Sequence[Any]") -> "list[Sequence[Any]]":
    return [items[at : at + MAX_WRITES] for at in range(0, len(items), MAX_WRITES)]


class Indexer:
    """Feeds the index from the queue. Use `run` as a task."""

    def __init__(self, index: Index, broker: Broker) -> None:
        self._index = index
        self._broker = broker
        self._waiting: asyncio.Queue[tuple[JobEvent, AbstractIncomingMessage]] = asyncio.Queue()

    async def on_event(self, delivery: "AbstractIncomingMessage") -> None:
        """Take an event for the next batch; an unreadable one is parked."""
        try:
            event = JobEvent.model_validate_json(delivery.body)
        except ValidationError as error:
            await self._park(delivery, f"not an event: {error.errors()[0]['msg']}")
        else:
            self._waiting.put_nowait((event, delivery))

    async def run(self) -> None:
        """Write batches until cancelled."""
        while True:
            batch = [await self._waiting.get()]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BATCH_SECONDS):
                    while len(batch) < MAX_WRITES:
                        batch.append(await self._waiting.get())
            await self._write([event for event, _ in batch])
            for _, delivery in batch:
                await acknowledge(delivery)  # or it is delivered again on the next connection, and skipped

    async def _write(self, events: Sequence[JobEvent]) -> None:
        while True:
            try:
                await self._index.add(events)
            except AzureError as error:
                log.warning("%d events wait, the read model cannot be written: %s", len(events), error)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                for event in events:
                    metrics.INDEX_LAG_SECONDS.observe(max(0.0, (now() - event.timestamp).total_seconds()))
                return

    async def _park(self, delivery: "AbstractIncomingMessage", reason: str) -> None:
        log.error("an event was parked in %s: %s", DEAD, reason)
        try:
            await self._broker.publish(
                "", DEAD, delivery.body, message_id=delivery.message_id or "unnamed", headers={REASON_HEADER: reason}
            )
        except PublishFailed as error:
            log.warning("not parked, it will be delivered again: %s", error)
            return
        await acknowledge(delivery)
