"""The audit trail, and the fence that keeps two workers from both believing they run a job.

Every change of a job is one transaction on its partition: the event rows are inserted and the `head` row is updated
under If-Match. A writer whose picture of the head is old is refused (`HeadChanged`), so a worker that lost its lease
without noticing cannot write another word, and a job with an outcome never gets a second one. Event rows are never
updated and never deleted.

A transaction whose answer was lost may have been applied. Each one therefore leaves a random `write` mark in the head:
when a repetition is refused and the mark is ours, the first one went through.
"""

import json
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from joblease.head import Head
from joblease.messages import JobEvent, now
from joblease.metrics import AUDIT_WRITE_SECONDS, AUDIT_WRITES
from joblease.rows import HEAD, compact, event_of, event_row, head_of, head_row, row_key
from joblease.states import State
from joblease.transactions import MAX_WRITES, Write, submit

if TYPE_CHECKING:
    from azure.data.tables.aio import TableClient

MAX_EVENTS = MAX_WRITES - 1
"""Rows of a transaction less the head."""
MAX_TRANSACTION_BYTES = 900_000
"""Of the events of one transaction, by `NewEvent.size`. Azure Table storage takes 4 MiB, but a body of more than a MiB
holds up the event loop."""
ROWS_A_REQUEST = 100
"""Of a stretch of a job's history."""
_ROW_BYTES = 2_000
"""At most, of a row's part in a transaction without its message and data."""


class HeadChanged(Exception):
    """Somebody else changed the job; `current` is its head now.

    `written` are our events when they went into the trail all the same: an earlier try did it whose answer was lost,
    and the change came after it. Empty otherwise.
    """

    def __init__(self, current: "Head", written: Sequence[JobEvent] = ()) -> None:
        super().__init__(f"job {current.job_id} is {current.state} at epoch {current.epoch} by now")
        self.current = current
        self.written = list(written)


class UnknownJob(Exception):
    """There is no audit trail for this job."""


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to be written; the trail adds what it knows from the head."""

    status: str
    message: str = ""
    progress: int | None = None
    data: Mapping[str, Any] | None = None
    timestamp: datetime | None = None
    attempt: int | None = None
    """The attempt it belongs to when that is not the head's new one."""
    worker: str | None = None
    state: State | None = None
    """Where the job is after it, when more events of the same transaction lead further."""
    reason: State | None = None

    @property
    def size(self) -> int:
        """Bytes of its part in a transaction, at most."""
        data = json.dumps(compact(self.data), ensure_ascii=False) if self.data else ""
        return _ROW_BYTES + len(json.dumps(self.message, ensure_ascii=False).encode()) + len(data.encode())


def fitting(events: Sequence[NewEvent]) -> int:
    """How many of the first events fit into one transaction; one at least."""
    size = 0
    for count, event in enumerate(events[:MAX_EVENTS]):
        size += event.size
        if size > MAX_TRANSACTION_BYTES:
            return max(count, 1)
    return min(len(events), MAX_EVENTS)


