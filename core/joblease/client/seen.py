"""Jobs and their events as the API shows them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from joblease.states import State


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job."""

    job_id: str
    sequence: int
    """1 for the first one of a job; no number is left out."""
    status: str
    """`Submitted`, `Started`, `Step 1`, `Completed`, …"""
    state: State
    """The job's, from then on."""
    message: str
    timestamp: datetime
    attempt: int
    progress: int | None
    """Percent."""
    data: Mapping[str, Any]
    """What the handler gave with a step, or the outcome; of live events only when it is asked for."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How a job stood when it was looked at."""

    job_id: str
    namespace: str
    name: str
    handler: str
    state: State
    sequence: int
    """How many events it has had."""
    message: str
    attempt: int
    progress: int | None
    """Percent."""
    row: Mapping[str, Any] = field(repr=False)
    """All that the API says of it, in its words."""
    result: Any = None
    """What the handler has returned."""
    error: str | None = None
    """Why the job has ended otherwise."""


def event_of(row: Mapping[str, Any]) -> Event:
    """An event from the API's JSON."""
    return Event(
        row["jobId"], row["sequence"], row["status"], State(row["state"]), row.get("message", ""),
        datetime.fromisoformat(row["timestamp"]), row.get("attempt", 0), row.get("progress"), row.get("data") or {},
    )  # fmt: skip


def snapshot_of(row: Mapping[str, Any], result: Any = None, error: str | None = None) -> Snapshot:
    """A job from the API's JSON."""
    return Snapshot(
        row["jobId"], row["namespace"], row["name"], row["handler"], State(row["state"]), row.get("sequence", 0),
        row.get("message", ""), row.get("attempt", 0), row.get("progress"), row, result, error,
    )  # fmt: skip
