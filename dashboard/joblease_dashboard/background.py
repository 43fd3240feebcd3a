"""What keeps the rooms up to date: tables that exist, and messages of the broker."""

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING

from joblease import topology
from joblease.broker import Subscription, newest_first
from joblease.storage import (
    ACTION_FEED_TABLE,
    ACTIONS_TABLE,
    INDEX_TABLE,
    KEYS_TABLE,
    SESSIONS_TABLE,
    Storage,
    once_storage_works,
)
from joblease.topology import WORKERS

from joblease_dashboard.read_model.indexer import Indexer
from joblease_dashboard.read_model.rebuild import TABLES, complete_statistics
from joblease_dashboard.read_model.writer import Writer

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractQueue

    from joblease_dashboard.api.sources import Sources

PREFETCH = 500
FIRST_SECONDS = 15.0
"""How long a start waits for the broker. Without it there is history, which needs storage only."""


class Background:
    """Use `run` as a task."""

    def __init__(self, sources: "Sources", storage: Storage) -> None:
        self._sources = sources
        self._storage = storage
        self._indexer = Indexer(Writer(storage.table, sources.trail), sources.broker)
        self._starting = ["the tables are not there yet"]
        self._subscribe()

    def problems(self) -> list[str]:
        """What keeps the dashboard from being ready. Without the broker it shows history, and says what is stale."""
        return list(self._starting)

    async def run(self) -> None:
        """Until cancelled."""
        await once_storage_works(self._create_tables)
        self._starting[:] = ["the broker is not connected yet"]
        board, streams = self._sources.board, self._sources.streams
        async with self._sources.broker:
            await asyncio.gather(
                self._await_broker(),
                self._indexer.run(),
                board.restore(self._storage.table(INDEX_TABLE)),
                streams.run(),
                once_storage_works(partial(complete_statistics, self._storage)),
            )

    async def _await_broker(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_SECONDS):
                await self._sources.broker.connected()
        self._starting.clear()

    async def _create_tables(self) -> None:
        await self._storage.create_tables(*TABLES, KEYS_TABLE, ACTIONS_TABLE, ACTION_FEED_TABLE, SESSIONS_TABLE)
        await self._storage.create_locks()

    def _subscribe(self) -> None:
        broker, events = self._sources.broker, self._sources.streams.log

        async def index(channel: "AbstractChannel") -> "AbstractQueue":
            return await topology.declare_events(channel, "index")

        async def reports(channel: "AbstractChannel") -> "AbstractQueue":
            return await topology.declare_private(channel, WORKERS)

        broker.subscribe(Subscription(index, self._indexer.on_event, PREFETCH, arguments=newest_first()))
        broker.subscribe(Subscription(topology.declare_live, events.on_event, PREFETCH, arguments=events.position))
        broker.subscribe(Subscription(reports, self._sources.workers.on_report, prefetch=PREFETCH))
