"""The live stream: all replicas read one log of events from the broker, and pass it on to their browsers.

The log (a stream of RabbitMQ's) numbers the events, and the numbers are the same for every replica, before and after a
restart. So a client is nothing but the number that it has come to. Whichever replica it comes back to goes on with the
next one (`Last-Event-ID`): no event is left out and none is repeated, whenever it was written and by whom.

The last events are kept in memory, made ready to be sent once for all. A client that is further behind than they reach,
because it was away for long or reads too slowly, is told so by an event `missed` and goes on with the present.
"""

import asyncio
import contextlib
import json
import logging
import math
import re
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from joblease.broker import Broker, PublishFailed, acknowledge
from joblease.errors import pauses
from joblease.messages import JobEvent, now
from joblease.topology import LIVE
from pydantic import ValidationError

from joblease_dashboard import metrics
from joblease_dashboard.read_model.rows import event_fields, feed_row

if TYPE_CHECKING:
    from aio_pika.abc import AbstractIncomingMessage

    from joblease_dashboard.live.board import Board

log = logging.getLogger(__name__)

REMEMBERED = timedelta(minutes=10)
"""How far back a dashboard that starts reads the log."""
READ_MODEL_SECONDS = 2.0
"""How long the read model may need, in everyday use, for what the log has said."""
CHUNK_BYTES = 32 << 10
"""What is handed to a client at once, about: nobody knows how fast it reads."""
RETRY_MILLISECONDS = 2_000
_NUMBER = re.compile(r"[0-9]{1,18}")


class TooManyStreams(Exception):
    """No more streams can be opened."""


@dataclass(frozen=True, slots=True)
class _Entry:
    event_id: str
    job_id: str
    namespace: str
    frame: bytes