class AuditTrail:
    """Reads and writes the table `JobAuditTrail`."""

    def __init__(self, table: "TableClient") -> None:
        self._table = table

    async def append(
        self, before: Head, events: Sequence[NewEvent], *, write: str = "", **changes: Any
    ) -> tuple[Head, list[JobEvent]]:
        """Write events and the head's `changes` (fields of `Head`) in one transaction, if the head still is `before`.

        Whoever repeats a transaction after an error passes the same `write` mark and the same timestamps each time, so
        that a try whose answer was lost is recognised.

        Returns the new head and the events as written. An empty `events` changes the head only. Raises `HeadChanged`
        when somebody else was first, `UnknownJob` when the head has gone, `HttpResponseError` when storage fails.
        """
        if before.state.terminal and "state" in changes:
            raise ValueError(f"job {before.job_id} has its outcome, {before.state}; there is never a second one")
        if len(events) > MAX_EVENTS:
            raise ValueError(f"a transaction takes {MAX_EVENTS} events at most, not {len(events)}")
        moment = now()
        after = replace(
            before,
            **changes,
            reason=events[-1].reason if events else before.reason,
            sequence=before.sequence + len(events),
            updated_at=moment,
            write=write or secrets.token_hex(8),
        )
        if after.state.terminal:  # nobody goes on from there
            after = replace(after, checkpoint="")
        written = [
            _event(after, event, before.sequence + n, event.timestamp or moment) for n, event in enumerate(events, 1)
        ]
        writes = [Write("insert", event_row(event)) for event in written]
        writes.append(_head_write(before, after))
        started, result = time.monotonic(), "failed"
        try:
            etags = await submit(self._table, writes)
            result = "written"
            return replace(after, etag=etags[-1]), written
        except HttpResponseError as error:
            if error.status_code not in (404, 409, 412):
                raise
            current = await self.head(before.job_id)
            if current.write == after.write:  # our own first try, whose answer was lost
                result = "written"
                return current, written
            ours = bool(written) and current.sequence >= after.sequence and await self._has(written[0], after)
            result = "written" if ours else "refused"
            raise HeadChanged(current, written if ours else ()) from None
        finally:
            AUDIT_WRITES.labels(result).inc()
            AUDIT_WRITE_SECONDS.labels(result).observe(time.monotonic() - started)

    async def head(self, job_id: str) -> Head:
        """Read a job's head row. Raises `UnknownJob`."""
        try:
            row = await self._table.get_entity(job_id, HEAD)
        except ResourceNotFoundError:
            raise UnknownJob(f"job {job_id} has no audit trail") from None
        return head_of(row)

    async def _has(self, event: JobEvent, head: Head) -> bool:
        """Whether the trail has this very event, and not another one in its place."""
        try:
            row = await self._table.get_entity(event.job_id, row_key(event.sequence))
        except ResourceNotFoundError:
            return False
        return event_of(row, head) == event

    async def history(self, job_id: str, after: int = 0) -> list[JobEvent]:
        """A job's events with a sequence above `after`, oldest first. Raises `UnknownJob`."""
        head: Head | None = None
        rows: list[Mapping[str, Any]] = []
        async for row in self._table.query_entities(  # the head's key is greater than that of any event
            "PartitionKey eq @job and RowKey gt @after",
            parameters={"job": job_id, "after": row_key(after)},
            results_per_page=1000,
        ):
            if row["RowKey"] == HEAD:
                head = head_of(row)
            else:
                rows.append(row)
        if head is None:
            raise UnknownJob(f"job {job_id} has no audit trail")
        return [event_of(row, head) for row in sorted(rows, key=lambda row: str(row["RowKey"]))]

    async def stretch(self, head: Head, after: int, last: int) -> list[JobEvent]:
        """A job's events with a sequence above `after`, up to `last`, oldest first. `head` was read before.

        A request for each of `ROWS_A_REQUEST`: what a bigger one brings would hold up the event loop.
        """
        rows = self._table.query_entities(
            "PartitionKey eq @job and RowKey gt @after and RowKey le @last",
            parameters={"job": head.job_id, "after": row_key(after), "last": row_key(last)},
            results_per_page=ROWS_A_REQUEST,
        )
        return sorted([event_of(row, head) async for row in rows], key=lambda event: event.sequence)

    async def everything(self) -> AsyncIterator[tuple[Head, list[JobEvent]]]:
        """Every job with all its events, for rebuilding what was derived from the trail. Reads the whole table."""
        head: Head | None = None
        rows: list[Mapping[str, Any]] = []
        job: str | None = None
        async for row in self._table.list_entities(results_per_page=1000):
            if row["PartitionKey"] != job:
                if head:
                    yield head, [event_of(each, head) for each in rows]
                job, head, rows = row["PartitionKey"], None, []
            if row["RowKey"] == HEAD:
                head = head_of(row)
            else:
                rows.append(row)
        if head:
            yield head, [event_of(each, head) for each in rows]


def _head_write(before: Head, after: Head) -> Write:
    row = head_row(after)
    return Write("replace", row, before.etag) if before.etag else Write("insert", row)


def _event(after: Head, event: NewEvent, sequence: int, moment: datetime) -> JobEvent:
    return JobEvent(
        event_id=f"{after.job_id}.{sequence:010d}",
        job_id=after.job_id,
        namespace=after.namespace,
        name=after.name,
        handler=after.handler,
        queue=after.queue,
        group=after.group,
        submitted_at=after.submitted_at,
        sequence=sequence,
        status=event.status,
        state=event.state or after.state,
        reason=event.reason,
        message=event.message,
        timestamp=moment,
        attempt=after.attempt if event.attempt is None else event.attempt,
        epoch=after.epoch,
        worker=event.worker or after.worker,
        progress=event.progress,
        data=dict(event.data) if event.data else None,
    )
