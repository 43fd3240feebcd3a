"""One connection to RabbitMQ that comes back, with everything that hung on it.

Client libraries restore connections, yet leave holes that stop a worker for good: a consumer that the server cancelled,
a queue that was deleted, a channel that timed out, a publish that never returns. So nothing is restored piece by piece
here. Whenever any piece is lost (connection, channel or consumer) all of it is torn down and built anew, by the same
code that built it the first time.

Publishing waits for the broker's confirm, under a timeout, and is refused when no queue takes the message.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import aio_pika
from aio_pika import DeliveryMode, Message
from aio_pika.exceptions import AMQPError, DeliveryError

from joblease.errors import TransientError
from joblease.metrics import BROKER_CONNECTED, MESSAGES_PUBLISHED

if TYPE_CHECKING:
    from aio_pika.abc import (
        AbstractChannel,
        AbstractConnection,
        AbstractExchange,
        AbstractIncomingMessage,
        AbstractQueue,
    )

    from joblease.settings import BrokerSettings

log = logging.getLogger(__name__)
T = TypeVar("T")

Callback = Callable[["AbstractIncomingMessage"], Awaitable[None]]
Declare = Callable[["AbstractChannel"], Awaitable["AbstractQueue"]]

MAX_BACKOFF_SECONDS = 5.0
CLOSE_SECONDS = 2
BROKEN = (AMQPError, OSError, asyncio.TimeoutError, RuntimeError)
"""What a lost connection looks like from aio-pika, depending on where it was caught."""


class PublishFailed(TransientError):
    """The broker did not confirm: the message may or may not have been taken, so publish it again."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """A queue to consume from, and how to declare it."""

    declare: Declare
    callback: Callback
    prefetch: int
    keep: bool = False
    """Go on with it after `stop_consuming`."""
    arguments: Callable[[], dict[str, Any]] = dict
    """Of the consumer, asked for each time that it is made anew."""


def newest_first() -> Callable[[], dict[str, Any]]:
    """Arguments of a consumer that gets messages before all that were started earlier, as long as it keeps up.

    For readers that remember what they have read. When there are two for a while (a pod is replaced, or its node was
    given up and runs on) or for long, each would hear a part of the news and know the rest only later. (RabbitMQ's
    consumer priority.)
    """
    priority = time.time_ns() // 1_000_000
    return lambda: {"x-priority": priority}


class Broker:
    """Use as an async context manager; `subscribe` before entering."""

    def __init__(
        self, settings: "BrokerSettings", name: str, prepare: Callable[["AbstractChannel"], Awaitable[None]]
    ) -> None:
        """`name` is shown in RabbitMQ's list of connections; `prepare` declares what must exist before publishing."""
        self._settings = settings
        self._name = name
        self._prepare = prepare
        self._subscriptions: list[Subscription] = []
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._up = asyncio.Event()
        self._lost = asyncio.Event()
        self._consuming = True
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self._consumers: list[tuple[AbstractQueue, str]] = []
        self._exchanges: dict[str, AbstractExchange] = {}
        self.problem: str | None = "not connected to the broker yet"
        self.connections = 0
        """How often a connection was made: when it rises, what was declared ad hoc may have to be declared again."""

    def subscribe(self, subscription: Subscription) -> None:
        """Consume a queue from now on, whenever there is a connection."""
        self._subscriptions.append(subscription)

    @property
    def timeout(self) -> float:
        """Bound on each exchange with the broker, seconds."""
        return self._settings.amqp_timeout_seconds

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="broker")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True  # a cancellation may be swallowed while a lost connection is being closed
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def connected(self) -> None:
        """Wait until publishing and consuming work."""
        await self._up.wait()

    async def stop_consuming(self) -> None:
        """Take no more messages; publishing and acknowledging go on."""
        self._consuming = False
        consumers, self._consumers = self._consumers, []
        for queue, tag in consumers:
            with contextlib.suppress(*BROKEN):
                await queue.cancel(tag, timeout=self.timeout)

    async def declare(self, declaration: Callable[["AbstractChannel"], Awaitable[Any]]) -> None:
        """Declare something that was not known when the connection was made. Raises `PublishFailed`."""
        try:
            async with asyncio.timeout(self.timeout):
                await self._up.wait()
                if self._channel:
                    await declaration(self._channel)
        except BROKEN as error:
            self._lost.set()
            raise PublishFailed(f"a queue cannot be declared: {error or type(error).__name__}") from error

    async def ask(self, work: Callable[["AbstractChannel"], Awaitable[T]]) -> T:
        """Do something on a channel of its own, which is closed afterwards. Raises `PublishFailed`.

        What the work has got and not acknowledged goes back to its queue. An error of the work's own, such as a queue
        that does not exist, costs nothing but that channel, and is raised as it is.
        """
        try:
            async with asyncio.timeout(self.timeout):
                await self._up.wait()
                connection = self._connection
                if connection is None:
                    raise PublishFailed("no connection to the broker")
                channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
                try:
                    return await work(channel)
                finally:
                    with contextlib.suppress(*BROKEN):
                        await channel.close()
        except TimeoutError as error:
            raise PublishFailed("the broker does not answer") from error

    async def publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        *,
        message_id: str,
        headers: Mapping[str, Any] | None = None,
    ) -> None:
        """Publish a persistent message and wait for the confirm. Raises `PublishFailed`.

        An unroutable message (nobody declared its queue) is a failure too, except on the events and control
        exchanges, where "nobody listens" is an ordinary state.
        """
        message = Message(
            body, message_id=message_id, headers=dict(headers or {}), content_type="application/json",
            delivery_mode=DeliveryMode.PERSISTENT,
        )  # fmt: skip
        try:
            async with asyncio.timeout(self.timeout):
                await self._up.wait()
                channel = self._channel
                if channel is None:
                    raise PublishFailed(f"no connection to the broker for {message_id}")
                target = self._exchanges.get(exchange)
                if target is None:
                    target = (
                        await channel.get_exchange(exchange, ensure=False) if exchange else channel.default_exchange
                    )
                    self._exchanges[exchange] = target
                await target.publish(message, routing_key, mandatory=exchange not in OPTIONAL, timeout=self.timeout)
        except DeliveryError as error:
            raise PublishFailed(f"{message_id}: no queue takes {exchange or 'default'}/{routing_key}") from error
        except BROKEN as error:
            self._lost.set()  # a channel that did not answer once is not used again
            raise PublishFailed(f"{message_id}: {error or type(error).__name__}") from error
        MESSAGES_PUBLISHED.labels(exchange or "default").inc()

    async def _run(self) -> None:
        backoff = 0.1
        while not self._closing:
            connection: AbstractConnection | None = None
            try:
                connection = await self._connect()
                backoff = 0.1
                await self._lost.wait()
                self.problem = "the broker's connection, channel or consumer was lost"
                log.warning("%s; building it anew", self.problem)
            except BROKEN as error:
                self.problem = f"the broker cannot be used: {error or type(error).__name__}"
                log.warning("%s; next try in %.1f s", self.problem, backoff)
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, MAX_BACKOFF_SECONDS)
            finally:
                self._up.clear()
                BROKER_CONNECTED.set(0)
                self._connection, self._channel, self._consumers, self._exchanges = None, None, [], {}
                if connection:
                    await _close(connection)

    async def _connect(self) -> "AbstractConnection":
        self._lost = asyncio.Event()
        lost = self._lost
        connection = aio_pika.Connection(
            aio_pika.connection.make_url(
                self._settings.amqp_url.get_secret_value(), heartbeat=self._settings.amqp_heartbeat_seconds
            ),
            ssl_context=self._settings.tls(),
            client_properties={"connection_name": self._name},
        )
        try:
            await connection.connect(self.timeout)
            async with asyncio.timeout(self.timeout * 3):
                connection.close_callbacks.add(lambda *_: lost.set())
                channel = await self._open_channel(connection, lost)
                await self._prepare(channel)
                self._channel = channel
                for subscription in self._subscriptions:
                    if self._consuming or subscription.keep:
                        await self._consume(connection, subscription, lost)
        except BaseException:
            await _close(connection)
            raise
        self._connection = connection
        self.problem = None
        self.connections += 1
        self._up.set()
        BROKER_CONNECTED.set(1)
        return connection

    async def _open_channel(self, connection: "AbstractConnection", lost: asyncio.Event) -> "AbstractChannel":
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        channel.close_callbacks.add(lambda *_: lost.set())
        return channel

    async def _consume(self, connection: "AbstractConnection", subscription: Subscription, lost: asyncio.Event) -> None:
        channel = await self._open_channel(connection, lost)
        await channel.set_qos(prefetch_count=subscription.prefetch)
        queue = await subscription.declare(channel)
        underlay = await channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(lambda *_: lost.set())
        tag = await queue.consume(subscription.callback, arguments=subscription.arguments())
        if not subscription.keep:
            self._consumers.append((queue, tag))


async def _close(connection: "AbstractConnection") -> None:
    """Close a connection whatever state it is in, also when it was never made.

    aio-pika's second `close` completes what a transport that failed during the first left undone; a connection that is
    not closed would try it from its finalizer, in whatever thread that runs.
    """
    for _ in range(2):
        with contextlib.suppress(*BROKEN, asyncio.CancelledError):
            await asyncio.wait_for(connection.close(), CLOSE_SECONDS)


EVENTS = "joblease.events"
CONTROL = "joblease.control"
WORKERS = "joblease.workers"
OPTIONAL = (EVENTS, CONTROL, WORKERS)
