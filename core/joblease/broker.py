"""Publishing to RabbitMQ and consuming from it, over one connection each.

Two connections, because RabbitMQ stops reading from those that publish when it is short of memory or disk, their
acknowledgements included (https://www.rabbitmq.com/docs/alarms advises the same). So jobs that run go on and are
acknowledged during an alarm of any length, and what a failed publish tears down is the publishing connection alone.

Publishing waits for the broker's confirm, under a timeout, and is refused when no queue takes the message.
"""

import asyncio
import contextlib
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from aio_pika import DeliveryMode, Message
from aio_pika.exceptions import ChannelClosed, DeliveryError

from joblease.errors import TransientError
from joblease.metrics import BROKER_BLOCKED, BROKER_CONNECTED, MESSAGES_PUBLISHED
from joblease.reconnecting import BROKEN, CLOSE_SECONDS, Link, Reconnecting, alone
from joblease.topology import OPTIONAL

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractExchange, AbstractIncomingMessage, AbstractQueue

    from joblease.settings import BrokerSettings

T = TypeVar("T")

__all__ = ["BROKEN", "Broker", "PublishFailed", "Subscription", "acknowledge", "newest_first"]

Callback = Callable[["AbstractIncomingMessage"], Awaitable[None]]
Declare = Callable[["AbstractChannel"], Awaitable["AbstractQueue"]]

SETTLE_SECONDS = 5.0
UNWRITABLE = (ValueError, TypeError, struct.error)
"""What the library raises of a message that AMQP cannot hold; everything else is about the connection."""


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


async def acknowledge(delivery: "AbstractIncomingMessage", *, with_earlier: bool = False) -> bool:
    """Acknowledge a message, in bounded time. False when its channel is gone: then the broker delivers it again.

    `with_earlier`: and each that was delivered before it on its channel, for no more than one costs.
    """
    return await _settle(delivery.ack(multiple=True) if with_earlier else delivery.ack())


async def _settle(answer: Awaitable[None]) -> bool:
    try:
        with _library():
            async with asyncio.timeout(SETTLE_SECONDS):
                await answer
    except BROKEN:
        return False
    return True


@contextlib.contextmanager
def _library() -> Iterator[None]:
    """Around calls of the library: a cancellation that nobody asked for is a lost connection."""
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise ConnectionAbortedError("the client library gave up") from None


