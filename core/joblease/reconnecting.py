"""A connection to RabbitMQ that is built anew, with everything on it, whenever any piece of it is lost.

Client libraries restore connections, yet leave holes that stop a program for good: a consumer that the server
cancelled, a queue that was deleted, a channel that timed out, a call that never returns, a cancellation that nobody
asked for. So nothing is restored piece by piece here. Whenever a connection, a channel or a consumer is lost, all of it
is torn down and built by the same code that built it the first time.

The library is not relied on to return, nor to raise what it should: its work is done in tasks of its own, for bounded
times (`alone`), and the socket is ours, so that it can be closed under the library in whatever state that is.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import aio_pika
from aio_pika.exceptions import AMQPError
from aiormq.connection import TCPTransportFactory, TLSTransportFactory, TransportFactory

from joblease.errors import pauses

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractExchange
    from yarl import URL

    from joblease.settings import BrokerSettings

log = logging.getLogger(__name__)
T = TypeVar("T")

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 5.0
CLOSE_SECONDS = 2.0
LOOK_SECONDS = 1.0
"""How often the library's own picture of a connection is looked at: what should tell of its loss may have died."""
BROKEN = (AMQPError, OSError, asyncio.TimeoutError, RuntimeError)
"""What a lost connection looks like from aio-pika, depending on where it was caught."""

_left_alone: set[asyncio.Future[Any]] = set()
"""Tasks are kept by nobody but whoever waits for them."""


async def alone(work: Awaitable[T], seconds: float, unless: "asyncio.Future[None] | None" = None) -> T:
    """Do some work of the library's in a task of its own, for so many seconds at most, and not longer than `unless`.

    A cancellation that comes out of it is not ours: it is raised as `ConnectionAbortedError`. When the work swallows
    our cancellation, nobody waits for it any longer; it ends with its socket. Raises `TimeoutError`.
    """
    task = asyncio.ensure_future(work)
    _left_alone.add(task)
    task.add_done_callback(_forget)
    try:
        ends: set[asyncio.Future[Any]] = {task, unless} if unless else {task}
        await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if task.cancelled():
            raise ConnectionAbortedError("the client library gave up")
        if not task.done():
            if unless and unless.done():
                raise ConnectionAbortedError("lost while it was being set up")
            raise TimeoutError(f"no answer within {seconds:g} s")
        return task.result()
    finally:
        task.cancel()


def _forget(task: asyncio.Future[Any]) -> None:
    _left_alone.discard(task)
    if not task.cancelled():
        task.exception()  # looked at, or asyncio would complain about those that nobody waited for


