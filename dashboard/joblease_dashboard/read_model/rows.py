"""Rows of the read model, made from events.

A job's row is what its events add up to; adding the same event again, or an older one, changes nothing. That is what
lets events arrive twice, out of order, or from a rebuild. The first outcome is final: what comes after it changes
nothing either. (Only a newer release can write such events, after a state that this one takes for an outcome.)
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from joblease.messages import JobEvent, Status, rfc3339
from joblease.states import Kind

from joblease_dashboard.read_model.keys import key

MESSAGE_LENGTH = 1_024
ON_WAITING = ("priority", "startAfter", "nextAttemptAt")
"""What an event's data says about how a job waits: kept in its row. A step's data are the handler's own."""
Row = dict[str, Any]


def event_fields(event: JobEvent) -> Row:
    """An event as the API shows it, its state in the word that people see."""
    found: Row = event.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"version", "reason"})
    return found | {"state": event.shown.value}


def feed_row(event: JobEvent) -> Row:
    """An event in `JobFeed`: everything but its data, which only the job's history has."""
    partition, row = key(event.timestamp, event.event_id)
    kept = {name: value for name, value in event_fields(event).items() if name != "data"}
    return {"PartitionKey": partition, "RowKey": row, **kept, "message": event.message[:MESSAGE_LENGTH]}


def fields(row: Mapping[str, Any]) -> Row:
    """A row without the table's keys: a job or an event as the API shows it."""
    return {name: value for name, value in row.items() if name not in ("PartitionKey", "RowKey")}


def job_row(events: Iterable[JobEvent], known: Mapping[str, Any] | None = None) -> Row | None:
    """What the events add to a job's row (to a `known` one, of which `sequence` is read); None when nothing."""
    last = known["sequence"] if known else 0
    fresh = _to_the_outcome(sorted((each for each in events if each.sequence > last), key=lambda each: each.sequence))
    if not fresh:
        return None
    newest = fresh[-1]
    partition, row_key = key(newest.submitted_at, newest.job_id)
    row: Row = {
        "PartitionKey": partition,
        "RowKey": row_key,
        "jobId": newest.job_id,
        "namespace": newest.namespace,
        "name": newest.name,
        "handler": newest.handler,
        "queue": newest.queue,
        "group": newest.group,
        "submittedAt": rfc3339(newest.submitted_at),
        "sequence": newest.sequence,
        "state": newest.shown.value,
        "status": newest.status,
        "attempt": newest.attempt,
        "message": newest.message[:MESSAGE_LENGTH],
        "updatedAt": rfc3339(newest.timestamp),
    }
    for event in fresh:
        if event.data and event.state.kind is Kind.WAITING:
            row |= {name: event.data[name] for name in ON_WAITING if event.data.get(name)}
        if event.worker:
            row["worker"] = event.worker
        if event.status == Status.STARTED:
            row |= {"runStartedAt": rfc3339(event.timestamp), "progress": 0}
            if event.epoch == 1:
                row["startedAt"] = rfc3339(event.timestamp)
        if event.progress is not None:
            row["progress"] = event.progress
        if event.state.terminal:
            row["completedAt"] = rfc3339(event.timestamp)
    return row


def _to_the_outcome(events: Sequence[JobEvent]) -> Sequence[JobEvent]:
    ends = (number for number, event in enumerate(events, 1) if event.state.terminal)
    return events[: next(ends, len(events))]
