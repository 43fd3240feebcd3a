"""The connection to RabbitMQ, on a real broker."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import aio_pika
import pytest
from joblease import topology
from joblease.broker import Broker, PublishFailed, Subscription
from joblease.settings import BrokerSettings
from joblease.topology import CONTROL, EVENTS
from pydantic import SecretStr


@pytest.fixture
def settings(amqp_url: str) -> BrokerSettings:
    return BrokerSettings(amqp_url=SecretStr(amqp_url), defer_seconds=1, amqp_timeout_seconds=5)


@pytest.fixture
async def admin(amqp_url: str) -> AsyncIterator[Any]:
    async with await aio_pika.connect(amqp_url) as connection:
        yield await connection.channel()


async def test_a_deferred_message_comes_back_after_its_time(settings: BrokerSettings) -> None:
    came: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
    pool = f"pool-{uuid4().hex[:6]}"

    async def declare(channel: Any) -> Any:
        return await topology.declare_pool(channel, pool, settings)

    async def receive(message: Any) -> None:
        await message.ack()
        await came.put((message.message_id, message.headers.get("kept")))

    broker = Broker(settings, "test", topology.declare_exchanges)
    broker.subscribe(Subscription(declare, receive, prefetch=1))
    async with broker:
        await broker.connected()
        loop = asyncio.get_running_loop()
        sent = loop.time()
        target = topology.defer_queue(pool, 1)
        await broker.publish("", target, b"{}", message_id="late", headers={"kept": 7})
        assert await asyncio.wait_for(came.get(), 10) == ("late", 7)
        assert loop.time() - sent >= 0.9


async def test_what_no_queue_takes_is_not_lost_in_silence(settings: BrokerSettings) -> None:
    async with Broker(settings, "test", topology.declare_exchanges) as broker:
        with pytest.raises(PublishFailed, match=r"no queue takes joblease\.jobs/nobodys"):
            await broker.publish(topology.JOBS, "nobodys", b"{}", message_id="1")
        await broker.publish(EVENTS, "default.Started", b"{}", message_id="1")  # nobody has to listen to events
        await broker.publish(CONTROL, "", b"{}", message_id="1")


async def test_everything_comes_back_when_a_queue_is_deleted_under_its_consumer(
    settings: BrokerSettings, admin: Any
) -> None:
    came: asyncio.Queue[str] = asyncio.Queue()
    pool = f"pool-{uuid4().hex[:6]}"

    async def declare(channel: Any) -> Any:
        return await topology.declare_pool(channel, pool, settings)

    async def receive(message: Any) -> None:
        await message.ack()
        await came.put(message.message_id)

    broker = Broker(settings, "test", topology.declare_exchanges)
    broker.subscribe(Subscription(declare, receive, prefetch=1))
    async with broker:
        await broker.connected()
        await broker.publish(topology.JOBS, pool, b"{}", message_id="before")
        assert await asyncio.wait_for(came.get(), 10) == "before"
        await (await admin.get_queue(topology.jobs_queue(pool))).delete(if_empty=False, if_unused=False)
        async with asyncio.timeout(20):
            while True:
                try:
                    await broker.publish(topology.JOBS, pool, b"{}", message_id="after")
                    break
                except PublishFailed:
                    await asyncio.sleep(0.05)
        assert await asyncio.wait_for(came.get(), 20) == "after"
        assert broker.problem is None


async def test_no_more_messages_after_consuming_has_stopped(settings: BrokerSettings, admin: Any) -> None:
    came: asyncio.Queue[str] = asyncio.Queue()
    pool = f"pool-{uuid4().hex[:6]}"

    async def declare(channel: Any) -> Any:
        return await topology.declare_pool(channel, pool, settings)

    async def receive(message: Any) -> None:
        await came.put(message.message_id)

    broker = Broker(settings, "test", topology.declare_exchanges)
    broker.subscribe(Subscription(declare, receive, prefetch=1))
    async with broker:
        await broker.connected()
        await broker.stop_consuming()
        await broker.publish(topology.JOBS, pool, b"{}", message_id="1")
        queue = await admin.declare_queue(topology.jobs_queue(pool), passive=True)
        assert queue.declaration_result.consumer_count == 0
        message = await queue.get(timeout=5)
        assert message.message_id == "1"
        assert came.empty()


async def test_a_broker_that_is_away_is_a_problem_and_a_bounded_wait(settings: BrokerSettings) -> None:
    nowhere = settings.model_copy(
        update={"amqp_url": SecretStr("amqp://guest:guest@127.0.0.1:9/"), "amqp_timeout_seconds": 1}
    )
    async with Broker(nowhere, "test", topology.declare_exchanges) as broker:
        with pytest.raises(PublishFailed):
            await broker.publish(EVENTS, "a.b", b"{}", message_id="1")
        assert "cannot be used" in (broker.problem or "")


async def test_a_wrong_password_is_a_problem_that_is_told(settings: BrokerSettings) -> None:
    url = settings.amqp_url.get_secret_value().replace("guest:guest@", "guest:wrong@")
    wrong = settings.model_copy(update={"amqp_url": SecretStr(url)})
    async with Broker(wrong, "test", topology.declare_exchanges) as broker, asyncio.timeout(10):
        while "ACCESS_REFUSED" not in (broker.problem or ""):
            await asyncio.sleep(0.05)