class _Sockets(TransportFactory):
    """Opens the socket for the library, and keeps hold of it."""

    def __init__(self) -> None:
        self._writer: asyncio.StreamWriter | None = None

    async def create(self, url: "URL", **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        factory = TLSTransportFactory() if url.scheme == "amqps" else TCPTransportFactory()
        reader, self._writer = await factory.create(url, **options)
        return reader, self._writer

    def abort(self) -> None:
        if self._writer:
            self._writer.transport.abort()


class _Connection(aio_pika.Connection):
    """A connection that its `Link` closes, and nobody else.

    aio-pika's finalizer starts `close` on the loop of the thread that collects garbage: that may be any thread, which
    has no loop, and then nothing runs the coroutine.
    """

    def __del__(self) -> None:
        pass


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """One connection, as long as it lives. Whoever finds it broken condemns it, and with it no other."""

    connection: aio_pika.Connection
    sockets: _Sockets
    lost: "asyncio.Future[None]"
    channels: "list[AbstractChannel]" = field(default_factory=list)
    exchanges: "dict[str, AbstractExchange]" = field(default_factory=dict)

    @classmethod
    def new(cls, settings: "BrokerSettings", name: str) -> "Link":
        """One that is not connected yet."""
        url = aio_pika.connection.make_url(
            settings.amqp_url.get_secret_value(), heartbeat=settings.amqp_heartbeat_seconds
        )
        connection = _Connection(url, ssl_context=settings.tls(), client_properties={"connection_name": name})
        sockets = _Sockets()
        connection.kwargs["transport_factory"] = sockets
        link = cls(connection, sockets, asyncio.get_running_loop().create_future())
        connection.close_callbacks.add(link.condemn)
        return link

    def condemn(self, *_: object) -> None:
        """Have it torn down: it, or anything on it, does not work."""
        if not self.lost.done():
            self.lost.set_result(None)

    async def channel(self) -> "AbstractChannel":
        """A channel with confirms that this connection cannot do without."""
        channel = await self.connection.channel(publisher_confirms=True, on_return_raises=True)
        channel.close_callbacks.add(self.condemn)
        self.channels.append(channel)
        return channel

    @property
    def alive(self) -> bool:
        """Whether connection and channels are open, as the library sees it."""
        transport = self.connection.transport
        return bool(transport and transport.connection.is_opened and not any(each.is_closed for each in self.channels))

    @property
    def blocked(self) -> bool:
        """Whether RabbitMQ takes no messages from this connection, because of a memory or disk alarm.

        (Connection.Blocked. aiormq tells it only to those who wait for its end.)
        """
        transport = self.connection.transport
        if transport is None or self.lost.done():
            return False
        waiting = transport.connection.ready()
        try:
            waiting.send(None)
        except StopIteration:
            return False
        waiting.close()
        return True

    async def unblocked(self) -> None:
        """Wait until RabbitMQ takes messages. Raises `ConnectionResetError` when the connection is lost before."""
        while self.blocked:
            await asyncio.wait({self.lost}, timeout=LOOK_SECONDS)
        if self.lost.done():
            raise ConnectionResetError("the connection was lost")

    async def close(self) -> None:
        """Close it in whatever state it is, also when it was never made; within `CLOSE_SECONDS`."""
        try:
            await alone(self.connection.close(), CLOSE_SECONDS)
        except Exception as error:  # noqa: BLE001 - it is given up anyway
            log.debug("not closed properly: %r", error)
        finally:
            self.sockets.abort()


class Reconnecting:
    """The present connection of a kind, and the next. Use `run` as a task."""

    def __init__(self, settings: "BrokerSettings", name: str, build: Callable[[Link], Awaitable[None]]) -> None:
        """`name` is shown in RabbitMQ's list of connections; `build` makes everything that hangs on a new one."""
        self.name = name
        self._settings = settings
        self._build = build
        self._up = asyncio.Event()
        self.present: Link | None = None
        self.problem: str | None = "not connected to the broker yet"
        self.blocked = False
        """`Link.blocked` of the present one, a moment ago."""
        self.made = 0
        """How often a connection was made."""

    async def link(self) -> Link:
        """The present connection, as soon as there is one: the caller bounds the wait.

        Never one that was condemned, although its task may not have noticed yet: whoever tries again at once, and
        again, would fail each time without a pause, and keep the event loop from noticing for ever.
        """
        while True:
            if self.present and self.present.lost.done():
                self._down()
            if self.present:
                return self.present
            await self._up.wait()

    async def run(self) -> None:
        """Keep one up until cancelled, whatever happens to it."""
        loop = asyncio.get_running_loop()
        tries = pauses(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
        while True:
            began = loop.time()
            try:
                await self._live(Link.new(self._settings, self.name))
            except Exception as error:
                self.problem = f"the broker cannot be used: {error or type(error).__name__}"
                if loop.time() - began > LONGEST_PAUSE_SECONDS:
                    tries = pauses(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
                pause = next(tries)
                unforeseen = None if isinstance(error, BROKEN) else error
                log.warning("%s: %s; building it anew in %.1f s", self.name, self.problem, pause, exc_info=unforeseen)
                await asyncio.sleep(pause)

    async def _live(self, link: Link) -> None:
        """A connection's life, from the socket to the loss. Raises what it was lost by."""
        try:
            await alone(self._open(link), 4 * self._settings.amqp_timeout_seconds, unless=link.lost)
            self.present, self.problem = link, None
            self.made += 1
            self._up.set()
            while not link.lost.done() and link.alive:
                self.blocked = link.blocked
                await asyncio.wait({link.lost}, timeout=LOOK_SECONDS)
            raise ConnectionResetError("the connection, a channel or a consumer was lost")
        finally:
            self._down()
            await link.close()

    def _down(self) -> None:
        self._up.clear()
        self.present, self.blocked = None, False

    async def _open(self, link: Link) -> None:
        await link.connection.connect(self._settings.amqp_timeout_seconds)
        await self._build(link)
