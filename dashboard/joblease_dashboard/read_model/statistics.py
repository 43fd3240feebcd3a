"""Numbers over time: how many jobs ended, how, and how long they had waited and run.

Counted as jobs end, into a row per hour and dashboard replica in `JobStats` (`<hour>-<replica>` in the partition of
its month): whoever reads adds the replicas up. A replica alone writes its rows, so there is nothing to agree on. A
chart of any window takes one or two requests. When a replica is killed in the moment between the index and its own
row, the jobs of that moment are missing from the charts; they are in the trail, as everything.
"""

import json
import math
import secrets
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from azure.data.tables import UpdateMode
from joblease.messages import now
from joblease.states import OUTCOMES, State

if TYPE_CHECKING:
    from azure.data.tables.aio import TableClient

HOUR = "%Y-%m-%dT%H"
MONTH = "%Y-%m"
WINDOWS = {"1h": (60, 1), "6h": (360, 5), "24h": (1440, 15), "7d": (10_080, 120)}
"""Length and step in minutes."""
_BASE, _FIRST = math.sqrt(2), 0.01
KEPT_HOURS = 48

Minute = dict[str, Any]


def bucket(seconds: float) -> int:
    """Number of the bucket that a time falls into; each reaches 1.41 times as far as the one before."""
    return 0 if seconds <= _FIRST else math.ceil(math.log(seconds / _FIRST, _BASE))


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


def _empty() -> Minute:
    return {"ended": Counter(), "waited": Counter(), "ran": Counter()}


def _add(to: Minute, more: Mapping[str, Any]) -> None:
    to["ended"].update(more["ended"])
    for name in ("waited", "ran"):
        to[name].update({int(number): count for number, count in more[name].items()})


class Stats:
    """Counts and reads."""

    def __init__(self, table: "TableClient") -> None:
        self._table = table
        self._replica = secrets.token_hex(4)
        self._hours: dict[str, dict[int, Minute]] = defaultdict(lambda: defaultdict(_empty))
        self._changed: set[str] = set()

    def count(self, row: Mapping[str, Any]) -> None:
        """Count a job that has just ended; `row` is its row in `JobIndex`."""
        submitted, started, run_started, completed = (
            datetime.fromisoformat(row[name]).astimezone(UTC) if row.get(name) else None
            for name in ("submittedAt", "startedAt", "runStartedAt", "completedAt")
        )
        assert submitted and completed  # noqa: S101, PT018 - it was submitted, and has ended
        hour = completed.strftime(HOUR)
        minute = self._hours[hour][completed.minute]
        minute["ended"][State(row["state"]).kind.value] += 1
        if started:
            minute["waited"][bucket((started - submitted).total_seconds())] += 1
        if run_started:
            minute["ran"][bucket((completed - run_started).total_seconds())] += 1
        self._changed.add(hour)

    async def write(self) -> None:
        """Write the hours that have changed. Raises `AzureError`; then they are written next time."""
        for hour in sorted(self._changed):
            row = {
                "PartitionKey": hour[:7],
                "RowKey": f"{hour}-{self._replica}",
                "data": json.dumps(self._hours[hour], separators=(",", ":")),
            }
            await self._table.upsert_entity(row, mode=UpdateMode.REPLACE)
            self._changed.discard(hour)
        for hour in sorted(self._hours)[:-KEPT_HOURS]:
            del self._hours[hour]
            self._replica = secrets.token_hex(4)  # a late job of a forgotten hour must not replace that hour's row

    async def read(self, window: str) -> list[dict[str, Any]]:
        """Points of a window of `WINDOWS`, oldest first. One storage request, two across a month's end."""
        minutes, step = WINDOWS[window]
        until = now().replace(second=0, microsecond=0) + timedelta(minutes=1)
        since = until - timedelta(minutes=minutes)
        steps: list[Minute] = [_empty() for _ in range(minutes // step)]
        for hour, data in await self._rows(since, until):
            start = datetime.strptime(hour, HOUR).replace(tzinfo=UTC)
            for minute, counts in data.items():
                at = (start + timedelta(minutes=int(minute)) - since) // timedelta(minutes=step)
                if 0 <= at < len(steps):
                    _add(steps[at], counts)
        return [_point(since + timedelta(minutes=step * at), each) for at, each in enumerate(steps)]

    async def _rows(self, since: datetime, until: datetime) -> list[tuple[str, dict[str, Any]]]:
        found: list[tuple[str, dict[str, Any]]] = []
        for month in sorted({since.strftime(MONTH), until.strftime(MONTH)}):
            values = {"month": month, "since": since.strftime(HOUR), "until": until.strftime(HOUR) + "~"}
            query = "PartitionKey eq @month and RowKey ge @since and RowKey lt @until"
            rows = self._table.query_entities(query, parameters=values)
            found += [(row["RowKey"][:13], json.loads(row["data"])) async for row in rows]
        return found


def totals(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The window as a whole."""
    ended = sum(point[kind] for point in points for kind in OUTCOMES)
    judged = sum(point["completed"] + point["failed"] for point in points)
    completed = sum(point["completed"] for point in points)
    return {"ended": ended, "successRate": completed / judged if judged else None}


def _point(at: datetime, minute: Minute) -> dict[str, Any]:
    point: dict[str, Any] = {"time": at.strftime("%Y-%m-%dT%H:%M:%SZ")}
    point |= {kind: minute["ended"].get(kind, 0) for kind in OUTCOMES}
    for name in ("waited", "ran"):
        point |= {f"{name}P{share}": percentile(minute[name], share / 100) for share in (50, 95)}
    return point
