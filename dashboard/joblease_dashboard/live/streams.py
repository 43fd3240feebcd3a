"""Live streams: the log of events, passed on to browsers and programs.

A client is nothing but the number that it has come to. Whichever replica it comes back to goes on with the next one
(`Last-Event-ID`): no event is left out and none is repeated, whenever it was written and by whom. A client that is
further behind than the log remembers, because it was away for long or reads too slowly, is told so by an event `missed`
and goes on with the present.
"""

import asyncio
import contextlib
import re
import secrets
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from joblease.broker import Broker, PublishFailed
from joblease.errors import pauses
from joblease.topology import LIVE

from joblease_dashboard import metrics

if TYPE_CHECKING:
    from joblease_dashboard.live.log import Log

RETRY_MILLISECONDS = 2_000
_NUMBER = re.compile(r"[0-9]{1,18}")


class TooManyStreams(Exception):
    """No more streams can be opened."""


class Streams:
    """Events as they come. Use `run` as a task."""

    def __init__(self, log: "Log", broker: Broker, max_clients: int, heartbeat_seconds: float) -> None:
        self.log = log
        self._broker = broker
        self._max_clients = max_clients
        self._heartbeat = heartbeat_seconds
        self._ready = False
        self._clients = 0
        self._beats = 0
        self._stopped = False

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

    async def open(self, last_id: str | None, job_id: str | None, namespace: str | None) -> AsyncIterator[bytes]:
        """A stream of server-sent events of one job or namespace, or all: those after `last_id`, or after this moment.

        Raises `TooManyStreams`.
        """
        while not self._ready and not self._stopped:
            await self.log.news.wait()
        if self._clients >= self._max_clients:
            raise TooManyStreams
        return self._stream(await self._begin(last_id), job_id, namespace)

    async def _catch_up(self) -> None:
        """Wait until all that was published before now has been read: a mark of our own comes after it."""
        mark = secrets.token_hex(8)
        with self.log.mark(mark) as seen:
            for pause in pauses():
                await self._broker.connected()  # reading, too: or the mark would only be waited for
                with contextlib.suppress(PublishFailed, TimeoutError):
                    await self._broker.publish("", LIVE, b"", message_id=mark)
                    await asyncio.wait_for(seen.wait(), self._broker.timeout)
                if seen.is_set():
                    return
                await asyncio.sleep(pause)

    async def _begin(self, last_id: str | None) -> int:
        """The number after which a client goes on; one that it cannot have had when it makes no sense."""
        if not last_id:
            return self.log.last
        position = int(last_id) if _NUMBER.fullmatch(last_id) else -2
        if position > self.log.last:  # another replica is ahead of us, or the log has begun anew
            await self._catch_up()
        return position

    async def _stream(self, position: int, job_id: str | None, namespace: str | None) -> AsyncIterator[bytes]:
        self._clients += 1
        beats = self._beats
        try:
            with metrics.SSE_CLIENTS.track_inprogress():
                yield f"retry: {RETRY_MILLISECONDS}\nid: {position}\n\n".encode()
                while not self._stopped:
                    news = self.log.news
                    if not self.log.first - 1 <= position <= self.log.last:
                        position = self.log.last
                        yield f"id: {position}\nevent: missed\ndata: {{}}\n\n".encode()
                    frames, position = self.log.after(position, job_id, namespace)
                    if frames:
                        yield frames
                    elif beats != self._beats:
                        beats = self._beats
                        yield f": alive\nid: {position}\n\n".encode()
                    if position == self.log.last:
                        await news.wait()
        finally:
            self._clients -= 1
