"""Numbers over time: how many jobs ended, how, and how long they had waited and run.

`JobStats` has a row for each hour, `hour-<hour>` in the partition of its month, and a row for each job that was counted
in it, `job-<id>`. The transaction that counts a job inserts the latter and replaces the former under its ETag. So each
job is counted once, whoever counts it and however often: an answer that was lost, a second dashboard, an event that
comes again change nothing. A job is counted before its row in `JobIndex` says that it has ended (`index`), so whatever
has ended there has been counted.

An hour's row has a tally for each minute and one for the whole. Each has a greatest size (`tally`), and so has the row:
at most 61 properties of 4 KiB. A chart of any window takes one request, two across a month's end.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from joblease.messages import now
from joblease.states import OUTCOMES
from joblease.together import together
from joblease.transactions import MAX_WRITES, Write, submit

from joblease_dashboard.read_model.parts import outdated, parts
from joblease_dashboard.read_model.tally import Tally, moment_of, percentile, tally_of

if TYPE_CHECKING:
    from azure.data.tables.aio import TableClient

HOUR = "%Y-%m-%dT%H"
MONTH = "%Y-%m"
WINDOWS = {"1h": (60, 1), "6h": (360, 5), "24h": (1440, 15), "7d": (10_080, 120)}
"""Length and step in minutes."""
WHOLE = "hour"
"""The property that has the tally of the whole hour. A minute's is `m00` to `m59`."""
REMEMBERED_HOURS = 48
_COMPLETE = ("complete", "complete")
"""Key of a row that says: all ended jobs of `JobIndex` are counted, and not only those that ended since an upgrade."""


@dataclass(frozen=True, slots=True)
class _Hour:
    """An hour's row."""

    etag: str | None = None
    """None when there is no row yet."""
    tallies: Mapping[str, Tally] = field(default_factory=dict)


