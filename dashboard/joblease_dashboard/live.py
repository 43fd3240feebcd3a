"""The live stream: every replica hears all events, and passes them to its browsers.

A client that comes back tells which event it saw last (`Last-Event-ID`); what it missed is taken from memory, or from
`JobFeed` when that was long ago. A client that reads too slowly is dropped rather than remembered without end: it comes
back by itself, and resumes.
"""

import asyncio
import contextlib
import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING

from joblease.messages import JobEvent
from pydantic import ValidationError

from joblease_dashboard import metrics
from joblease_dashboard.keys import feed_key
from joblease_dashboard.rows import Row, event_fields, feed_row

if TYPE_CHECKING:
    from aio_pika.abc import AbstractIncomingMessage

    from joblease_dashboard.board import Board
    from joblease_dashboard.query import TimeTable

log = logging.getLogger(__name__)

CLIENT_BUFFER = 1_000
MAX_REPLAY = 1_000
RETRY_MILLISECONDS = 2_000


class TooManyStreams(Exception):
    """No more streams can be opened."""


class Live:
    """Events as they come."""

    def __init__(
        self, feed: "TimeTable", board: "Board", buffer: int, max_clients: int, heartbeat_seconds: float
    ) -> None:
        self._feed = feed
        self._board = board
        self._recent: deque[tuple[str, Row]] = deque(maxlen=buffer)
        self._clients: set[asyncio.Queue[tuple[str, Row] | None]] = set()
        self._max_clients = max_clients
        self._heartbeat = heartbeat_seconds
        self._stopped = False

    async def on_event(self, delivery: "AbstractIncomingMessage") -> None:
        """Pass an event on to all clients."""
        await delivery.ack()
        try:
            event = JobEvent.model_validate_json(delivery.body)
        except ValidationError:
            return  # the index parks it
        self._board.add(event)
        item = ("/".join(feed_key(event.timestamp, event.event_id)), event_fields(feed_row(event)))
        self._recent.append(item)
        for client in list(self._clients):
            try:
                client.put_nowait(item)
            except asyncio.QueueFull:
                self._drop(client)

    def stop(self) -> None:
        """End all streams, now."""
        self._stopped = True
        for client in list(self._clients):
            self._drop(client)

    def open(self, last_id: str | None, **wanted: str) -> AsyncIterator[str]:
        """A stream of server-sent events whose fields are as `wanted`. Raises `TooManyStreams`."""
        if len(self._clients) >= self._max_clients:
            raise TooManyStreams
        client: asyncio.Queue[tuple[str, Row] | None] = asyncio.Queue(CLIENT_BUFFER + 1)
        self._clients.add(client)
        return self._stream(client, last_id, wanted)

    def _drop(self, client: "asyncio.Queue[tuple[str, Row] | None]") -> None:
        self._clients.discard(client)
        while client.full():
            client.get_nowait()
        client.put_nowait(None)

    async def _stream(
        self, client: "asyncio.Queue[tuple[str, Row] | None]", last_id: str | None, wanted: Mapping[str, str]
    ) -> AsyncIterator[str]:
        sent: set[str] = set()
        with metrics.SSE_CLIENTS.track_inprogress():
            try:
                yield f"retry: {RETRY_MILLISECONDS}\n\n"
                for item in await self._missed(last_id) if last_id else []:
                    sent.add(item[0])
                    if _is(item[1], wanted):
                        yield _frame(*item)
                while not self._stopped:
                    try:
                        news = await asyncio.wait_for(client.get(), self._heartbeat)
                    except TimeoutError:
                        yield ": alive\n\n"
                        continue
                    if news is None:
                        return
                    if news[0] not in sent and _is(news[1], wanted):
                        yield _frame(*news)
            finally:
                self._clients.discard(client)

    async def _missed(self, last_id: str) -> list[tuple[str, Row]]:
        recent = list(self._recent)
        for at, (each, _) in enumerate(recent):
            if each == last_id:
                return recent[at + 1 :]
        partition, separator, row = last_id.partition("/")
        if not separator:
            return []
        with contextlib.suppress(ValueError):
            rows = await self._feed.newer_than(partition, row, MAX_REPLAY)
            return [(f"{each['PartitionKey']}/{each['RowKey']}", event_fields(each)) for each in rows]
        return []


def _is(fields: Row, wanted: Mapping[str, str]) -> bool:
    return all(fields[name] == value for name, value in wanted.items())


def _frame(event_id: str, fields: Row) -> str:
    return f"id: {event_id}\nevent: job\ndata: {json.dumps(fields, separators=(',', ':'))}\n\n"
