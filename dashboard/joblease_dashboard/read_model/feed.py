"""Writes `JobFeed`: a row for each event, the newest first over all jobs."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from joblease.transactions import Write, submit

from joblease_dashboard import metrics
from joblease_dashboard.read_model.parts import parts
from joblease_dashboard.read_model.rows import Row, feed_row

if TYPE_CHECKING:
    from azure.data.tables.aio import TableClient
    from joblease.messages import JobEvent


class Feed:
    """Writes it."""

    def __init__(self, table: "TableClient") -> None:
        self._table = table

    async def add(self, events: "Sequence[JobEvent]") -> None:
        """Write events. May be repeated. Raises `AzureError`."""
        by_partition: dict[str, dict[str, Row]] = defaultdict(dict)
        for event in events:
            row = feed_row(event)
            by_partition[row["PartitionKey"]][row["RowKey"]] = row
        for rows in by_partition.values():
            for part in parts(list(rows.values())):
                await submit(self._table, [Write("replace", row) for row in part])
                metrics.INDEX_ROWS.labels("JobFeed").inc(len(part))