class Stats:
    """Counts and reads."""

    def __init__(self, table: "TableClient") -> None:
        self._table = table
        self._hours: OrderedDict[str, _Hour] = OrderedDict()

    async def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Count jobs that have ended, by their rows in `JobIndex`. May be repeated. Raises `AzureError`."""
        by_hour: dict[str, dict[str, Mapping[str, Any]]] = defaultdict(dict)
        for row in rows:
            by_hour[moment_of(row["completedAt"]).strftime(HOUR)][row["jobId"]] = row
        for hour, jobs in by_hour.items():
            for part in parts(list(jobs.values()), MAX_WRITES - 1):
                await self._count(hour, part)

    async def _count(self, hour: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Jobs of one hour. When anything is not as it was known, it is read, and the rest is counted."""
        while rows:
            known = self._hours.get(hour, _Hour())
            news = _counted(rows, known.tallies)
            properties = {**_key(hour), **{name: tally.encode() for name, tally in news.items()}}
            counts = Write("merge" if known.etag else "insert", properties, known.etag)
            try:
                *_, etag = await submit(self._table, [*(Write("insert", _key(hour, row)) for row in rows), counts])
            except HttpResponseError as error:
                if not outdated(error):
                    raise
                if error.status_code == 409:
                    counted = await together(*(self._is_counted(hour, row) for row in rows))
                    rows = [row for row, there in zip(rows, counted, strict=True) if not there]
                self._remember(hour, await self._read_hour(hour))
            else:
                self._remember(hour, _Hour(etag, {**known.tallies, **news}))
                return

    async def _is_counted(self, hour: str, row: Mapping[str, Any]) -> bool:
        return await self._find(*_key(hour, row).values()) is not None

    async def _read_hour(self, hour: str) -> _Hour:
        found = await self._find(*_key(hour).values())
        if found is None:
            return _Hour()
        tallies = {name: Tally.decode(text) for name, text in found.items() if name not in _key(hour)}
        return _Hour(str(found.metadata["etag"]), tallies)

    async def _find(self, partition: str, row: str) -> Any | None:
        try:
            return await self._table.get_entity(partition, row)
        except ResourceNotFoundError:
            return None

    def _remember(self, hour: str, row: _Hour) -> None:
        self._hours[hour] = row
        self._hours.move_to_end(hour)
        if len(self._hours) > REMEMBERED_HOURS:
            self._hours.popitem(last=False)

    async def complete(self) -> bool:
        """Whether all ended jobs of `JobIndex` are counted."""
        return await self._find(*_COMPLETE) is not None

    async def set_complete(self) -> None:
        """They are, and from now on each is counted when it ends."""
        await self._table.upsert_entity(dict(zip(("PartitionKey", "RowKey"), _COMPLETE, strict=True)))

    async def read(self, window: str) -> list[dict[str, Any]]:
        """Points of a window of `WINDOWS`, oldest first. One storage request, two across a month's end.

        Steps of whole hours are made from the tallies of hours, and the window ends with the present hour.
        """
        minutes, step = WINDOWS[window]
        whole = step % 60 == 0
        until = _end_of_hour(now()) if whole else now().replace(second=0, microsecond=0) + timedelta(minutes=1)
        since = until - timedelta(minutes=minutes)
        steps = [Tally() for _ in range(minutes // step)]
        for moment, tally in await self._read(since, until, whole=whole):
            at = (moment - since) // timedelta(minutes=step)
            if 0 <= at < len(steps):
                steps[at] += tally
        return [_point(since + timedelta(minutes=step * at), each) for at, each in enumerate(steps)]

    async def _read(self, since: datetime, until: datetime, *, whole: bool) -> list[tuple[datetime, Tally]]:
        """Of the hours or the minutes of a time."""
        found: list[tuple[datetime, Tally]] = []
        for month in sorted({since.strftime(MONTH), until.strftime(MONTH)}):
            first, last = (_key(moment.strftime(HOUR))["RowKey"] for moment in (since, until))
            rows = self._table.query_entities(
                "PartitionKey eq @month and RowKey ge @first and RowKey le @last",
                parameters={"month": month, "first": first, "last": last},
                select=["RowKey", WHOLE] if whole else None,
            )
            async for row in rows:
                hour = datetime.strptime(row["RowKey"], f"hour-{HOUR}").replace(tzinfo=UTC)
                for name, text in row.items():
                    if name == WHOLE if whole else name.startswith("m"):
                        minute = 0 if whole else int(name[1:])
                        found.append((hour + timedelta(minutes=minute), Tally.decode(text)))
        return found


def _key(hour: str, row: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Key of an hour's row, or of the one that says that a job was counted in it."""
    return {"PartitionKey": hour[:7], "RowKey": f"job-{row['jobId']}" if row else f"hour-{hour}"}


def _counted(rows: Iterable[Mapping[str, Any]], known: Mapping[str, Tally]) -> dict[str, Tally]:
    """The tallies of an hour that jobs change, as they are with them."""
    news: dict[str, Tally] = {}
    for row in rows:
        for name in (f"m{moment_of(row['completedAt']).minute:02d}", WHOLE):
            news[name] = (news.get(name) or known.get(name) or Tally()) + tally_of(row)
    return news


def _end_of_hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)


def totals(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The window as a whole."""
    ended = sum(point[kind] for point in points for kind in OUTCOMES)
    judged = sum(point["completed"] + point["failed"] for point in points)
    completed = sum(point["completed"] for point in points)
    return {"ended": ended, "successRate": completed / judged if judged else None}


def _point(at: datetime, tally: Tally) -> dict[str, Any]:
    point: dict[str, Any] = {"time": at.strftime("%Y-%m-%dT%H:%M:%SZ")}
    point |= {kind: tally.ended[kind] for kind in OUTCOMES}
    for name, buckets in (("waited", tally.waited), ("ran", tally.ran)):
        point |= {f"{name}P{share}": percentile(buckets, share / 100) for share in (50, 95)}
    return point
