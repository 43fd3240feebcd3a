"""Writes the read model anew from the audit trail: after a loss, or when its keys have changed."""

import logging
from typing import TYPE_CHECKING

from joblease.storage import FEED_TABLE, INDEX_TABLE, STATS_TABLE, TRAIL_TABLE, Storage
from joblease.trail import AuditTrail

from joblease_dashboard.read_model.writer import Writer

if TYPE_CHECKING:
    from joblease.settings import StorageSettings

log = logging.getLogger(__name__)

TABLES = (TRAIL_TABLE, INDEX_TABLE, FEED_TABLE, STATS_TABLE)


async def rebuild(settings: "StorageSettings") -> int:
    """Write the read model anew from the whole trail; returns how many jobs it holds."""
    async with Storage(settings) as storage:
        await storage.create_tables(*TABLES)
        trail = AuditTrail(storage.table(TRAIL_TABLE))
        writer = Writer(storage.table, trail)
        count = 0
        async for _, events in trail.everything():
            await writer.add(events)
            count += 1
            if count % 1000 == 0:
                log.info("%d jobs so far", count)
        return count
