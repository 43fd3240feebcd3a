"""What is counted of ended jobs: how they ended, and how long they had waited and run. Of a minute or of an hour.

Times are counted in buckets, each of which reaches √2 times as far as the one before. There is a last bucket, so a
tally has a greatest size, however many jobs it counts.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from joblease.states import State

_BASE, _FIRST = math.sqrt(2), 0.01
LAST_BUCKET = 63
"""From 11 months on."""
TIMES = ("submittedAt", "startedAt", "runStartedAt", "completedAt")
"""Columns of `JobIndex` that a tally is made from, beside the state."""


def bucket(seconds: float) -> int:
    """Number of the bucket that a time falls into."""
    return 0 if seconds <= _FIRST else min(math.ceil(math.log(seconds / _FIRST, _BASE)), LAST_BUCKET)


def percentile(buckets: Mapping[int, int], share: float) -> float | None:
    """Seconds below which this share of the times lie, within a bucket's width; None when there are none."""
    total = sum(buckets.values())
    if not total:
        return None
    wanted, before = share * total, 0
    for number in sorted(buckets):
        if before + buckets[number] >= wanted:
            low = _FIRST * _BASE ** (number - 1) if number else 0.0
            high = _FIRST * _BASE**number
            return low + (high - low) * (wanted - before) / buckets[number]
        before += buckets[number]
    return _FIRST * _BASE ** max(buckets)


@dataclass(frozen=True, slots=True)
class Tally:
    """How many jobs there are of each outcome, and in each bucket."""

    ended: Counter[str] = field(default_factory=Counter)
    waited: Counter[int] = field(default_factory=Counter)
    ran: Counter[int] = field(default_factory=Counter)

    def __add__(self, other: Self) -> "Tally":
        return Tally(self.ended + other.ended, self.waited + other.waited, self.ran + other.ran)

    def encode(self) -> str:
        """As it is stored."""
        return json.dumps(
            {"ended": self.ended, "waited": _dense(self.waited), "ran": _dense(self.ran)}, separators=(",", ":")
        )

    @classmethod
    def decode(cls, text: str) -> Self:
        """From what is stored."""
        found = json.loads(text)
        return cls(Counter(found["ended"]), _buckets(found["waited"]), _buckets(found["ran"]))


def tally_of(row: Mapping[str, Any]) -> Tally:
    """One ended job, by its row in `JobIndex`."""
    submitted, started, run_started, completed = (moment_of(row[name]) if row.get(name) else None for name in TIMES)
    waited = [bucket((started - submitted).total_seconds())] if started and submitted else []
    ran = [bucket((completed - run_started).total_seconds())] if completed and run_started else []
    return Tally(Counter([State(row["state"]).kind.value]), Counter(waited), Counter(ran))


def moment_of(text: str) -> datetime:
    """A time of a row, in UTC."""
    return datetime.fromisoformat(text).astimezone(UTC)


def _dense(buckets: Counter[int]) -> list[int]:
    """The first bucket's number, and how many there are in it and in each that follows."""
    return [min(buckets), *(buckets[number] for number in range(min(buckets), max(buckets) + 1))] if buckets else []


def _buckets(dense: list[int]) -> Counter[int]:
    return Counter({number: count for number, count in enumerate(dense[1:], dense[0]) if count} if dense else {})
