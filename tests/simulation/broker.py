"""RabbitMQ, as far as JobLease uses it: durable queues, confirms, redelivery, delivery limits, consumer priorities."""

import asyncio
import itertools
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

from aio_pika.exceptions import ChannelNotFoundEntity
from joblease.broker import PublishFailed
from joblease.topology import CONTROL, DEAD, DELIVERY_LIMIT, EVENTS, JOBS, READERS, jobs_queue

from simulation.loop import Program, VirtualLoop
from simulation.network import Network, NoAnswer, Refused

SERVICE = "broker"
RECONNECT_SECONDS = (0.1, 3.0)
HEARTBEAT_SECONDS = 8.0
LOOK_SECONDS = 0.2


@dataclass(slots=True)
class Letter:
    """A message in a queue."""

    message_id: str
    body: bytes
    headers: dict[str, Any]
    queue: str
    deliveries: int = 0


@dataclass(slots=True)
class Consumer:
    """Somebody who reads a queue."""

    queue: str
    callback: Callable[[Any], Awaitable[None]]
    prefetch: int
    priority: int
    connection: "Connection"
    unsettled: dict[int, Letter] = field(default_factory=dict)


class Connection:
    """A program's consuming connection. A delivery's `channel` is this."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.is_closed = False


class Delivery:
    """As aio-pika's incoming message."""

    def __init__(
        self, server: "Server", client: "SimulatedBroker", consumer: Consumer, tag: int, letter: Letter
    ) -> None:
        self._server, self._client, self._consumer, self._tag = server, client, consumer, tag
        self.body, self.message_id = letter.body, letter.message_id
        self.headers = dict(letter.headers)
        if letter.deliveries:
            self.headers["x-delivery-count"] = letter.deliveries
        self.channel = consumer.connection

    async def ack(self) -> None:
        """Raises when the channel is closed."""
        if self.channel.is_closed:
            raise ConnectionError("the channel is closed")
        self._client.post(f"ack {self.message_id}", lambda: self._server.ack(self._consumer, self._tag))


