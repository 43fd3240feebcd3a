"""Bounds of connections that browsers and others open: how many, how long they may take, what is kept for them.

A request has a time to be sent in, and its answer one to be read in.
"""

import asyncio
import contextlib
import fcntl
import resource
import socket
import struct
import sys
import termios
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from joblease_dashboard.headers import HEADERS, NO_STORE

MAX_CONNECTIONS = min(4_000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 250)
"""More than there may be live streams; each takes a few kB and a file."""
REQUEST_SECONDS = 15.0
"""For a request's head to arrive. uvicorn itself waits for ever."""
LINGER_SECONDS = 2.0
"""Until somebody who has not sent a request to its end is cut after the answer: time to read it."""
MAX_HEAD_BYTES = 32 << 10
"""Of a request's address and headers together; a token may be long."""
MAX_AHEAD_BYTES = 16 << 10
"""Of requests that are sent before the answer to the one before them is there."""
UNREAD_SECONDS = 30.0
"""In which somebody takes at least something of the answer that waits for them."""
UNREAD_BYTES = 16 << 10
"""Of an answer may wait for its reader before the program that makes it waits, too."""
MAX_UNREAD_BYTES = 64 << 20
"""Of all answers that wait for their readers."""
READ_BYTES = 32 << 10
"""Of a connection at a time: the others have their turns in between."""
SLICE = 64 << 10
NO_LINGER = struct.pack("ii", 1, 0)


class BoundedProtocol(H11Protocol):
    """One connection. Where there are too many of a kind, the one that has waited longest gives way to the newcomer."""

    awaited: ClassVar[dict["BoundedProtocol", None]] = {}
    """Those whose request has not arrived wholly, the oldest first."""
    unread: ClassVar[dict["BoundedProtocol", None]] = {}
    """Those whose answers are not read, the oldest first."""

    def connection_made(self, transport: Any) -> None:
        """Somebody has come. Closed at once when all the others are being answered."""
        transport.set_write_buffer_limits(high=UNREAD_BYTES)
        transport.max_size = READ_BYTES
        super().connection_made(_Sliced(transport))  # type: ignore[arg-type]
        self._patience: asyncio.TimerHandle | None = None
        self._surplus: int | None = None
        self._reading: asyncio.Handle | None = None
        if len(self.connections) > MAX_CONNECTIONS and not self._give_way(self.awaited):
            transport.close()
        else:
            self._expect_request()

    def data_received(self, data: bytes) -> None:
        """Part of a request, or more than one."""
        super().data_received(data)
        if self._surplus is not None:
            self._take_surplus(len(data))
        if self.cycle is None or self.cycle.response_complete:
            return
        self._stop_waiting()
        if not self.cycle.more_body:
            self.awaited.pop(self, None)
            if len(self.conn.trailing_data[0]) > MAX_AHEAD_BYTES:
                self.cut()

    def on_response_complete(self) -> None:
        """The next request may come on the same connection, unless this one has not ended yet."""
        unfinished = self.conn.their_state is h11.SEND_BODY
        self.cycle.body.clear()
        super().on_response_complete()
        if self.transport.is_closing():
            return
        self._surplus = 0 if unfinished else None
        self._expect_request(LINGER_SECONDS if unfinished else REQUEST_SECONDS)

    def pause_writing(self) -> None:
        """More of an answer waits than should."""
        super().pause_writing()
        self.unread[self] = None
        self._reading = self.loop.call_soon(self._limit_unread)  # when the rest of the answer has been written, too

    def resume_writing(self) -> None:
        """It was read."""
        super().resume_writing()
        self._stop_reading()

    def cut(self) -> None:
        """Close the connection, and have the kernel forget what it has still to send."""
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._stop_waiting()
        self._stop_reading()
        self.awaited.pop(self, None)
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """To what is no HTTP. In the middle of an answer there is no place for another one."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            more = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
            head = h11.Response(status_code=400, headers=[*HEADERS, NO_STORE, *more], reason=b"Bad Request")
            for event in (head, h11.Data(data=msg.encode("ascii")), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event))
        self.transport.close()

    def _expect_request(self, seconds: float = REQUEST_SECONDS) -> None:
        self._stop_waiting()
        self.awaited.pop(self, None)
        self.awaited[self] = None
        self._patience = self.loop.call_later(seconds, self._give_up)

    def _take_surplus(self, size: int) -> None:
        """More of a request that was answered already: a little of it is taken, so that the next one can come."""
        self._surplus = (self._surplus or 0) + size
        if self.conn.their_state is not h11.SEND_BODY:
            self._surplus = None
            if self.cycle.response_complete:
                self._expect_request()
        elif self._surplus > MAX_AHEAD_BYTES:
            self.flow.pause_reading()

    def _stop_waiting(self) -> None:
        if self._patience:
            self._patience.cancel()
            self._patience = None

    def _give_up(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def _limit_unread(self) -> None:
        self._expect_reading()
        while sum(each.transport.get_write_buffer_size() for each in self.unread) > MAX_UNREAD_BYTES:
            self._give_way(self.unread)

    def _expect_reading(self) -> None:
        self._left = self._untaken()
        self._reading = self.loop.call_later(UNREAD_SECONDS, self._check_reading)

    def _check_reading(self) -> None:
        if self._untaken() < self._left:
            self._expect_reading()
        else:
            self.cut()

    def _untaken(self) -> int:
        """Bytes that the other end has not taken yet, as far as the kernel tells."""
        queued = bytes(4)
        with contextlib.suppress(OSError):
            queued = fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, queued)
        return self.transport.get_write_buffer_size() + int.from_bytes(queued, sys.byteorder)

    def _stop_reading(self) -> None:
        self.unread.pop(self, None)
        if self._reading:
            self._reading.cancel()
            self._reading = None

    @staticmethod
    def _give_way(waiting: dict["BoundedProtocol", None]) -> bool:
        oldest = next(iter(waiting), None)
        if oldest:
            del waiting[oldest]
            oldest.cut()
        return oldest is not None


class _Sliced:
    """A transport that forgets each part of an answer as soon as it is sent: asyncio keeps what it was given whole."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        for start in range(0, len(data), SLICE):
            self._transport.write(data[start : start + SLICE])
