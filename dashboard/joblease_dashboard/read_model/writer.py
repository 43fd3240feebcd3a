"""Writes the read model as a whole: lists of events and jobs, and statistics."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from joblease.storage import FEED_TABLE, INDEX_TABLE, STATS_TABLE

from joblease_dashboard.read_model.feed import Feed
from joblease_dashboard.read_model.index import Index
from joblease_dashboard.read_model.statistics import Stats

if TYPE_CHECKING:
    from azure.data.tables.aio import TableClient
    from joblease.messages import JobEvent
    from joblease.trail import AuditTrail


class Writer:
    """Made of the tables, by name."""

    def __init__(self, table: "Callable[[str], TableClient]", trail: "AuditTrail") -> None:
        self.statistics = Stats(table(STATS_TABLE))
        self._feed = Feed(table(FEED_TABLE))
        self._index = Index(table(INDEX_TABLE), trail, self.statistics)

    async def add(self, events: "Sequence[JobEvent]") -> None:
        """Write events to all tables. May be repeated. Raises `AzureError`."""
        await self._feed.add(events)
        await self._index.add(events)
