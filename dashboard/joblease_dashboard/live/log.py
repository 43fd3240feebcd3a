"""The broker's log of events, read by every replica: the last of them are kept, made ready to be sent once for all.

The log (a stream of RabbitMQ's) numbers the events, and the numbers are the same for every replica, before and after a
restart.
"""

import asyncio
import contextlib
import json
import math
import re
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from joblease.broker import acknowledge
from joblease.messages import JobEvent, now
from pydantic import ValidationError

from joblease_dashboard.read_model.rows import feed_row, fields
from joblease_dashboard.read_model.seals import PLAIN, Seals, Unreadable

if TYPE_CHECKING:
    from aio_pika.abc import AbstractIncomingMessage

    from joblease_dashboard.live.board import Board

REMEMBERED = timedelta(minutes=10)
"""How far back a dashboard that starts reads the log."""
READ_MODEL_SECONDS = 2.0
"""How long the read model may need, in everyday use, for what the log has said."""
ACKNOWLEDGED_AT_ONCE = 50
"""Far fewer than the broker sends before it waits (`background.PREFETCH`)."""
NEVER = -2
"""A number that no message has, and none comes before."""
_NUMBER = re.compile(r"-1|[0-9]{1,18}", re.ASCII)
CHUNK_BYTES = 32 << 10
"""What is handed to a client at once, about: nobody knows how fast it reads."""


@dataclass(frozen=True, slots=True)
class _Entry:
    event_id: str
    job_id: str
    namespace: str
    frame: bytes


class Log:
    """What was read of it. Each event is told to the board."""

    def __init__(self, board: "Board", size: int, seals: Seals = PLAIN) -> None:
        """`size`: how many numbers are kept; `seals`: what clients are given for them."""
        self._board = board
        self._size = size
        self._seals = seals
        # What was read of the log, `first` to `last`. Not every number is an event: the broker itself uses some up.
        self.first, self.last = 0, -1
        self.news = asyncio.Event()
        """Set, and replaced by another one, at whatever streams have to look at."""
        self._last_message = ""
        # When a message was read, and the number before it: the first of each stretch of time, and the last two.
        self._moments = deque([(-math.inf, -1)], maxlen=2)
        self._resuming, self._unacknowledged = True, 0
        self._entries: dict[int, _Entry] = {}
        self._ids: set[str] = set()
        self._marks: dict[str, asyncio.Event] = {}

    def mark_of(self, number: int) -> str:
        """A number as clients have it."""
        return self._seals.seal(str(number))

    def number_of(self, mark: str) -> int:
        """Again the number; one that nobody can have had when it makes no sense."""
        with contextlib.suppress(Unreadable):
            text = self._seals.open(mark)
            return int(text) if _NUMBER.fullmatch(text) else NEVER
        return NEVER

    def page_position(self) -> str:
        """The number, as clients have it, after which a page that is made now has to hear of events; of -1 at first.

        A little back: the read model that the page shows may lack what was read of the log in the last moment.
        """
        moment, (last_at, _) = time.monotonic(), self._moments[-1]
        if moment - last_at > 2 * READ_MODEL_SECONDS:  # nothing was read since then
            return self.mark_of(self.last)
        numbers = (number for at, number in reversed(self._moments) if moment - at > READ_MODEL_SECONDS)
        return self.mark_of(next(numbers))

    def position(self) -> dict[str, Any]:
        """Where the consumer begins: with the last message that was read, or some time back."""
        self._resuming, self._unacknowledged = True, 0
        return {"x-stream-offset": self.last if self.last >= 0 else now() - REMEMBERED}

    async def on_event(self, delivery: "AbstractIncomingMessage") -> None:
        """Take the next message of the log."""
        self._take(int(str(delivery.headers["x-stream-offset"])), delivery.message_id or "", delivery.body)
        self._unacknowledged += 1
        if self._unacknowledged >= ACKNOWLEDGED_AT_ONCE:  # the broker keeps the log, and only waits for some of them
            self._unacknowledged = 0
            await acknowledge(delivery, with_earlier=True)

    @contextlib.contextmanager
    def mark(self, message_id: str) -> Iterator[asyncio.Event]:
        """Set when this message has been read."""
        seen = self._marks[message_id] = asyncio.Event()
        try:
            yield seen
        finally:
            del self._marks[message_id]

    def after(self, position: int, job_id: str | None, namespace: str | None) -> tuple[bytes, int]:
        """What comes next for a client, and the number that it has come to then."""
        frames, size = [], 0
        while position < self.last and size < CHUNK_BYTES:
            position += 1
            entry = self._entries.get(position)
            if entry and job_id in (None, entry.job_id) and namespace in (None, entry.namespace):
                frames.append(entry.frame)
                size += len(entry.frame)
        return b"".join(frames), position

    def wake(self) -> None:
        """Make the streams look."""
        self.news.set()
        self.news = asyncio.Event()

    def _take(self, number: int, message_id: str, body: bytes) -> None:
        if self._resuming:
            self._resuming = False
            if (number, message_id) == (self.last, self._last_message):
                return
            self._forget(number)
        if time.monotonic() - self._moments[-1][0] > READ_MODEL_SECONDS:
            self._moments.append((time.monotonic(), self.last))
        self.last, self._last_message = number, message_id
        if mark := self._marks.get(message_id):
            mark.set()
        with contextlib.suppress(ValidationError):  # the index parks it; and marks are none
            self._add(number, JobEvent.model_validate_json(body))
        while self.last - self.first >= self._size:
            if oldest := self._entries.pop(self.first, None):
                self._ids.discard(oldest.event_id)
            self.first += 1
        self.wake()

    def _add(self, number: int, event: JobEvent) -> None:
        if event.event_id in self._ids:
            return  # whoever takes a job over repeats what its predecessor may not have announced
        self._board.add(event)
        self._ids.add(event.event_id)
        data = json.dumps(fields(feed_row(event)), separators=(",", ":"))
        frame = f"id: {self.mark_of(number)}\nevent: job\ndata: {data}\n\n".encode()
        self._entries[number] = _Entry(event.event_id, event.job_id, event.namespace, frame)

    def _forget(self, number: int) -> None:
        """Begin anew with this number: the broker has dropped what we read last, or the whole log."""
        self._entries.clear()
        self._ids.clear()
        self.first = number
