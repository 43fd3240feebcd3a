"""Decides which jobs may go to the workers now, and in which order. Pure: no I/O, and the time is passed in.

Waiting jobs of a group stand in line by priority, then age. The first in line is admitted when that breaks neither its
own limit nor that of an admitted job of the group (they are the same, unless somebody mixes limits in a group). Nobody
overtakes it within the group, so a job with a small limit is never starved by later ones with a larger limit. Jobs with
limit 0 take no slot, are not counted and never wait for others. Each admitted job is assigned the lowest free slot of
its group, as a hint for the worker: what keeps two jobs apart is the slot's lease, not this bookkeeping, which is just
rebuilt after a restart.

Lines are heaps with lazy deletion: an entry counts only while the job still waits with that very key.
"""

import heapq
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice

from joblease.resource import Reason

SHOWN_HOLDERS = 3
"""How many of the jobs that hold a group a waiting job's message names."""


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

    @property
    def line(self) -> str:
        """The group in whose line it stands; jobs without a limit share one that never blocks."""
        return self.group if self.limit else ""

    @property
    def key(self) -> tuple[int, datetime, str]:
        """Place in the line."""
        return (-self.priority, self.submitted_at, self.uid)


@dataclass(frozen=True, slots=True)
class Admission:
    """A job that may go now, with the slot that is free for it (None without a limit)."""

    uid: str
    slot: int | None


@dataclass(slots=True)
class _Group:
    line: list[tuple[int, datetime, str]] = field(default_factory=list)
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
        self._changed: set[str] = set()

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return len(self._waiting)

    @property
    def admitted(self) -> int:
        """How many jobs are admitted."""
        return len(self._admitted)

    def is_admitted(self, uid: str) -> bool:
        """Whether the job counts as running."""
        return uid in self._admitted

    def wait(self, candidate: Candidate) -> None:
        """Put a job in line, or change what is known about a waiting one. An admitted job gives up its slot."""
        if self._waiting.get(candidate.uid) == candidate:
            return
        self._free(candidate.uid)
        self._waiting[candidate.uid] = candidate
        if candidate.not_before:
            heapq.heappush(self._not_due, (candidate.not_before, candidate.uid))
        else:
            self._enqueue(candidate)

    def hold_slot(self, candidate: Candidate) -> None:
        """Count a job as admitted that was admitted elsewhere or earlier (before a restart)."""
        if candidate.uid in self._admitted:
            return
        self._waiting.pop(candidate.uid, None)
        self._admit(candidate)

    def remove(self, uid: str) -> None:
        """Forget a job: it has ended, or has gone."""
        self._waiting.pop(uid, None)
        self._free(uid)

    def admit(self, now: datetime) -> list[Admission]:
        """Admit all that may go now. Costs nothing for groups in which nothing has changed."""
        while self._not_due and self._not_due[0][0] <= now:
            due, uid = heapq.heappop(self._not_due)
            candidate = self._waiting.get(uid)
            if candidate and candidate.not_before == due:
                self._waiting[uid] = candidate = replace(candidate, not_before=None)
                self._enqueue(candidate)
        changed, self._changed = self._changed, set()
        return [admission for group in sorted(changed) for admission in self._admit_from(self._groups[group])]

    def next_due(self) -> datetime | None:
        """When `admit` should be called again at the latest, or None."""
        while self._not_due:
            due, uid = self._not_due[0]
            candidate = self._waiting.get(uid)
            if candidate and candidate.not_before == due:
                return due
            heapq.heappop(self._not_due)
        return None

    def why_waiting(self, uid: str) -> tuple[Reason, str]:
        """What a waiting job waits for, and who holds it."""
        candidate = self._waiting[uid]
        if candidate.suspended:
            return Reason.SUSPENDED, "held back by spec.suspend"
        if candidate.not_before:
            return Reason.SCHEDULED, f"waits until {candidate.not_before:%Y-%m-%dT%H:%M:%SZ}"
        slots = self._group(candidate.line).slots
        shown = ", ".join(self._admitted[holder].label for holder in islice(slots, SHOWN_HOLDERS))
        more = f" and {len(slots) - SHOWN_HOLDERS} more" if len(slots) > SHOWN_HOLDERS else ""
        held = f", held by {shown}{more}" if shown else ""
        return Reason.WAITING_FOR_GROUP, f"waits for group {candidate.group!r} (limit {candidate.limit}){held}"

    def _group(self, name: str) -> _Group:
        return self._groups.setdefault(name, _Group())

    def _enqueue(self, candidate: Candidate) -> None:
        if not candidate.suspended:
            heapq.heappush(self._group(candidate.line).line, candidate.key)
            self._changed.add(candidate.line)

    def _admit_from(self, group: _Group) -> Iterable[Admission]:
        while group.line:
            key = group.line[0]
            candidate = self._waiting.get(key[2])
            if candidate is None or candidate.key != key or candidate.suspended or candidate.not_before:
                heapq.heappop(group.line)  # out of date
                continue
            if candidate.limit and len(group.slots) >= min([candidate.limit, *group.limits]):
                return
            heapq.heappop(group.line)
            del self._waiting[candidate.uid]
            yield Admission(candidate.uid, self._admit(candidate))

    def _admit(self, candidate: Candidate) -> int | None:
        self._admitted[candidate.uid] = candidate
        if not candidate.limit:
            return None
        group = self._group(candidate.line)
        group.limits[candidate.limit] += 1
        slot = heapq.heappop(group.returned) if group.returned else len(group.slots)
        group.slots[candidate.uid] = slot
        return slot

    def _free(self, uid: str) -> None:
        candidate = self._admitted.pop(uid, None)
        if candidate:
            group = self._group(candidate.line)
            if (slot := group.slots.pop(uid, None)) is not None:
                heapq.heappush(group.returned, slot)
                group.limits -= Counter([candidate.limit])
            self._changed.add(candidate.line)
            if not group.slots and not group.line:
                self._changed.discard(candidate.line)
                del self._groups[candidate.line]
