"""Live streams: the log of events, passed on to browsers and programs.

A client is nothing but the number that it has come to. Whichever replica it comes back to goes on with the next one
(`Last-Event-ID`): no event is left out and none is repeated, whenever it was written and by whom. A client that is
further behind than the log remembers, because it was away for long or reads too slowly, is told so by an event `missed`
and goes on with the present. While the broker does not answer it is told `stale`, then `fresh`. Clients only read:
nothing that they ask for is written anywhere.

Whether a client still may listen is asked again and again, and nobody takes all the streams.
"""

import asyncio
import contextlib
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

from joblease.broker import Broker, PublishFailed
from joblease.errors import pauses
from joblease.topology import LIVE

from joblease_dashboard import metrics

if TYPE_CHECKING:
    from joblease_dashboard.live.log import Log

RETRY_MILLISECONDS = 2_000
READY_SECONDS = 5.0
"""How long a request may wait for the log to be read, when the dashboard has just started."""
AHEAD_SECONDS = 10.0
"""How long a client waits for a number that we have not read yet: another replica may be ahead of us by that much."""
RECHECK_SECONDS = 10.0
"""How often a client's session and right are asked for again, at least; the answer may be 15 s old."""


class TooManyStreams(Exception):
    """No more streams can be opened, by this person or by anybody."""

    def __init__(self, *, own: bool) -> None:
        super().__init__()
        self.own = own
        """Whether it is this person who has too many."""


class NotReady(Exception):
    """The log was not read yet."""


class Streams:
    """Events as they come. Use `run` as a task."""

    def __init__(self, log: "Log", broker: Broker, max_clients: int, max_own: int, heartbeat_seconds: float) -> None:
        """`max_own`: how many one person may have."""
        self.log = log
        self._broker = broker
        self._max_clients = max_clients
        self._max_own = max_own
        self._heartbeat = min(heartbeat_seconds, RECHECK_SECONDS)
        self._ready = False
        self._clients: Counter[str] = Counter()
        self._beats = 0
        self._stopped = False

    @property
    def stale(self) -> bool:
        """Whether what happens now cannot be heard of: the broker does not answer."""
        return self._broker.problem is not None

    async def run(self) -> None:
        """Let streams begin as soon as the log is read; then say regularly that we live. Until cancelled."""
        await self._catch_up()
        self._ready = True
        while True:
            self._beats += 1
            self.log.wake()
            await asyncio.sleep(self._heartbeat)

    def stop(self) -> None:
        """End all streams, now."""
        self._stopped = True
        self.log.wake()

    async def open(
        self,
        person: str,
        may: Callable[[], Awaitable[bool]],
        last_id: str | None,
        job_id: str | None,
        namespace: str | None,
    ) -> AsyncIterator[bytes]:
        """A stream of server-sent events of one job or namespace, or all: those after `last_id`, or after this moment.

        It ends when the person `may` not see them any more. Raises `TooManyStreams`, `NotReady`.
        """
        own = self._clients[person] >= self._max_own
        if own or self._clients.total() >= self._max_clients:
            raise TooManyStreams(own=own)
        with self._counted(person):
            try:
                async with asyncio.timeout(READY_SECONDS):
                    while not self._ready and not self._stopped:
                        await self.log.news.wait()
            except TimeoutError:
                raise NotReady from None
        return self._stream(person, may, self._begin(last_id), job_id, namespace)

    @contextlib.contextmanager
    def _counted(self, person: str) -> Iterator[None]:
        self._clients[person] += 1
        try:
            yield
        finally:
            self._clients[person] -= 1
            if not self._clients[person]:
                del self._clients[person]

    async def _catch_up(self) -> None:
        """Wait until all that was published before now has been read: a mark of our own comes after it."""
        mark = secrets.token_hex(8)
        with self.log.mark(mark) as seen:
            for pause in pauses():
                await self._broker.connected()  # reading, too: or the mark would only be waited for
                with contextlib.suppress(PublishFailed, TimeoutError):
                    await self._broker.publish("", LIVE, b"", message_id=mark)
                    async with asyncio.timeout(self._broker.timeout):
                        await seen.wait()
                if seen.is_set():
                    return
                await asyncio.sleep(pause)

    def _begin(self, last_id: str | None) -> int:
        """The number after which a client goes on; one that it cannot have had when it makes no sense."""
        return self.log.number_of(last_id) if last_id else self.log.last

    async def _stream(
        self,
        person: str,
        may: Callable[[], Awaitable[bool]],
        position: int,
        job_id: str | None,
        namespace: str | None,
    ) -> AsyncIterator[bytes]:
        beats = checked = self._beats
        began, stale = self.log.last, False
        with self._counted(person), metrics.SSE_CLIENTS.track_inprogress():
            yield f"retry: {RETRY_MILLISECONDS}\nid: {self.log.mark_of(position)}\n\n".encode()
            if not await self._reaches(position):  # the log has begun anew, or nobody has ever given out this number
                position = began
                yield self._event("missed", position)
            while not self._stopped:
                news = self.log.news
                if checked != self._beats:
                    checked = self._beats
                    if not await may():
                        return
                if not self.log.first - 1 <= position <= self.log.last:
                    position = self.log.last
                    yield self._event("missed", position)
                frames, position = self.log.after(position, job_id, namespace)
                if frames:
                    yield frames
                elif stale != self.stale:
                    stale = not stale
                    yield self._event("stale" if stale else "fresh", position)
                elif beats != self._beats:
                    beats = self._beats
                    yield f": alive\nid: {self.log.mark_of(position)}\n\n".encode()
                if position == self.log.last:
                    await news.wait()

    async def _reaches(self, position: int) -> bool:
        """Whether the log comes to this number, in a while."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(AHEAD_SECONDS):
                while self.log.last < position and not self._stopped:
                    await self.log.news.wait()
        return self.log.last >= position

    def _event(self, name: str, position: int) -> bytes:
        return f"id: {self.log.mark_of(position)}\nevent: {name}\ndata: {{}}\n\n".encode()