class Server:
    """The broker's state. A message that was taken survives everything."""

    def __init__(self, loop: VirtualLoop, network: Network) -> None:
        self._loop = loop
        self._network = network
        self.queues: dict[str, deque[Letter]] = defaultdict(deque)
        self.announced: list[bytes] = []
        """All events that anybody could hear of."""
        self.alarm = False
        """Whether it is short of memory or disk, and takes no messages (Connection.Blocked)."""
        self.expired: set[str] = set()
        """Ids of messages that an administrator's policy has parked."""
        self.consumers: list[Consumer] = []
        self._clients: dict[int, SimulatedBroker] = {}
        self._tags = itertools.count()
        self._private: set[str] = set()
        self.on_ack: Callable[[Letter, int], None] = lambda _letter, _others: None
        """Told of each acknowledged message of a jobs queue, and how many others of the same job there are."""
        self.on_loss: Callable[[str], None] = lambda _message: None
        """Told of each message that somebody has deleted."""

    def publish(self, exchange: str, key: str, letter: Letter) -> None:
        """Put a message into all queues that are bound for it."""
        if exchange == EVENTS:
            self.announced.append(letter.body)
        for queue in self._targets(exchange, key):
            copy = Letter(letter.message_id, letter.body, dict(letter.headers), queue)
            self.queues[queue].append(copy)
            if queue.startswith("joblease.defer."):
                seconds = int(queue.rsplit(".", 1)[1].removesuffix("s"))
                self._later(seconds, lambda copy=copy, queue=queue: self._expire(queue, copy))  # type: ignore[misc]
            self.deliver(queue)

    def _targets(self, exchange: str, key: str) -> list[str]:
        if exchange == "":
            return [key]
        if exchange == JOBS:
            return [jobs_queue(key)]
        if exchange == CONTROL:
            return sorted(self._private)
        word = key.rsplit(".", maxsplit=1)[-1]
        return (
            [f"{EVENTS}.{reader}" for reader, keys in READERS.items() if "#" in keys or f"*.{word}" in keys]
            if exchange == EVENTS
            else []
        )

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        self._network._outside(seconds, act)

    def _expire(self, queue: str, letter: Letter) -> None:
        if letter in self.queues[queue]:
            self.queues[queue].remove(letter)
            pool = queue.removeprefix("joblease.defer.").rsplit(".", 1)[0]
            self.publish(JOBS, pool, letter)

    def attach(self, consumer: Consumer, client: "SimulatedBroker", *, private: bool) -> None:
        """A consumer begins."""
        self.consumers.append(consumer)
        self._clients[id(consumer)] = client
        if private:
            self._private.add(consumer.queue)
        self.deliver(consumer.queue)

    def detach(self, connection: Connection) -> None:
        """A connection ends: what it has not settled is delivered again."""
        connection.is_closed = True
        for consumer in [each for each in self.consumers if each.connection is connection]:
            self.consumers.remove(consumer)
            self._clients.pop(id(consumer), None)
            if consumer.queue in self._private:
                self._private.discard(consumer.queue)
                self.queues.pop(consumer.queue, None)
                continue
            for letter in reversed(consumer.unsettled.values()):
                letter.deliveries += 1
                if consumer.queue != DEAD and letter.deliveries > DELIVERY_LIMIT:
                    self._park(letter, consumer.queue, "delivery_limit")
                else:
                    self.queues[consumer.queue].appendleft(letter)
            self.deliver(consumer.queue)

    def cancel(self, consumer: Consumer) -> None:
        """It gets no more; what it has, it may still settle."""
        consumer.prefetch = 0

    def ack(self, consumer: Consumer, tag: int) -> None:
        """A message is done with."""
        letter = consumer.unsettled.pop(tag, None)
        if letter and consumer.queue.startswith(JOBS):
            job = letter.message_id.rsplit(".", 1)[0]
            self.on_ack(letter, sum(each.message_id.startswith(f"{job}.") for each in self._of_jobs()))
        self.deliver(consumer.queue)

    def _of_jobs(self) -> Iterator[Letter]:
        """All messages that ask for a job, or did."""
        for name, letters in self.queues.items():
            if not name.startswith(EVENTS):
                yield from letters
        for consumer in self.consumers:
            if consumer.queue.startswith(JOBS):
                yield from consumer.unsettled.values()

    def deliver(self, queue: str) -> None:
        """Hand out what consumers have room for."""
        letters = self.queues[queue]
        while letters:
            able = [c for c in self.consumers if c.queue == queue and len(c.unsettled) < c.prefetch]
            if not able:
                return
            first = max(each.priority for each in able)
            consumer = self._network.dice.choice([each for each in able if each.priority == first])
            letter, tag = letters.popleft(), next(self._tags)
            consumer.unsettled[tag] = letter
            self._clients[id(consumer)].push(consumer, tag, letter)

    def lose(self, queue: str) -> int:
        """Somebody deletes a queue, and it is declared anew; how many messages went with it, also unsettled ones."""
        readers = [each for each in self.consumers if each.queue == queue]
        lost = [*self.queues[queue], *(letter for each in readers for letter in each.unsettled.values())]
        for letter in lost:
            self.on_loss(letter.message_id)
        self.queues[queue].clear()
        for consumer in readers:
            consumer.unsettled.clear()
        return len(lost)

    def _park(self, letter: Letter, queue: str, reason: str) -> None:
        headers = {**letter.headers, "x-death": [{"queue": queue, "reason": reason}]}
        self.publish("", DEAD, Letter(letter.message_id, letter.body, headers, DEAD))

    def expire(self, queue: str) -> list[str]:
        """A policy limits the age of its messages: those that nobody has got yet are parked; their ids."""
        letters = [*self.queues[queue]]
        self.queues[queue].clear()
        for letter in letters:
            self.expired.add(letter.message_id)
            self._park(letter, queue, "expired")
        return [letter.message_id for letter in letters]

    def replay(self) -> int:
        """Somebody sends the dead letters back to where they came from; how many."""
        letters = [letter for letter in self.queues[DEAD] if "x-death" in letter.headers]
        for letter in letters:
            self.queues[DEAD].remove(letter)
            headers = {name: value for name, value in letter.headers.items() if name != "x-death"}
            origin = letter.headers["x-death"][0]["queue"]
            self.publish("", origin, Letter(letter.message_id, letter.body, headers, origin))
        return len(letters)

    def counts(self, queue: str) -> tuple[int, int]:
        """Messages that are ready, and consumers."""
        return len(self.queues[queue]), sum(each.queue == queue and each.prefetch > 0 for each in self.consumers)


