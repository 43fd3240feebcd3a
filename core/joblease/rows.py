"""Rows of the audit trail: how a head and an event are stored, and how they are read again. Here and nowhere else."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from joblease.head import Head
from joblease.leases import Grant
from joblease.messages import JobEvent, rfc3339
from joblease.policy import read
from joblease.states import State

HEAD = "head"
_CHUNK = 30_000
"""UTF-16 units of a text property: what Azure Table storage counts, and takes 32 Ki of."""


def compact(data: Mapping[str, Any]) -> str:
    """JSON as it is stored."""
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False)


def split_text(name: str, text: str) -> dict[str, str]:
    """Properties `name`, `name1`, `name2`, … that together hold a text too long for one."""
    return {f"{name}{n or ''}": chunk for n, chunk in enumerate(_chunks(text))}


def _chunks(text: str) -> list[str]:
    if len(text) <= _CHUNK // 2:  # whatever its letters, each takes two units at most
        return [text]
    units, chunks, at = text.encode("utf-16-le"), [], 0
    while at < len(units):
        end = at + 2 * _CHUNK
        if end < len(units) and 0xD8 <= units[end - 1] < 0xDC:  # the first half of a pair stays with the second
            end -= 2
        chunks.append(units[at:end].decode("utf-16-le"))
        at = end
    return chunks


def join_text(name: str, row: Mapping[str, Any]) -> str | None:
    """The text that `split_text` took apart, or None."""
    if name not in row:
        return None
    chunks, n = [row[name]], 1
    while f"{name}{n}" in row:
        chunks.append(row[f"{name}{n}"])
        n += 1
    return "".join(chunks)


def head_row(head: Head) -> dict[str, Any]:
    """The row of a job's head."""
    properties = {
        "PartitionKey": head.job_id,
        "RowKey": HEAD,
        "namespace": head.namespace,
        "name": head.name,
        "handler": head.handler,
        "queue": head.queue,
        "group": head.group,
        "submittedAt": rfc3339(head.submitted_at),
        "state": head.state.value,
        "reason": head.reason.value if head.reason else None,
        "epoch": head.epoch,
        "attempt": head.attempt,
        "sequence": head.sequence,
        "worker": head.worker,
        "session": head.session or None,
        "slotBlob": head.slot.blob if head.slot else None,
        "slotLeaseId": head.slot.lease_id if head.slot else None,
        "cancelRequested": head.cancel_requested,
        "nextAttemptAt": rfc3339(head.next_attempt_at) if head.next_attempt_at else None,
        "attemptStartedAt": rfc3339(head.attempt_started_at) if head.attempt_started_at else None,
        "updatedAt": rfc3339(head.updated_at) if head.updated_at else None,
        "write": head.write,
        "announced": head.announced,
        "order": str(head.order),  # a number of 64 bits would need a type annotation
        "policy": compact(head.policy.plain()) if head.policy else None,
    }
    properties |= split_text("checkpoint", head.checkpoint) if head.checkpoint else {}
    return {name: value for name, value in properties.items() if value is not None}


def head_of(row: Any) -> Head:
    """The head that a row holds."""

    def moment(name: str) -> datetime | None:
        return datetime.fromisoformat(row[name]) if row.get(name) else None

    return Head(
        job_id=row["PartitionKey"],
        namespace=row["namespace"],
        name=row["name"],
        handler=row["handler"],
        queue=row["queue"],
        group=row["group"],
        submitted_at=datetime.fromisoformat(row["submittedAt"]),
        state=State(row["state"]),
        reason=_reason(row),
        epoch=row["epoch"],
        attempt=row["attempt"],
        sequence=row["sequence"],
        worker=row.get("worker"),
        session=row.get("session", ""),
        slot=Grant(row["slotBlob"], row["slotLeaseId"]) if "slotBlob" in row else None,
        cancel_requested=row.get("cancelRequested", False),
        next_attempt_at=moment("nextAttemptAt"),
        attempt_started_at=moment("attemptStartedAt"),
        updated_at=moment("updatedAt"),
        write=row.get("write", ""),
        announced=row.get("announced", 0),
        order=int(row.get("order", 0)),
        checkpoint=join_text("checkpoint", row) or "",
        policy=read(row["policy"]) if "policy" in row else None,
        etag=row.metadata["etag"],
    )


def _reason(row: Mapping[str, Any]) -> State | None:
    return State(row["reason"]) if "reason" in row else None


def row_key(sequence: int) -> str:
    """Key of an event's row: text order is the order of the events, and the head comes last."""
    return f"{sequence:010d}"


def event_row(event: JobEvent) -> dict[str, Any]:
    """The row of an event."""
    row: dict[str, Any] = {
        "PartitionKey": event.job_id,
        "RowKey": row_key(event.sequence),
        "eventId": event.event_id,
        "status": event.status,
        "state": event.state.value,
        "timestamp": rfc3339(event.timestamp),
        "attempt": event.attempt,
        "epoch": event.epoch,
        **split_text("message", event.message),
    }
    if event.reason:
        row["reason"] = event.reason.value
    if event.worker:
        row["worker"] = event.worker
    if event.progress is not None:
        row["progress"] = event.progress
    if event.data is not None:
        row |= split_text("data", compact(event.data))
    return row


def event_of(row: Mapping[str, Any], head: Head) -> JobEvent:
    """The event that a row holds, with what the job's head says of the job."""
    data = join_text("data", row)
    return JobEvent(
        event_id=row["eventId"],
        job_id=head.job_id,
        namespace=head.namespace,
        name=head.name,
        handler=head.handler,
        queue=head.queue,
        group=head.group,
        submitted_at=head.submitted_at,
        sequence=int(row["RowKey"]),
        status=row["status"],
        state=State(row["state"]),
        reason=_reason(row),
        message=join_text("message", row) or "",
        timestamp=datetime.fromisoformat(row["timestamp"]),
        attempt=row["attempt"],
        epoch=row["epoch"],
        worker=row.get("worker"),
        progress=row.get("progress"),
        data=json.loads(data) if data else None,
    )