class Live:
    """Events as they come. Use `run` as a task."""

    def __init__(self, broker: Broker, board: "Board", buffer: int, max_clients: int, heartbeat_seconds: float) -> None:
        self._broker = broker
        self._board = board
        self._buffer = buffer
        self._max_clients = max_clients
        self._heartbeat = heartbeat_seconds
        # What was read of the log, `first` to `last`. Not every number is an event: the broker itself uses some up.
        self._first, self._last = 0, -1
        self._last_message = ""
        # When a message was read, and the number before it: the first of each stretch of time, and the last two.
        self._moments = deque([(-math.inf, -1)], maxlen=2)
        self._resuming = True
        self._entries: dict[int, _Entry] = {}
        self._ids: set[str] = set()
        self._marks: dict[str, asyncio.Event] = {}
        self._ready = False
        self._clients = 0
        self._beats = 0
        self._news = asyncio.Event()
        self._stopped = False

    def page_position(self) -> int:
        """The number after which a page that is made now has to hear of events; -1 before the log was read.

        A little back: the read model that the page shows may lack what was read of the log in the last moment.
        """
        moment, (last_at, _) = time.monotonic(), self._moments[-1]
        if moment - last_at > 2 * READ_MODEL_SECONDS:  # nothing was read since then
            return self._last
        return next(number for at, number in reversed(self._moments) if moment - at > READ_MODEL_SECONDS)

    def position(self) -> dict[str, Any]:
        """Where the consumer begins: with the last message that was read, or some time back."""
        self._resuming = True
        return {"x-stream-offset": self._last if self._last >= 0 else now() - REMEMBERED}

    async def on_event(self, delivery: "AbstractIncomingMessage") -> None:
        """Take the next message of the log."""
        self._take(int(str(delivery.headers["x-stream-offset"])), delivery.message_id or "", delivery.body)
        await acknowledge(delivery)

    async def run(self) -> None:
        """Let streams begin as soon as the log is read; then say regularly that we live. Until cancelled."""
        await self._catch_up()
        self._ready = True
        while True:
            self._beats += 1
            self._wake()
            await asyncio.sleep(self._heartbeat)

    def stop(self) -> None:
        """End all streams, now."""
        self._stopped = True
        self._wake()

    async def open(self, last_id: str | None, job_id: str | None, namespace: str | None) -> AsyncIterator[bytes]:
        """A stream of server-sent events of one job or namespace, or all: those after `last_id`, or after this moment.

        Raises `TooManyStreams`.
        """
        while not self._ready and not self._stopped:
            await self._news.wait()
        if self._clients >= self._max_clients:
            raise TooManyStreams
        return self._stream(await self._begin(last_id), job_id, namespace)

    def _take(self, number: int, message_id: str, body: bytes) -> None:
        if self._resuming:
            self._resuming = False
            if (number, message_id) == (self._last, self._last_message):
                return
            self._forget(number)
        if time.monotonic() - self._moments[-1][0] > READ_MODEL_SECONDS:
            self._moments.append((time.monotonic(), self._last))
        self._last, self._last_message = number, message_id
        if mark := self._marks.get(message_id):
            mark.set()
        with contextlib.suppress(ValidationError):  # the index parks it; and marks are none
            self._add(number, JobEvent.model_validate_json(body))
        while self._last - self._first >= self._buffer:
            if oldest := self._entries.pop(self._first, None):
                self._ids.discard(oldest.event_id)
            self._first += 1
        self._wake()

    def _add(self, number: int, event: JobEvent) -> None:
        if event.event_id in self._ids:
            return  # whoever takes a job over repeats what its predecessor may not have announced
        self._board.add(event)
        self._ids.add(event.event_id)
        data = json.dumps(event_fields(feed_row(event)), separators=(",", ":"))
        frame = f"id: {number}\nevent: job\ndata: {data}\n\n".encode()
        self._entries[number] = _Entry(event.event_id, event.job_id, event.namespace, frame)

    def _forget(self, number: int) -> None:
        """Begin anew with this number: the broker has dropped what we read last, or the whole log."""
        self._entries.clear()
        self._ids.clear()
        self._first = number

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _catch_up(self) -> None:
        """Wait until all that was published before now has been read: a mark of our own comes after it."""
        mark = secrets.token_hex(8)
        seen = self._marks[mark] = asyncio.Event()
        try:
            for pause in pauses():
                await self._broker.connected()  # reading, too: or the mark would only be waited for
                with contextlib.suppress(PublishFailed, TimeoutError):
                    await self._broker.publish("", LIVE, b"", message_id=mark)
                    await asyncio.wait_for(seen.wait(), self._broker.timeout)
                if seen.is_set():
                    return
                await asyncio.sleep(pause)
        finally:
            del self._marks[mark]

    async def _begin(self, last_id: str | None) -> int:
        """The number after which a client goes on; one that it cannot have had when it makes no sense."""
        if not last_id:
            return self._last
        position = int(last_id) if _NUMBER.fullmatch(last_id) else -2
        if position > self._last:  # another replica is ahead of us, or the log has begun anew
            await self._catch_up()
        return position

    async def _stream(self, position: int, job_id: str | None, namespace: str | None) -> AsyncIterator[bytes]:
        self._clients += 1
        beats = self._beats
        try:
            with metrics.SSE_CLIENTS.track_inprogress():
                yield f"retry: {RETRY_MILLISECONDS}\nid: {position}\n\n".encode()
                while not self._stopped:
                    news = self._news
                    if not self._first - 1 <= position <= self._last:
                        position = self._last
                        yield f"id: {position}\nevent: missed\ndata: {{}}\n\n".encode()
                    frames, position = self._after(position, job_id, namespace)
                    if frames:
                        yield frames
                    elif beats != self._beats:
                        beats = self._beats
                        yield f": alive\nid: {position}\n\n".encode()
                    if position == self._last:
                        await news.wait()
        finally:
            self._clients -= 1

    def _after(self, position: int, job_id: str | None, namespace: str | None) -> tuple[bytes, int]:
        """What comes next for a client, and the number that it has come to then."""
        frames, size = [], 0
        while position < self._last and size < CHUNK_BYTES:
            position += 1
            entry = self._entries.get(position)
            if entry and job_id in (None, entry.job_id) and namespace in (None, entry.namespace):
                frames.append(entry.frame)
                size += len(entry.frame)
        return b"".join(frames), position