class SimulatedBroker:
    """As `joblease.broker.Broker`, for one program."""

    def __init__(
        self, server: Server, network: Network, program: Program, timeout: float, *, patient: bool = False
    ) -> None:
        self._server, self._network, self._program, self._patient = server, network, program, patient
        self.timeout = timeout
        self.problem: str | None = None
        self.connections = 0
        self._wanted: list[tuple[str, Any, int, int, bool]] = []
        self._connection = Connection(program)
        self._consuming = True
        self._consumers: list[Consumer] = []
        self._queues: dict[int, asyncio.Queue[Delivery]] = {}
        self._lost = asyncio.Event()

    def subscribe(
        self,
        queue: str,
        callback: Callable[[Any], Awaitable[None]],
        prefetch: int,
        priority: int = 0,
        *,
        private: bool = False,
    ) -> None:
        """Consume whenever there is a connection; `private`: a queue of this connection's own, bound to all orders."""
        self._wanted.append((queue, callback, prefetch, priority, private))

    @property
    def blocked(self) -> bool:
        """As the real one's."""
        return self._server.alarm and self.problem is None

    async def run(self) -> None:
        """Connect, and again whenever the connection is lost."""
        while True:
            connection = self._connection = Connection(self._program)
            self._consumers = []
            try:
                attach = partial(self._attach, connection)
                await self._network.ask(self._program, SERVICE, "connect", attach, self.timeout)
            except (NoAnswer, Refused):
                self._server.detach(self._connection)
                self.problem = "not connected"
                await asyncio.sleep(self._network.dice.uniform(*RECONNECT_SECONDS))
                continue
            if connection.is_closed:  # lost before anybody could know that it was there
                await asyncio.sleep(self._network.dice.uniform(*RECONNECT_SECONDS))
                continue
            self.problem, self._lost = None, asyncio.Event()
            self.connections += 1
            await self._lost.wait()
            self.problem = "not connected"
            await asyncio.sleep(self._network.dice.uniform(*RECONNECT_SECONDS))

    def _attach(self, connection: Connection) -> None:
        if connection.is_closed or not self._program.alive:
            return
        for queue, callback, prefetch, priority, private in self._wanted:
            if private or self._consuming:
                consumer = Consumer(queue, callback, prefetch, priority, connection)
                self._consumers.append(consumer)
                self._server.attach(consumer, self, private=private)

    def lose(self) -> None:
        """Its connection is cut."""
        self._server.detach(self._connection)
        self._program.soon(self._lost.set)

    async def stop_consuming(self) -> None:
        """Get no more jobs."""
        self._consuming = False
        for consumer in self._consumers:
            if consumer.queue.startswith(JOBS):
                self.post("cancel", lambda consumer=consumer: self._server.cancel(consumer))  # type: ignore[misc]

    def push(self, consumer: Consumer, tag: int, letter: Letter) -> None:
        """A message is on its way to this program."""
        delivery = Delivery(self._server, self, consumer, tag, letter)
        self._network.note(self._program.name, f"gets {letter.message_id} from {consumer.queue}")

        def arrive() -> None:
            if not consumer.connection.is_closed:
                self._program.soon(self._receive, consumer, delivery)

        if self._network.is_cut(self._program.name, SERVICE):
            self._miss_heartbeats(consumer.connection)
        else:
            self._network._outside(self._network.dice.uniform(0.0005, 0.01), arrive)

    def _receive(self, consumer: Consumer, delivery: Delivery) -> None:
        if consumer.connection.is_closed:
            return
        if id(consumer) not in self._queues:
            self._queues[id(consumer)] = asyncio.Queue()
            asyncio.get_running_loop().create_task(self._read(consumer, self._queues[id(consumer)]))
        self._queues[id(consumer)].put_nowait(delivery)

    async def _read(self, consumer: Consumer, queue: "asyncio.Queue[Delivery]") -> None:
        while True:
            await consumer.callback(await queue.get())

    def post(self, what: str, act: Callable[[], None]) -> None:
        """Send something that is not answered; it is lost with the connection."""
        connection = self._connection

        def arrive() -> None:
            if not connection.is_closed:
                self._network.note(self._program.name, what)
                act()

        if self._network.is_cut(self._program.name, SERVICE):
            self._miss_heartbeats(connection)
        else:
            self._network._outside(self._network.dice.uniform(0.0005, 0.01), arrive)

    def _miss_heartbeats(self, connection: Connection) -> None:
        """Nothing gets lost on a connection that goes on: what was sent during a cut ends it."""

        def give_up() -> None:
            if connection is self._connection:
                self.lose()

        self._network._outside(HEARTBEAT_SECONDS, give_up)

    async def publish(
        self, exchange: str, routing_key: str, body: bytes, *, message_id: str, headers: Mapping[str, Any] | None = None
    ) -> None:
        """Raises `PublishFailed`."""
        letter = Letter(message_id, body, dict(headers or {}), "")
        what = f"publish {message_id} to {exchange or 'default'}/{routing_key}"
        waited = 0.0
        while self.blocked:
            if waited > self.timeout and not (self._patient and self._consuming):
                raise PublishFailed(f"{what}: the broker takes no messages")
            waited += LOOK_SECONDS
            await asyncio.sleep(LOOK_SECONDS)
        await self._ask(what, lambda: self._server.publish(exchange, routing_key, letter))

    async def declare(self, _declaration: Any) -> None:
        """All queues are there."""
        await self._ask("declare", lambda: None)

    async def ask(self, work: Callable[[Any], Awaitable[Any]]) -> Any:
        """Raises `PublishFailed`."""
        await self._ask("open channel", lambda: None)
        channel = _Channel(self._server)
        return await work(channel)

    async def _ask(self, what: str, act: Callable[[], None]) -> None:
        if self.problem:
            await asyncio.sleep(0.05)
            raise PublishFailed(f"{what}: {self.problem}")
        try:
            await self._network.ask(self._program, SERVICE, what, act, self.timeout)
        except (NoAnswer, Refused) as error:
            raise PublishFailed(str(error)) from error


class _Channel:
    """What the operator does on a channel of its own: it counts, and reads the dead letters."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def set_qos(self, **_: Any) -> None:
        """As aio-pika's."""

    async def declare_queue(self, name: str, **_: Any) -> Any:
        """As aio-pika's, passive."""
        if name.startswith(JOBS) and name not in self._server.queues:
            raise ChannelNotFoundEntity(name)
        ready, consumers = self._server.counts(name)
        letters = list(self._server.queues[name])

        async def consume(callback: Callable[[Any], Awaitable[None]]) -> None:
            for letter in letters:
                await callback(SimpleNamespace(headers=letter.headers, message_id=letter.message_id))

        found = SimpleNamespace(message_count=ready, consumer_count=consumers)
        return SimpleNamespace(declaration_result=found, consume=consume)
