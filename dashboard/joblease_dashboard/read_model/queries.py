"""Reads pages from the read model: newest first, in two storage requests at most, however long the history is.

The tables are sorted the newest first through all partitions (`keys`), so a page is a single range query that begins
where the page before it ended: storage's own continuation token says where, and a page token is that with a wrapping
that can be checked. Empty days cost nothing.

Filters are applied by storage as it reads on. So that one which matches nothing does not read the whole history, a page
with filters looks at a span of partitions, as wide as storage reads in a fraction of a second. When it has found too
little by then it is short, or empty, and its token leads to the next partition in which there is anything at all.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from joblease.messages import now

from joblease_dashboard.read_model.keys import after, inverted, partition
from joblease_dashboard.read_model.seals import PLAIN, Seals
from joblease_dashboard.read_model.tokens import BadToken, Position, parse, token_of

if TYPE_CHECKING:
    from azure.data.tables.aio import TableClient

MAX_PAGE = 1_000
CLOCK_SKEW = timedelta(hours=1)
LEAST_SPAN, FIRST_SPAN, GREATEST_SPAN = 1, 7, 10_000
QUICK_SECONDS, SLOW_SECONDS = 0.05, 0.2
_LAST = "￿"


@dataclass(frozen=True, slots=True)
class Filters:
    """What to look for; None means any."""

    equal: Mapping[str, str] = field(default_factory=dict)
    """Columns and their values."""
    prefix: Mapping[str, str] = field(default_factory=dict)
    """Columns and what their values begin with."""
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Rows, and where to go on; no token means that there is nothing more."""

    rows: list[Mapping[str, Any]]
    token: str | None


class TimeTable:
    """A table whose keys come from `keys.key`."""

    def __init__(self, table: "TableClient", seals: Seals = PLAIN) -> None:
        """`seals` of its page tokens."""
        self._table = table
        self._seals = seals
        self._span = FIRST_SPAN

    async def page(self, size: int, token: str | None = None, filters: Filters | None = None) -> Page:
        """The next rows. Raises `BadToken`."""
        filters = filters or Filters()
        size = max(1, min(size, MAX_PAGE))
        start, end, position = (
            parse(token, self._seals) if token else (partition(filters.until or now() + CLOCK_SKEW), None, None)
        )
        if filters.equal or filters.prefix:
            end = end or after(start, self._span)
        began = time.monotonic()
        rows, position = await self._read(start, end, filters, size, position)
        if end and len(rows) < size:
            self._adapt(time.monotonic() - began)
        following = end
        if position and len(rows) < size:  # storage stops early at bounds of its own, and after 5 s
            more, position = await self._read(start, end, filters, size - len(rows), position)
            rows += more
        elif end and not position:
            following = await self._first_partition(end, filters)
        if position:
            return Page(rows, token_of(start, end, position, self._seals))
        return Page(rows, token_of(following, None, None, self._seals) if following else None)

    async def get(self, partition: str, row: str) -> Mapping[str, Any] | None:
        """One row, if it is there."""
        try:
            return await self._table.get_entity(partition, row)
        except ResourceNotFoundError:
            return None

    def _adapt(self, seconds: float) -> None:
        """Look at more or less the next time."""
        if seconds < QUICK_SECONDS:
            self._span = min(self._span * 2, GREATEST_SPAN)
        elif seconds > SLOW_SECONDS:
            self._span = max(self._span // 2, LEAST_SPAN)

    async def _first_partition(self, start: str, filters: Filters) -> str | None:
        """The first partition from `start` on in which there is anything."""
        rows, position = await self._read(start, None, Filters(since=filters.since), 1, None)
        if rows:
            return str(rows[0]["PartitionKey"])
        return start if position else None

    async def _read(
        self, start: str, end: str | None, filters: Filters, size: int, position: Position | None
    ) -> tuple[list[Mapping[str, Any]], Position | None]:
        """One request: rows of the partitions from `start` to before `end`, and where they go on."""
        condition, values = _where(start, end, filters)
        query: Any = self._table.query_entities(condition, parameters=values, results_per_page=size)
        pages = query.by_page(position)
        try:
            rows = [row async for row in await anext(pages)]
        except HttpResponseError as error:
            if position and error.status_code == 400:
                raise BadToken("this page token is not one of ours") from error
            raise
        return rows, pages.continuation_token


def _where(start: str, end: str | None, filters: Filters) -> tuple[str, dict[str, str]]:
    """A condition and its values. Times bound the partitions as well as the rows: storage finds those by its index."""
    conditions, values = ["PartitionKey ge @start"], {"start": start}
    if end:
        conditions.append("PartitionKey lt @end")
        values["end"] = end
    if filters.until:
        conditions.append("RowKey ge @until")
        values["until"] = inverted(filters.until)
    if filters.since:
        conditions.append("PartitionKey le @last and RowKey lt @since")
        values |= {"last": partition(filters.since), "since": inverted(filters.since) + _LAST}
    for column, value in filters.equal.items():
        conditions.append(f"{column} eq @{column}")
        values[column] = value
    for column, value in filters.prefix.items():
        conditions.append(f"{column} ge @{column}From and {column} lt @{column}To")
        values |= {f"{column}From": value, f"{column}To": value + _LAST}
    return " and ".join(conditions), values