class Broker:
    """Use as an async context manager; `subscribe` before entering. When its task dies, so does the program."""

    def __init__(
        self,
        settings: "BrokerSettings",
        name: str,
        prepare: Callable[["AbstractChannel"], Awaitable[None]],
        *,
        patient: bool = False,
        consuming: bool = True,
    ) -> None:
        """`name` is shown in RabbitMQ's list of connections; `prepare` declares what must exist before publishing.

        `patient` publishers wait for the end of a memory or disk alarm, however long it lasts, until `stop_consuming`:
        for those who hold a message of the broker's that would otherwise go back to it, again and again.

        Without `consuming` it is ready to consume, and does so after `start_consuming`.
        """
        self._settings = settings
        self._prepare = prepare
        self._patient = patient
        self._subscriptions: list[Subscription] = []
        self._prepared = asyncio.Event()
        self._consuming = consuming
        self._consumers: list[tuple[AbstractQueue, str]] = []
        self._consumer = Reconnecting(settings, name, self._build_consumers)
        self._publisher = Reconnecting(settings, f"{name} (publisher)", self._build_publisher)
        self._tasks = asyncio.TaskGroup()
        self._running: list[asyncio.Task[None]] = []
        BROKER_CONNECTED.set_function(lambda: self.problem is None)
        BROKER_BLOCKED.set_function(lambda: self.blocked)

    def subscribe(self, subscription: Subscription) -> None:
        """Consume a queue from now on, whenever there is a connection."""
        self._subscriptions.append(subscription)

    @property
    def timeout(self) -> float:
        """Bound on each exchange with the broker, seconds."""
        return self._settings.amqp_timeout_seconds

    @property
    def problem(self) -> str | None:
        """What keeps publishing or consuming from working; None when both do."""
        return self._consumer.problem or self._publisher.problem

    def dead(self) -> list[str]:
        """Why there will never be a connection again; empty as long as somebody sees to it."""
        return [f"the task of {task.get_name()} has ended" for task in self._running if task.done()]

    @property
    def blocked(self) -> bool:
        """Whether RabbitMQ takes no messages because of a memory or disk alarm, as far as a publish has found out."""
        return self._publisher.blocked

    @property
    def connections(self) -> int:
        """How often there was a new connection: what was declared ad hoc may have to be declared again."""
        return self._consumer.made

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        for each in (self._consumer, self._publisher):
            self._running.append(self._tasks.create_task(each.run(), name=f"connection {each.name}"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._running:
            task.cancel()
        await self._tasks.__aexit__(None, None, None)  # raises only what one of the tasks died of

    async def connected(self) -> None:
        """Wait until publishing and consuming work."""
        await self._consumer.link()
        await self._publisher.link()

    async def start_consuming(self) -> None:
        """Take messages from now on, or as soon as there is a connection; in bounded time."""
        self._consuming = True
        link: Link | None = None
        try:
            with _library():
                async with asyncio.timeout(self.timeout):
                    link = await self._consumer.link()
                    for subscription in self._subscriptions if not self._consumers else ():
                        await self._consume(link, subscription)
        except BROKEN:
            if link:
                link.condemn()  # the next one consumes from the start

    async def stop_consuming(self) -> None:
        """Take no more messages; publishing and acknowledging go on."""
        self._consuming = False
        consumers, self._consumers = self._consumers, []
        for queue, tag in consumers:
            with contextlib.suppress(*BROKEN), _library():
                await queue.cancel(tag, timeout=self.timeout)

    async def declare(self, declaration: Callable[["AbstractChannel"], Awaitable[Any]]) -> None:
        """Declare something that was not known when the connection was made. Raises `PublishFailed`."""
        try:
            await self.ask(declaration)
        except BROKEN as error:
            raise PublishFailed(f"a queue cannot be declared: {error or type(error).__name__}") from error

    async def ask(self, work: Callable[["AbstractChannel"], Awaitable[T]]) -> T:
        """Do something on a channel of its own, which is closed afterwards; not publish. Raises `PublishFailed`.

        What the work has got and not acknowledged goes back to its queue. An error of the work's own, such as a queue
        that does not exist (`ChannelClosed`), costs nothing but that channel, and is raised as it is.
        """
        link: Link | None = None
        try:
            with _library():
                async with asyncio.timeout(self.timeout):
                    link = await self._consumer.link()
                    channel = await link.connection.channel(publisher_confirms=False)
                    try:
                        return await work(channel)
                    finally:
                        with contextlib.suppress(*BROKEN):
                            await alone(channel.close(), CLOSE_SECONDS)
        except (TransientError, ChannelClosed):
            raise
        except TimeoutError as error:
            raise PublishFailed("the broker does not answer") from error
        except Exception as error:  # whatever the library raises when its connection is lost
            if isinstance(error, BROKEN) or (link and (link.lost.done() or not link.alive)):
                raise PublishFailed(f"the broker cannot be asked: {error or type(error).__name__}") from error
            raise

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

        It fails after `timeout`, with two exceptions: at once when the connection that it used is lost, and for patient
        publishers not before an alarm has ended. During an alarm nothing is torn down.

        An unroutable message (nobody declared its queue) is a failure too, except on the events and control
        exchanges, where "nobody listens" is an ordinary state.
        """
        message = Message(
            body, message_id=message_id, headers=dict(headers or {}), content_type="application/json",
            delivery_mode=DeliveryMode.PERSISTENT,
        )  # fmt: skip
        link: Link | None = None
        try:
            with _library():
                async with self._patience():
                    link = await self._publisher.link()
                    await link.unblocked()  # what is written during an alarm would only fill the socket
                    target = await _exchange(link, exchange)
                    await target.publish(message, routing_key, mandatory=exchange not in OPTIONAL)
        except DeliveryError as error:
            raise PublishFailed(f"{message_id}: no queue takes {exchange or 'default'}/{routing_key}") from error
        except UNWRITABLE:
            raise
        except Exception as error:  # whatever the library raises, it is the connection that failed, not the job
            if link and link.blocked:
                raise PublishFailed(f"{message_id}: RabbitMQ takes no messages (memory or disk alarm)") from error
            if link:
                link.condemn()  # a channel that did not answer once is not used again
            raise PublishFailed(f"{message_id}: {error or type(error).__name__}") from error
        MESSAGES_PUBLISHED.labels(exchange or "default").inc()

    @contextlib.asynccontextmanager
    async def _patience(self) -> AsyncIterator[None]:
        """As long as a publish may take: `timeout`, and for patient ones an alarm and `timeout` after it."""
        loop = asyncio.get_running_loop()
        waited = False
        timer: asyncio.TimerHandle

        def due() -> None:
            nonlocal timer, waited
            link = self._publisher.present
            waits = bool(self._patient and self._consuming and link and link.blocked)
            if waits or waited:
                timer = loop.call_later(self.timeout, due)
            else:
                bound.reschedule(loop.time())
            waited = waits

        timer = loop.call_later(self.timeout, due)
        try:
            async with asyncio.timeout(None) as bound:
                yield
        finally:
            timer.cancel()

    async def _build_publisher(self, link: Link) -> None:
        await self._prepared.wait()  # until the consumers' connection has done it
        await link.channel()

    async def _build_consumers(self, link: Link) -> None:
        self._consumers = []
        await self._prepare(await link.channel())
        self._prepared.set()
        for subscription in self._subscriptions:
            if self._consuming or subscription.keep:
                await self._consume(link, subscription)

    async def _consume(self, link: Link, subscription: Subscription) -> None:
        channel = await link.channel()
        await channel.set_qos(prefetch_count=subscription.prefetch)
        queue = await subscription.declare(channel)
        underlay = await channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(link.condemn)
        tag = await queue.consume(subscription.callback, arguments=subscription.arguments())
        if not subscription.keep:
            self._consumers.append((queue, tag))


async def _exchange(link: Link, name: str) -> "AbstractExchange":
    if name not in link.exchanges:
        channel = link.channels[0]
        link.exchanges[name] = await channel.get_exchange(name, ensure=False) if name else channel.default_exchange
    return link.exchanges[name]
