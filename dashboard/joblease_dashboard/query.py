"""Reads pages from the read model: newest first, by partitions of time, at a cost that does not grow with history.

A page token says where to go on: partition and row. It is opaque to callers and checked when it comes back. A request
looks into a bounded number of partitions; when it has found too little by then, the answer is short and carries a
token. A day in which nothing is found is passed over in one step, so that a quiet week does not hide what came before
it. The oldest partition is where walking back ends.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from joblease.messages import now

from joblease_dashboard.keys import DAY, HOUR, inverted, previous

if TYPE_CHECKING:
    from azure.data.tables.aio import TableClient

MAX_PAGE = 1_000
PARTITIONS_PER_REQUEST = 72
_LAST = "￿"


class BadToken(ValueError):
    """The page token did not come from here."""


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
    """A table whose partitions are days or hours and whose rows are newest first."""

    def __init__(self, table: "TableClient", form: str) -> None:
        self._table = table
        self._form = form

    async def page(self, size: int, token: str | None = None, filters: Filters | None = None) -> Page:
        """The next rows. Raises `BadToken`."""
        filters = filters or Filters()
        size = max(1, min(size, MAX_PAGE))
        newest = min(filters.until or now(), now())
        partition, after = self._parse(token) if token else (newest.astimezone(UTC).strftime(self._form), None)
        rows: list[Mapping[str, Any]] = []
        oldest: str | None = None
        for _ in range(PARTITIONS_PER_REQUEST):
            found = len(rows)
            async for row in self._query(partition, after, filters, size - found + 1):
                if len(rows) == size:
                    return Page(rows, self._token(partition, rows[-1]["RowKey"]))
                rows.append(row)
            oldest = oldest or await self._find_oldest(filters)
            start = f"{partition[:10]}T00"
            quiet = self._form == HOUR and len(rows) == found and partition > start
            if quiet and await self._is_quiet(start, partition, filters):
                partition = start
            partition, after = previous(partition, self._form), None
            if oldest is None or partition < oldest:
                return Page(rows, None)
            if len(rows) == size:
                break
        return Page(rows, self._token(partition, None))

    async def newer_than(self, partition: str, row: str, limit: int) -> list[Mapping[str, Any]]:
        """Rows after a given one, oldest first, at most `limit` of the newest."""
        found: list[Mapping[str, Any]] = []
        current = now().strftime(self._form)
        for _ in range(PARTITIONS_PER_REQUEST):
            if current < partition or len(found) >= limit:
                break
            condition, values = "PartitionKey eq @partition", {"partition": current}
            if current == partition:
                condition, values = condition + " and RowKey lt @row", {**values, "row": row}
            async for each in self._table.query_entities(condition, parameters=values, results_per_page=limit):
                found.append(each)
                if len(found) >= limit:
                    break
            current = previous(current, self._form)
        return found[::-1]

    async def _is_quiet(self, start: str, end: str, filters: Filters) -> bool:
        """Whether nothing is to be found from the partition `start` to the one before `end`."""
        condition, values = "PartitionKey ge @start and PartitionKey lt @end", {"start": start, "end": end}
        async for _ in self._select(condition, values, filters, 1):
            return False
        return True

    def _query(self, partition: str, after: str | None, filters: Filters, size: int) -> Any:
        if after:
            condition = "PartitionKey eq @partition and RowKey gt @after"
            return self._select(condition, {"partition": partition, "after": after}, filters, size)
        return self._select("PartitionKey eq @partition", {"partition": partition}, filters, size)

    def _select(self, condition: str, keys: Mapping[str, str], filters: Filters, size: int) -> Any:
        values: dict[str, Any] = dict(keys)
        conditions = [condition]
        if filters.until:
            conditions.append("RowKey ge @until")
            values["until"] = inverted(filters.until)
        if filters.since:
            conditions.append("RowKey lt @since")
            values["since"] = inverted(filters.since) + _LAST
        for column, value in filters.equal.items():
            conditions.append(f"{column} eq @{column}")
            values[column] = value
        for column, value in filters.prefix.items():
            conditions.append(f"{column} ge @{column}From and {column} lt @{column}To")
            values |= {f"{column}From": value, f"{column}To": value + _LAST}
        return self._table.query_entities(
            " and ".join(conditions), parameters=values, results_per_page=min(size, MAX_PAGE)
        )

    async def _find_oldest(self, filters: Filters) -> str | None:
        """Where walking back ends: the first partition that there is, or the one of `since`."""
        rows = self._table.query_entities("PartitionKey ge '0'", results_per_page=1, select=["PartitionKey"])
        async for row in rows:
            since = filters.since.astimezone(UTC).strftime(self._form) if filters.since else ""
            return max(str(row["PartitionKey"]), since)
        return None

    def _token(self, partition: str, row: str | None) -> str:
        return base64.urlsafe_b64encode(json.dumps([1, partition, row]).encode()).decode().rstrip("=")

    def _parse(self, token: str) -> tuple[str, str | None]:
        try:
            version, partition, row = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
            datetime.strptime(partition, self._form).replace(tzinfo=UTC)
        except (ValueError, TypeError, binascii.Error) as error:
            raise BadToken("this page token is not one of ours") from error
        if version != 1 or not isinstance(row, str | None):
            raise BadToken("this page token is not one of ours")
        return partition, row


def index(table: "TableClient") -> TimeTable:
    """`JobIndex`, by day."""
    return TimeTable(table, DAY)


def feed(table: "TableClient") -> TimeTable:
    """`JobFeed`, by hour."""
    return TimeTable(table, HOUR)
