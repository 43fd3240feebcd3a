"""Decides which jobs may go to the workers now, and in which order. Pure: no I/O, and the time is passed in.

Waiting jobs of a group stand in line by priority, then age, then the order in which the API server took them. The first
in line is admitted when that breaks neither its own limit nor that of an admitted job of the group (they are the same,
unless somebody mixes limits in a group). Nobody overtakes it within the group, so a job with a small limit is never
starved by later ones with a larger limit. Jobs with limit 0 take no slot, are not counted and never wait for others.
Each admitted job is assigned the lowest free slot of its group, as a hint for the worker: what keeps two jobs apart is
the slot's lease, not this bookkeeping, which is just rebuilt after a restart.

A group has a line for each queue, and jobs of a queue that no worker serves stand in nobody's way: their lines are
passed over, and those that were admitted give back their slots until they start.

Lines are heaps with lazy deletion: an entry counts only while the job still waits with that very key. `admit` does a
bounded number of steps, since whoever calls it shares an event loop.
"""

import heapq
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice

from joblease.states import State

SHOWN_HOLDERS = 3
"""How many of the jobs that hold a group a waiting job's message names."""
LOOKED_AT = 100
"""Holders among which those are looked for."""
STEPS = 1_000
"""Of one `admit`: a few milliseconds."""
Key = tuple[int, datetime, int, str]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A job as the scheduler sees it."""

    uid: str
    label: str
    """`namespace/name`, for people."""
    group: str
    limit: int
    submitted_at: datetime
    priority: int = 0
    not_before: datetime | None = None
    """`startAfter`, or the time of the next attempt."""
    suspended: bool = False
    order: int = 0
    """Place among those of the same second."""
    queue: str = ""

    @property
    def namespace(self) -> str:
        """Where the job is."""
        return self.label.partition("/")[0]

    @property
    def line(self) -> str:
        """The group in whose line it stands; jobs without a limit share one that never blocks."""
        return self.group if self.limit else ""

    @property
    def key(self) -> Key:
        """Place in the line."""
        return (-self.priority, self.submitted_at, self.order, self.uid)


@dataclass(frozen=True, slots=True)
class Admission:
    """A job that may go now, with the slot that is free for it (None without a limit)."""

    uid: str
    slot: int | None


@dataclass(slots=True)
class _Group:
    lines: dict[str, list[Key]] = field(default_factory=dict)
    """By queue."""
    slots: dict[str, int] = field(default_factory=dict)
    """Slot of each admitted job that takes one."""
    limits: Counter[int] = field(default_factory=Counter)
    """How many admitted jobs have which limit."""
    returned: list[int] = field(default_factory=list)
    """A heap of the slots that are free below the highest one taken."""


class Scheduler:
    """Waiting and admitted jobs of all groups."""

    def __init__(self) -> None:
        self._waiting: dict[str, Candidate] = {}
        self._admitted: dict[str, Candidate] = {}
        self._groups: dict[str, _Group] = {}
        self._not_due: list[tuple[datetime, str]] = []
        self._due: list[str] = []
        self._unserved: frozenset[str] = frozenset()
        self._changed: dict[str, None] = {}
        """Lines in which somebody may be admitted, in the order in which they changed."""

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return len(self._waiting)

    @property
    def admitted(self) -> int:
        """How many jobs are admitted."""
        return len(self._admitted)

    @property
    def behind(self) -> bool:
        """Whether `admit` had more to do than it did."""
        return bool(self._changed)

    def is_admitted(self, uid: str) -> bool:
        """Whether the job counts as running."""
        return uid in self._admitted

    def is_admitted_as(self, candidate: Candidate) -> bool:
        """Whether the job counts as running, in this group and with this limit."""
        known = self._admitted.get(candidate.uid)
        return known is not None and (known.group, known.limit) == (candidate.group, candidate.limit)

    def has_group(self, name: str) -> bool:
        """Whether a job of the group waits or holds a slot."""
        return name in self._groups

    def slot(self, uid: str) -> int | None:
        """The slot of an admitted job; None when it takes none."""
        candidate = self._admitted.get(uid)
        group = self._groups.get(candidate.line) if candidate else None
        return group.slots.get(uid) if group else None

    def enqueue(self, candidate: Candidate) -> None:
        """Put a job in line, or change what is known about a waiting one. An admitted job gives up its slot."""
        if self._waiting.get(candidate.uid) == candidate:
            return
        self.remove(candidate.uid)
        self._waiting[candidate.uid] = candidate
        if candidate.not_before:
            heapq.heappush(self._not_due, (candidate.not_before, candidate.uid))
        else:
            self._push(candidate)

    def hold_slot(self, candidate: Candidate) -> None:
        """Count a job as admitted that was admitted elsewhere or earlier, or that starts without a slot."""
        known = self._admitted.get(candidate.uid)
        if known and known.limit == candidate.limit:
            return
        self.remove(candidate.uid)
        self._admit(candidate)

    def give_back(self, uid: str) -> bool:
        """An admitted job needs its slot only once it starts: `hold_slot` is told. Whether it had one."""
        candidate = self._admitted.get(uid)
        if candidate is None or not candidate.limit:
            return False
        self._free(uid)
        self._admitted[uid] = replace(candidate, limit=0)
        return True

    def pass_over(self, queues: Collection[str]) -> None:
        """Admit nobody with a limit who waits for these queues, and again those who wait for the ones of before."""
        changed = self._unserved ^ frozenset(queues)  # one that is not served any more may have held up the others
        self._unserved = frozenset(queues)
        if changed:
            lines = (name for name, group in self._groups.items() if not changed.isdisjoint(group.lines))
            self._changed.update(dict.fromkeys(lines))

    def remove(self, uid: str) -> None:
        """Forget a job: it has ended, or has gone."""
        candidate = self._waiting.pop(uid, None)
        if candidate and candidate.line in self._groups:
            self._changed[candidate.line] = None  # the job behind it may go
        self._free(uid)

    def admit(self, now: datetime, steps: int = STEPS) -> list[Admission]:
        """Admit all that may go now, or the first of them. Costs nothing for groups in which nothing has changed."""
        admissions = []
        while self._not_due and self._not_due[0][0] <= now and steps:
            steps -= 1
            due, uid = heapq.heappop(self._not_due)
            candidate = self._waiting.get(uid)
            if candidate and candidate.not_before == due:
                self._waiting[uid] = candidate = replace(candidate, not_before=None)
                self._push(candidate)
                self._due.append(uid)
        while self._changed and steps:
            steps -= 1
            name = next(iter(self._changed))
            found = self._step(name)
            if isinstance(found, Admission):
                admissions.append(found)
            elif found is None:
                del self._changed[name]
                self._tidy(name)
        return admissions

    def due(self) -> list[str]:
        """Jobs whose time has come since this was asked last, and that wait for something else now."""
        due, self._due = self._due, []
        return [uid for uid in due if uid in self._waiting]

    def next_due(self) -> datetime | None:
        """When `admit` should be called again at the latest, or None."""
        while self._not_due:
            due, uid = self._not_due[0]
            candidate = self._waiting.get(uid)
            if candidate and candidate.not_before == due:
                return due
            heapq.heappop(self._not_due)
        return None

    def why_waiting(self, uid: str) -> tuple[State, str] | None:
        """What a job waits for that has not started, and who holds it; None when that is just a worker."""
        candidate = self._waiting.get(uid) or self._admitted.get(uid)
        if candidate is None:
            return None
        if candidate.suspended:
            return State.SUSPENDED, "held back by spec.suspend"
        if candidate.not_before:
            return State.SCHEDULED, f"waits until {candidate.not_before:%Y-%m-%dT%H:%M:%SZ}"
        if candidate.queue in self._unserved:
            return State.QUEUED, f"no worker serves queue {candidate.queue!r}"
        if uid in self._admitted:
            return None
        return State.WAITING_FOR_GROUP, self._held(candidate)

    def _held(self, candidate: Candidate) -> str:
        """Who holds the group that a job waits for, as those may know who see its namespace: theirs by name alone."""
        group = self._groups[candidate.line]
        holders = [self._admitted[uid] for uid in islice(group.slots, LOOKED_AT)]
        own = [each.label for each in holders if each.namespace == candidate.namespace]
        named = own[:SHOWN_HOLDERS] if len(own) <= SHOWN_HOLDERS else [*own[:SHOWN_HOLDERS], "others"]
        if len(own) < len(holders):
            named.append("a job of another namespace")
        held = f", held by {' and '.join(filter(None, [', '.join(named[:-1]), named[-1]]))}" if named else ""
        text = f"waits for group {candidate.group!r} (limit {candidate.limit}){held}"
        least = min([candidate.limit, *group.limits])
        if least < candidate.limit:
            return f"{text}; a job that holds it has a smaller limit"
        return text if len(group.slots) >= least else f"{text}; it stands behind others in line"

    def _push(self, candidate: Candidate) -> None:
        if not candidate.suspended:
            lines = self._groups.setdefault(candidate.line, _Group()).lines
            heapq.heappush(lines.setdefault(candidate.queue, []), candidate.key)
            self._changed[candidate.line] = None

    def _step(self, name: str) -> Admission | Key | None:
        """Admit the first in line, or drop an entry that is out of date; None when there is nothing to do."""
        group = self._groups[name]
        served = [(line[0], queue) for queue, line in group.lines.items() if not name or queue not in self._unserved]
        if not served:
            return None
        key, queue = min(served)
        candidate = self._waiting.get(key[-1])
        stands = candidate and candidate.key == key and not candidate.suspended and not candidate.not_before
        if candidate and stands and candidate.limit and len(group.slots) >= min([candidate.limit, *group.limits]):
            return None
        heapq.heappop(group.lines[queue])
        if not group.lines[queue]:
            del group.lines[queue]
        if not candidate or not stands:
            return key
        del self._waiting[candidate.uid]
        return Admission(candidate.uid, self._admit(candidate))

    def _admit(self, candidate: Candidate) -> int | None:
        self._admitted[candidate.uid] = candidate
        if not candidate.limit:
            return None
        group = self._groups.setdefault(candidate.line, _Group())
        group.limits[candidate.limit] += 1
        slot = heapq.heappop(group.returned) if group.returned else len(group.slots)
        group.slots[candidate.uid] = slot
        return slot

    def _free(self, uid: str) -> None:
        candidate = self._admitted.pop(uid, None)
        if candidate and candidate.limit:
            group = self._groups[candidate.line]
            heapq.heappush(group.returned, group.slots.pop(uid))
            group.limits -= Counter([candidate.limit])
            self._changed[candidate.line] = None

    def _tidy(self, name: str) -> None:
        group = self._groups[name]
        if not group.slots and not group.lines:
            del self._groups[name]
