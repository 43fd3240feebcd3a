"""Whatever the broker, the network or the client library do: the connection comes back, and nothing else is touched."""

import asyncio
import contextlib
import gc
import socket
import warnings
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import aio_pika
import pytest
from aio_pika.exceptions import ChannelNotFoundEntity
from joblease import topology
from joblease.broker import Broker, PublishFailed, Subscription, acknowledge
from joblease.reconnecting import Link
from joblease.settings import BrokerSettings
from joblease.topology import WORKERS
from pydantic import SecretStr
from support.tcp_proxy import TcpProxy

TIMEOUT_SECONDS = 1.0


@pytest.fixture
def settings(amqp_url: str, proxy: TcpProxy) -> BrokerSettings:
    """By way of the proxy."""
    parts = urlsplit(amqp_url)
    url = parts._replace(netloc=parts.netloc.replace(str(parts.port), str(proxy.port))).geturl()
    return BrokerSettings(amqp_url=SecretStr(url), amqp_timeout_seconds=TIMEOUT_SECONDS, defer_seconds=1)


@pytest.fixture
def pool() -> str:
    return f"pool-{uuid4().hex[:6]}"


@pytest.fixture
async def admin(amqp_url: str) -> AsyncIterator[Any]:
    async with await aio_pika.connect(amqp_url) as connection:
        yield await connection.channel()


