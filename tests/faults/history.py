"""What is known after a run of the system: what was asked for, what the handlers did, what JobLease says happened."""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from joblease.head import Head
from joblease.messages import JobEvent
from joblease.states import State
from joblease_local.processes import started_at


@dataclass(frozen=True, slots=True)
class Activity:
    """A handler's own note, made outside of JobLease: it lived and worked on a job at that time."""

    job_id: str
    run: str
    """Process and a random number: no two runs share it."""
    epoch: int
    kind: str
    """`start`, `alive`, `stopped`, or `end` when the handler came to its regular end; `step` before it reports one;
    `process` when it has started one; `outlived` when it finds one that an earlier run of its job has started."""
    at: float
    """Monotonic seconds of this machine."""
    wall: float
    """Unix time."""
    token: str = ""
    """Of a step: what its row in the trail has as `data.token`. Of a start: epoch and number of the last checkpoint. Of
    a process that outlived its run: that run."""
    pid: int = 0
    started: str = ""
    """When the process started, as the kernel counts it: a process id alone is used again."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a handler, as its own notes show it."""

    job_id: str
    run: str
    epoch: int
    began: float
    last_seen: float
    last_seen_wall: float
    ended: bool


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job that the API server has accepted."""

    job_id: str
    name: str
    group: str
    limit: int
    outcomes: frozenset[State] = frozenset({State.COMPLETED})
    """What may become of it. One that is to complete has so many attempts that no fault explains another end."""
    deleted: bool = False
    """Its resource was deleted, perhaps before anybody had seen it."""


@dataclass(slots=True)
class History:
    """Everything that the checker looks at."""

    jobs: list[Submitted]
    activities: list[Activity]
    heads: dict[str, Head]
    events: dict[str, list[JobEvent]]
    """The audit trail, by job."""
    announced: list[JobEvent] = field(default_factory=list)
    """Events that were published: whoever publishes one has had it acknowledged by the trail."""
    statuses: dict[str, str] = field(default_factory=dict)
    """Reason of the condition `Succeeded` of each resource that exists, by job."""
    fed: set[str] = field(default_factory=set)
    """Ids of the events in the dashboard's feed."""
    indexed: dict[str, str] = field(default_factory=dict)
    """State of each job in the dashboard's index."""
    leases: list[str] = field(default_factory=list)
    """Slots that are leased although nothing runs any more, and rows that were left in the list of open jobs."""
    messages: dict[str, int] = field(default_factory=dict)
    """How many messages are left in each queue that should be empty."""
    left: list[Activity] = field(default_factory=list)
    """The `process` notes of processes that still live, after all is quiet."""
    forgotten: list[str] = field(default_factory=list)
    """Leases that storage had granted and did not know after its restart."""

    def runs(self) -> list[Run]:
        """The handlers' runs, in the order in which they began."""
        notes: dict[str, list[Activity]] = defaultdict(list)
        for activity in self.activities:
            notes[activity.run].append(activity)
        return sorted((_run(each) for each in notes.values()), key=lambda run: run.began)


def _run(notes: list[Activity]) -> Run:
    first, last = min(notes, key=lambda note: note.at), max(notes, key=lambda note: note.at)
    ended = any(note.kind == "end" for note in notes)
    return Run(first.job_id, first.run, first.epoch, first.at, last.at, last.wall, ended)


def living(activities: Iterable[Activity]) -> list[Activity]:
    """The notes of processes that live now."""
    noted = (each for each in activities if each.kind == "process")
    return [each for each in noted if started_at(each.pid) == each.started]


def read_activities(record: Path) -> list[Activity]:
    """The handlers' notes, one JSON object a line."""
    lines: Iterable[str] = record.read_text().splitlines() if record.exists() else ()
    return [Activity(**json.loads(line)) for line in lines]
