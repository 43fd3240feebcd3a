"""The simulated broker does what the real one does: one play, with one script, before both."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import aio_pika
from joblease import topology
from joblease.settings import BrokerSettings
from joblease.topology import CONTROL, DEAD, DELIVERY_LIMIT, EVENTS, JOBS, defer_queue, jobs_queue
from simulation.broker import Server, SimulatedBroker
from simulation.loop import Program, VirtualLoop
from simulation.network import Network

POOL = "play"
PATIENCE = 10.0


class Reader:
    """A consumer on a connection of its own; what it gets, it keeps unsettled until it is told."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        self.news = asyncio.Event()
        self.cut: Callable[[], Awaitable[None]]

    async def receive(self, delivery: Any) -> None:
        self.got.append(delivery)
        self.news.set()

    async def next(self) -> Any:
        """The next delivery."""
        async with asyncio.timeout(PATIENCE):
            while not self.got:
                self.news.clear()
                await self.news.wait()
        return self.got.pop(0)


class Stage(Protocol):
    """A broker to play with."""

    async def publish(self, exchange: str, key: str, message_id: str) -> None: ...
    async def read(self, queue: str, prefetch: int = 1, priority: int = 0) -> Reader: ...
    async def counts(self, queue: str) -> tuple[int, int]: ...


def seen(delivery: Any) -> tuple[str, int]:
    """A delivery's message, and how often it was delivered before."""
    return delivery.message_id, delivery.headers.get("x-delivery-count", 0)


async def play(stage: Stage) -> list[Any]:
    """What was seen, in order."""
    said: list[Any] = []
    jobs = jobs_queue(POOL)
    first = await stage.read(jobs)
    for number in (1, 2, 3):
        await stage.publish(JOBS, POOL, f"job-{number}")
    delivery = await first.next()
    said.append(("first of three", seen(delivery), await settled(stage, jobs, (2, 1))))
    await delivery.ack()
    said.append(("after its acknowledgement", seen(await first.next())))
    await first.cut()
    said.append(("nobody reads", await settled(stage, jobs, (2, 0))))
    second = await stage.read(jobs)
    delivery = await second.next()
    said.append(("what was not settled, before the others", seen(delivery)))
    await delivery.ack()
    delivery = await second.next()
    said.append(("the last one", seen(delivery)))
    await delivery.ack()
    await stage.publish("", defer_queue(POOL, 1), "later")
    delivery = await second.next()
    said.append(("what was deferred", delivery.message_id))
    await second.cut()
    for _ in range(DELIVERY_LIMIT):
        reader = await stage.read(jobs)
        await reader.next()
        await reader.cut()
    dead = await stage.read(DEAD)
    letter = await dead.next()
    said.append(("never settled", letter.message_id, topology.parked_for(letter.headers)))
    await letter.ack()

    low, high = await stage.read(f"{EVENTS}.operator", 10, 1), await stage.read(f"{EVENTS}.operator", 10, 2)
    index = await stage.read(f"{EVENTS}.index", 10)
    for status in ("Submitted", "Queued", "Started", "Step", "Completed"):
        await stage.publish(EVENTS, f"namespace.{status}", status)
    said.append(("all events", [(await index.next()).message_id for _ in range(5)]))
    said.append(("those for the operator", [(await high.next()).message_id for _ in range(3)], low.got))

    one, other = await stage.read(CONTROL), await stage.read(CONTROL)
    await stage.publish(CONTROL, "", "order")
    said.append(("an order goes to all", [(await each.next()).message_id for each in (one, other)]))
    return said


SCRIPT = [
    ("first of three", ("job-1", 0), (2, 1)),
    ("after its acknowledgement", ("job-2", 0)),
    ("nobody reads", (2, 0)),
    ("what was not settled, before the others", ("job-2", 1)),
    ("the last one", ("job-3", 0)),
    ("what was deferred", "later"),
    ("never settled", "later", "delivery_limit"),
    ("all events", ["Submitted", "Queued", "Started", "Step", "Completed"]),
    ("those for the operator", ["Started", "Step", "Completed"], []),
    ("an order goes to all", ["order", "order"]),
]


async def settled(stage: Stage, queue: str, expected: tuple[int, int]) -> tuple[int, int]:
    """A queue's messages and consumers, once they are as expected: brokers count late."""
    found = await stage.counts(queue)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while found != expected:
                await asyncio.sleep(0.1)
                found = await stage.counts(queue)
    return found


class RealStage:
    """RabbitMQ."""

    def __init__(self, url: str, channel: Any, connections: contextlib.AsyncExitStack) -> None:
        self._url, self._channel, self._connections = url, channel, connections

    async def publish(self, exchange: str, key: str, message_id: str) -> None:
        target = await self._channel.get_exchange(exchange) if exchange else self._channel.default_exchange
        await target.publish(aio_pika.Message(b"", message_id=message_id, delivery_mode=2), key, mandatory=False)

    async def read(self, queue: str, prefetch: int = 1, priority: int = 0) -> Reader:
        connection = await self._connections.enter_async_context(await aio_pika.connect(self._url))
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=prefetch)
        found = await topology.declare_private(channel, CONTROL) if queue == CONTROL else await channel.get_queue(queue)
        reader = Reader()
        reader.cut = connection.close
        await found.consume(reader.receive, arguments={"x-priority": priority})
        return reader

    async def counts(self, queue: str) -> tuple[int, int]:
        found = (await self._channel.declare_queue(queue, passive=True)).declaration_result
        return found.message_count, found.consumer_count


@contextlib.asynccontextmanager
async def real_stage(url: str) -> AsyncIterator[RealStage]:
    async with contextlib.AsyncExitStack() as connections:
        connection = await connections.enter_async_context(await aio_pika.connect(url))
        channel = await connection.channel()
        await topology.declare_readers(channel)
        await topology.declare_pool(channel, POOL, BrokerSettings(defer_seconds=1))
        yield RealStage(url, channel, connections)


class SimulatedStage:
    """The simulation's."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._network = Network(loop, random.Random(1))
        self._server = Server(loop, self._network)
        self._loop = loop
        self._publisher, _ = self._client("publisher")

    def _client(self, name: str) -> tuple[SimulatedBroker, Program]:
        program = Program(name, self._loop)
        return SimulatedBroker(self._server, self._network, program, 5), program

    async def publish(self, exchange: str, key: str, message_id: str) -> None:
        await self._publisher.publish(exchange, key, b"", message_id=message_id)

    async def read(self, queue: str, prefetch: int = 1, priority: int = 0) -> Reader:
        reader = Reader()
        private = queue == CONTROL
        client, program = self._client(f"reader {id(reader)}")
        client.subscribe(program.name if private else queue, reader.receive, prefetch, priority, private=private)
        program.start(client.run())
        while not client.connections:
            await asyncio.sleep(0.01)

        async def cut() -> None:
            program.kill()
            client.lose()

        reader.cut = cut
        return reader

    async def counts(self, queue: str) -> tuple[int, int]:
        return self._server.counts(queue)


async def test_the_real_broker(amqp_url: str) -> None:
    async with real_stage(amqp_url) as stage:
        assert await play(stage) == SCRIPT


def test_the_simulated_broker() -> None:
    loop = VirtualLoop(random.Random(1))

    async def run() -> list[Any]:
        return await play(SimulatedStage(loop))

    try:
        assert loop.run_until_complete(run()) == SCRIPT
    finally:
        loop.close()