async def until(condition: Callable[[], object], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def ignore(_: Any) -> None:
    pass


def pool_of(pool: str, settings: BrokerSettings, callback: Any, prefetch: int = 1) -> Subscription:
    async def declare(channel: Any) -> Any:
        return await topology.declare_pool(channel, pool, settings)

    return Subscription(declare, callback, prefetch)


async def works(broker: Broker, pool: str, seconds: float = 15) -> None:
    """Wait until publishing works again."""
    async with asyncio.timeout(seconds):
        while True:
            await broker.connected()
            with contextlib.suppress(PublishFailed):
                await broker.publish(topology.JOBS, pool, b"{}", message_id="proof")
                return


async def test_a_connection_that_falls_silent_while_it_is_set_up_is_built_anew(
    settings: BrokerSettings, proxy: TcpProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """aiormq gives such a connection up by a `CancelledError` in whoever waits, although nobody has cancelled."""
    tries = 0

    async def declare(channel: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries == 1:
            proxy.block()
        return await topology.declare_private(channel, WORKERS)

    impatient = settings.model_copy(update={"amqp_heartbeat_seconds": 1, "amqp_timeout_seconds": 30})
    broker = Broker(impatient, "test", topology.declare_exchanges)
    broker.subscribe(Subscription(declare, ignore, prefetch=1))
    async with broker:
        await until(lambda: "was stuck" in caplog.text)
        proxy.unblock()
        await asyncio.wait_for(broker.connected(), 10)


class Fault:
    """What the client library does instead of what it should, the first time that it is asked to."""

    def __init__(self, kind: str, real: Any) -> None:
        self.kind = kind
        self.real = real
        self.happened = False
        self.over = asyncio.Event()

    async def __call__(self, *arguments: Any, **options: Any) -> Any:
        if self.happened:
            return await self.real(*arguments, **options)
        self.happened = True
        match self.kind:
            case "is cancelled":
                raise asyncio.CancelledError
            case "raises":
                raise KeyError("nobody foresaw this")
        while not self.over.is_set():  # never returns
            with contextlib.suppress(asyncio.CancelledError):
                await self.over.wait()
        return None


@pytest.mark.parametrize("kind", ["is cancelled", "raises", "never returns"])
@pytest.mark.parametrize("call", ["connect", "channel", "close"])
async def test_a_library_that_fails_in_any_way_is_asked_again(
    settings: BrokerSettings, proxy: TcpProxy, pool: str, monkeypatch: pytest.MonkeyPatch, call: str, kind: str
) -> None:
    fault = Fault(kind, getattr(aio_pika.Connection, call))

    async def faulty(self: Any, *arguments: Any, **options: Any) -> Any:
        return await fault(self, *arguments, **options)

    monkeypatch.setattr(aio_pika.Connection, call, faulty)
    broker = Broker(settings, "test", topology.declare_exchanges)
    broker.subscribe(pool_of(pool, settings, ignore))
    try:
        async with broker:
            if call == "close":
                await asyncio.wait_for(broker.connected(), 15)
                proxy.cut()
                await until(lambda: fault.happened)
            await works(broker, pool)
            assert fault.happened
    finally:
        fault.over.set()


async def test_publishing_again_and_again_does_not_keep_the_connection_from_coming_back(
    settings: BrokerSettings, proxy: TcpProxy, pool: str
) -> None:
    """A publish on a channel that is closed fails at once: who tries again at once must not hold the event loop."""
    broker = Broker(settings, "test", topology.declare_exchanges)
    broker.subscribe(pool_of(pool, settings, acknowledge, prefetch=10))
    confirmed = 0

    async def publish() -> None:
        nonlocal confirmed
        while True:
            with contextlib.suppress(PublishFailed):
                await broker.publish(topology.JOBS, pool, b"{}", message_id=str(confirmed))
                confirmed += 1

    async with broker:
        publishing = asyncio.create_task(publish())
        try:
            for _ in range(3):
                reached = confirmed + 20
                await until(lambda: confirmed > reached)  # noqa: B023 - awaited at once
                proxy.cut()
        finally:
            publishing.cancel()


class ResetInASend:
    """A socket whose peer has gone, as the first send finds out."""

    def __init__(self, real: socket.socket) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def send(self, _: bytes) -> int:
        raise ConnectionResetError(104, "Connection reset by peer")


async def test_acknowledgements_end_although_the_connection_was_reset_under_them(
    settings: BrokerSettings, pool: str, admin: Any
) -> None:
    """With `delivery.ack()`, 489 of 500 wait for ever: for room in a queue that nobody empties any more."""
    count = 200
    came: list[Any] = []

    async def receive(delivery: Any) -> None:
        came.append(delivery)

    broker = Broker(settings, "test", topology.declare_exchanges)
    broker.subscribe(pool_of(pool, settings, receive, prefetch=count))
    async with broker:
        await asyncio.wait_for(broker.connected(), 15)
        exchange = await admin.get_exchange(topology.JOBS, ensure=False)
        for number in range(count):
            await exchange.publish(aio_pika.Message(b"{}", message_id=str(number)), pool)
        await until(lambda: len(came) == count)
        transport: Any = broker._consumer.present.sockets._writer.transport  # type: ignore[union-attr]
        acknowledging = [asyncio.create_task(acknowledge(each)) for each in came]
        transport._sock = ResetInASend(transport._sock)
        async with asyncio.timeout(10):
            assert False in await asyncio.gather(*acknowledging)
        await until(lambda: len(came) > count)  # and what was not acknowledged is delivered again


async def test_a_publish_that_found_no_connection_does_not_condemn_the_next(
    settings: BrokerSettings, pool: str
) -> None:
    go = asyncio.Event()
    came: list[Any] = []

    async def declare(channel: Any) -> Any:
        await go.wait()
        return await topology.declare_pool(channel, pool, settings)

    async def receive(delivery: Any) -> None:
        came.append(delivery)

    async def prepare(channel: Any) -> None:
        await go.wait()
        await topology.declare_exchanges(channel)

    broker = Broker(settings, "test", prepare)
    broker.subscribe(Subscription(declare, receive, prefetch=2))
    async with broker:
        with pytest.raises(PublishFailed):
            await broker.publish(topology.JOBS, pool, b"{}", message_id="early")
        go.set()
        await asyncio.wait_for(broker.connected(), 15)
        await broker.publish(topology.JOBS, pool, b"{}", message_id="1")
        await broker.publish(topology.JOBS, pool, b"{}", message_id="2")
        await until(lambda: len(came) == 2)
        assert (broker.connections, [each.redelivered for each in came]) == (1, [False, False])


async def test_what_publishing_has_lost_consuming_keeps(settings: BrokerSettings, pool: str) -> None:
    came: list[Any] = []

    async def receive(delivery: Any) -> None:
        came.append(delivery)

    broker = Broker(settings, "test", topology.declare_exchanges)
    broker.subscribe(pool_of(pool, settings, receive, prefetch=2))
    async with broker:
        await works(broker, pool)
        await until(lambda: came)
        lost = broker._publisher.present
        assert lost is not None
        lost.condemn()
        await until(lambda: broker._publisher.present not in (None, lost))
        await works(broker, pool)
        await until(lambda: len(came) == 2)
        assert (broker.connections, [each.redelivered for each in came]) == (1, [False, False])
        assert all([await acknowledge(each) for each in came])


@pytest.mark.parametrize("way", ["cut", "odd error of the library"])
async def test_a_connection_that_is_lost_under_a_question_is_no_error_of_the_question(
    settings: BrokerSettings, proxy: TcpProxy, way: str
) -> None:
    async def ask(channel: Any) -> Any:
        if way == "cut":
            proxy.cut()
            return await channel.declare_queue(topology.DEAD, passive=True)
        assert broker._consumer.present is not None
        broker._consumer.present.condemn()
        raise KeyError("frame")

    async with Broker(settings, "test", topology.declare_exchanges) as broker:
        for method in (broker.ask, broker.declare):
            await asyncio.wait_for(broker.connected(), 15)
            with pytest.raises(PublishFailed):
                await method(ask)


async def test_an_error_of_the_question_is_raised_as_it_is(settings: BrokerSettings) -> None:
    async def unknown(channel: Any) -> Any:
        return await channel.declare_queue("nobody-has-declared-it", passive=True)

    async def wrong(_: Any) -> None:
        raise KeyError("ours")

    async with Broker(settings, "test", topology.declare_exchanges) as broker:
        await broker.connected()
        with pytest.raises(ChannelNotFoundEntity):
            await broker.ask(unknown)
        for method in (broker.ask, broker.declare):
            with pytest.raises(KeyError, match="ours"):
                await method(wrong)
        assert broker.connections == 1


class Fatal(BaseException):
    """Nothing that anybody catches."""


async def test_a_program_does_not_survive_the_task_that_connects(
    settings: BrokerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = Broker(settings, "test", topology.declare_exchanges)

    async def program() -> None:
        async with broker:
            await asyncio.wait_for(broker.connected(), 15)
            assert broker.dead() == []
            monkeypatch.setattr(broker._consumer, "_live", _die)
            assert broker._consumer.present is not None
            broker._consumer.present.condemn()
            await asyncio.Event().wait()

    with pytest.raises(BaseExceptionGroup) as raised:
        await program()
    assert raised.group_contains(Fatal)
    assert "connection test has ended" in broker.dead()[0]


async def _die(_: Any) -> None:
    raise Fatal


async def test_queues_that_exist_with_other_arguments_are_used_as_they_are(
    settings: BrokerSettings, pool: str, admin: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """As after an upgrade of RabbitMQ or of JobLease, or after a setting was changed."""
    await topology.declare_exchanges(admin)
    await admin.queue_delete(topology.DEAD)
    quorum = {"x-queue-type": "quorum"}
    for name in (topology.DEAD, topology.jobs_queue(pool), topology.defer_queue(pool, 1)):
        await admin.declare_queue(name, durable=True, arguments=quorum)
    came: asyncio.Queue[str] = asyncio.Queue()

    async def receive(delivery: Any) -> None:
        await acknowledge(delivery)
        await came.put(delivery.message_id)

    broker = Broker(settings, "test", topology.declare_exchanges)
    broker.subscribe(pool_of(pool, settings, receive))
    try:
        async with broker:
            await asyncio.wait_for(broker.connected(), 15)
            await broker.declare(lambda channel: topology.declare_pool(channel, pool, settings))
            await broker.publish(topology.JOBS, pool, b"{}", message_id="1")
            assert await asyncio.wait_for(came.get(), 10) == "1"
            assert broker.connections == 1
        for name in (topology.DEAD, topology.jobs_queue(pool), topology.defer_queue(pool, 1)):
            assert f"queue {name} is used as it is" in caplog.text
        assert "inequivalent arg" in caplog.text  # which, and what it is and should be, in RabbitMQ's words
    finally:
        await admin.queue_delete(topology.DEAD)


async def test_a_connection_whose_close_was_cancelled_is_left_to_its_socket(settings: BrokerSettings) -> None:
    """As when a program is told to end twice. The garbage collector runs in any thread, which has no event loop."""
    link = Link.new(settings, "test")
    await link.connection.connect(TIMEOUT_SECONDS)
    closing = asyncio.create_task(link.close())
    async with asyncio.timeout(5):
        while link.connection.transport:
            await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait({closing}, timeout=5)
    assert closing.cancelled()
    assert not link.connection.is_closed
    finalizer = link.connection.__del__
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        await asyncio.to_thread(finalizer)
        gc.collect()
    assert [str(each.message) for each in raised] == []
