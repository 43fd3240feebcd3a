"""Makes the read model anew from the audit trail: after a loss, or when its layout has changed.

The tables are deleted first, so nothing that was wrong is left. Dashboards may run: their writes wait until the tables
are there again, and then go into the new ones. What they had written before has been in the trail before that, and the
trail is read after the tables were deleted.

Jobs are counted at the end, from the rows of `JobIndex`, which are sorted by time: a hundred at once.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from joblease.messages import JobEvent
from joblease.states import State
from joblease.storage import FEED_TABLE, INDEX_TABLE, STATS_TABLE, TRAIL_TABLE, Storage, once_storage_works
from joblease.trail import AuditTrail

from joblease_dashboard.read_model.feed import Feed
from joblease_dashboard.read_model.index import Index
from joblease_dashboard.read_model.statistics import Stats
from joblease_dashboard.read_model.tally import TIMES

if TYPE_CHECKING:
    from azure.data.tables.aio import TableClient

log = logging.getLogger(__name__)

READ_MODEL = (INDEX_TABLE, FEED_TABLE, STATS_TABLE)
TABLES = (TRAIL_TABLE, *READ_MODEL)
BATCH_EVENTS = 1_000
DELETION_SECONDS = 600
"""How long storage may take to delete a table; Azure needs about a minute."""


async def rebuild(storage: Storage) -> int:
    """Make the read model anew; how many jobs it holds. Raises `TimeoutError` when storage keeps the old tables."""
    await storage.create_tables(TRAIL_TABLE)
    await storage.delete_tables(*READ_MODEL)
    log.info("the old tables are being deleted; Azure takes about a minute")
    async with asyncio.timeout(DELETION_SECONDS):
        await once_storage_works(lambda: storage.create_tables(*READ_MODEL))
    trail = AuditTrail(storage.table(TRAIL_TABLE))
    feed, index = Feed(storage.table(FEED_TABLE)), Index(storage.table(INDEX_TABLE), trail, None)
    count = 0
    async for jobs, events in _batches(trail):
        await feed.add(events)
        await index.add(events)
        count += jobs
        log.info("%d jobs so far", count)
    statistics = Stats(storage.table(STATS_TABLE))
    await _count(storage.table(INDEX_TABLE), statistics)
    await statistics.set_complete()
    return count


async def complete_statistics(storage: Storage) -> None:
    """Count, once, what was in `JobIndex` before this layout of the statistics. Raises `AzureError`."""
    statistics = Stats(storage.table(STATS_TABLE))
    if await statistics.complete():
        return
    if count := await _count(storage.table(INDEX_TABLE), statistics):
        log.info("%d ended jobs of JobIndex have been counted", count)
    await statistics.set_complete()


async def _count(index: "TableClient", statistics: Stats) -> int:
    """Count all ended jobs of the index; how many there are."""
    count = 0
    async for page in index.list_entities(select=["jobId", "state", *TIMES], results_per_page=1000).by_page():
        rows = [row async for row in page if State(row["state"]).terminal]
        await statistics.add(rows)
        count += len(rows)
    return count


async def _batches(trail: AuditTrail) -> AsyncIterator[tuple[int, list[JobEvent]]]:
    """Jobs with all their events, many at once: how many jobs, and the events."""
    jobs, events = 0, list[JobEvent]()
    async for _, history in trail.everything():
        jobs, events = jobs + 1, events + history
        if len(events) >= BATCH_EVENTS:
            yield jobs, events
            jobs, events = 0, []
    yield jobs, events
