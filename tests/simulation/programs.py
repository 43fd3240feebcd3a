"""Operator, worker and dashboard's indexer, made of the production modules and simulated services."""

import asyncio
import contextlib
import random
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

from azure.core.exceptions import AzureError
from joblease.errors import TransientError
from joblease.keys import Keys
from joblease.storage import KEYS_TABLE, OPEN_TABLE
from joblease.topology import DEAD, EVENTS, jobs_queue
from joblease.trail import AuditTrail
from joblease_dashboard.read_model.indexer import Indexer
from joblease_dashboard.read_model.writer import Writer
from joblease_operator.engine import Engine
from joblease_operator.open_jobs import OpenJobs
from joblease_operator.settings import OperatorSettings
from joblease_worker.consumer import Consumer
from joblease_worker.keeper import Keeper
from joblease_worker.session import Session
from joblease_worker.settings import WorkerSettings

from simulation.broker import Server, SimulatedBroker
from simulation.cluster import ApiServer, JobRequests, Watch
from simulation.handlers import Machine, SimulatedGuardian, SimulatedPool, Witness
from simulation.loop import PROGRAM, Program, VirtualLoop
from simulation.network import Network
from simulation.onlooker import Onlooker
from simulation.storage import Account, Storage

TIMEOUT = 3.0
OFFSET = 2.0
"""Seconds that a wall clock may be wrong."""
RATES = 0.999, 1.001
WITHIN = 0.95, 1.1
"""Of clocks that are as wrong as they may be: the guardian's deadline is after 12.5 of 15 s."""
BEYOND = 0.5, 0.9
"""Of clocks that are slower than promised: runs may overlap, and nothing else may go wrong."""
LEASE_SECONDS = 15


class Services:
    """The outside of all programs."""

    def __init__(self, loop: VirtualLoop, dice: random.Random) -> None:
        self.loop, self.dice = loop, dice
        self.network = Network(loop, dice)
        self.storage = Storage(loop)
        self.broker = Server(loop, self.network)
        self.cluster = ApiServer(loop, self.network)
        self.witness = Witness(loop)
        self.onlooker = Onlooker(self.storage)
        self.storage.on_write = self.onlooker.written
        self.storage.on_answer = self.onlooker.told
        self.cluster.on_status = self.onlooker.said
        self.broker.on_ack = self.onlooker.acknowledged
        self.broker.on_loss = lambda message: self.onlooker.lost_messages.add(message.rsplit(".", 1)[0])
        self.rates = RATES

    def clock(self) -> tuple[float, float]:
        """Rate and offset of another program's clock."""
        return self.dice.uniform(*self.rates), self.dice.uniform(-OFFSET, OFFSET)


class RunningOperator:
    """One operator process."""

    def __init__(self, services: Services, name: str, priority: int) -> None:
        network = services.network
        self.program = Program(name, services.loop, *services.clock())
        settings = OperatorSettings(
            operator_resync_seconds=5, operator_republish_seconds=20, operator_sweep_seconds=30, defer_seconds=2,
            storage_timeout_seconds=TIMEOUT, operator_api_timeout_seconds=5, operator_ttl_seconds_after_finished=-1,
        )  # fmt: skip
        account = Account(services.storage, network, self.program, TIMEOUT)
        self.broker = SimulatedBroker(services.broker, network, self.program, TIMEOUT)
        requests: Any = JobRequests(services.cluster, network, self.program, 5)
        open_jobs = self.program.call(OpenJobs, account.table(OPEN_TABLE))
        keys: Any = Keys(account.table(KEYS_TABLE))  # type: ignore[arg-type]
        trail, blobs, broker = AuditTrail(account.table()), account.blobs(), self.broker  # type: ignore[arg-type]
        self.engine: Engine = self.program.call(Engine, settings, broker, trail, blobs, requests, open_jobs, keys)
        self.watch: Watch = self.program.call(Watch, services.cluster, network, self.program, self.engine.observe)
        self.broker.subscribe(f"{EVENTS}.operator", self.engine.on_event, 100, priority)
        self.program.start(self._run())

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for work in (self.watch.run(), self.broker.run(), self.engine.run()):
                tasks.create_task(work)

    def terminate(self) -> None:
        """SIGTERM."""
        _terminate(self)

    def kill(self) -> None:
        """SIGKILL."""
        self.program.kill()
        self.watch.close()
        self.broker.lose()


class RunningDashboard:
    """What a dashboard process writes: the read model."""

    def __init__(self, services: Services, name: str, priority: int) -> None:
        self.program = Program(name, services.loop, *services.clock())
        account = Account(services.storage, services.network, self.program, TIMEOUT)
        self.broker = SimulatedBroker(services.broker, services.network, self.program, TIMEOUT)
        table: Any = account.table
        broker: Any = self.broker
        indexer = self.program.call(Indexer, Writer(table, AuditTrail(table())), broker)
        self.broker.subscribe(f"{EVENTS}.index", indexer.on_event, 500, priority)
        self.program.start(self._run(indexer))

    async def _run(self, indexer: Indexer) -> None:
        async with asyncio.TaskGroup() as tasks:
            for work in (self.broker.run(), indexer.run()):
                tasks.create_task(work)

    def terminate(self) -> None:
        """SIGTERM."""
        _terminate(self)

    def kill(self) -> None:
        """SIGKILL."""
        self.program.kill()
        self.broker.lose()


def _terminate(running: "RunningOperator | RunningDashboard") -> None:
    if main := running.program.main:
        main.add_done_callback(lambda _: running.kill())
        running.program.soon(main.cancel)


class RunningWorker:
    """One worker process with its machine."""

    def __init__(self, services: Services, name: str, identity: str, concurrency: int) -> None:
        network = services.network
        self.program = Program(name, services.loop, *services.clock())
        self.machine = Machine(self.program, services.witness, services.dice)
        self.settings = WorkerSettings(
            worker_name=name, worker_identity=identity, worker_concurrency=concurrency, lease_seconds=LEASE_SECONDS,
            defer_seconds=2, storage_timeout_seconds=TIMEOUT, cancel_grace_seconds=2, drain_grace_seconds=5,
        )  # fmt: skip
        account = Account(services.storage, network, self.program, TIMEOUT)
        self.program.account, self.program.machine = account, self.machine  # type: ignore[attr-defined]
        self.broker = SimulatedBroker(services.broker, network, self.program, TIMEOUT, patient=True)
        self._stop = asyncio.Event()
        self.program.start(self._run(account, concurrency))

    async def _run(self, account: Account, concurrency: int) -> None:
        blobs: Any = account.blobs()
        keeper = Keeper(self.settings, blobs)
        await keeper.start()
        session = Session(self.settings, keeper, blobs)
        while True:  # as `once_storage_works`
            try:
                await session.open()
                break
            except (TransientError, AzureError):
                await asyncio.sleep(2)
        pool: Any = SimulatedPool(self.machine)
        trail: Any = AuditTrail(account.table())  # type: ignore[arg-type]
        broker: Any = self.broker
        consumer = Consumer(self.settings, broker, trail, keeper, session, pool)
        self.broker.subscribe(f"control.{self.program.name}", consumer.on_control, 100, private=True)
        self.broker.subscribe(jobs_queue("default"), consumer.on_job, concurrency)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.broker.run())
            await self._stop.wait()
            await self.broker.stop_consuming()
            await consumer.drain(self.settings.drain_grace_seconds)
            await session.close()
            self.kill()

    def terminate(self) -> None:
        """SIGTERM."""
        self.program.soon(self._stop.set)

    def kill(self) -> None:
        """SIGKILL: its guardian lives on."""
        self.program.kill()
        self.machine.look()
        self.broker.lose()

    def kill_machine(self) -> None:
        """All its processes at once."""
        self.kill()
        self.machine.guardian.kill()
        for pid in [*self.machine.processes]:
            self.machine.kill_tree(pid)


def _same(blobs: Any) -> Any:
    return blobs


@contextlib.contextmanager
def seams(loop: VirtualLoop) -> Iterator[None]:
    """Where production code reaches outside by itself: the keeper's thread and connections, guardian, transactions."""

    def submit(table: Any, writes: Any) -> Any:
        return table.submit(writes)

    async def declare_dead(channel: Any) -> Any:
        return await channel.declare_queue(DEAD)

    def present() -> Any:
        return PROGRAM.get()

    async def nothing() -> None:
        return None

    def connections(_settings: Any) -> Any:
        return SimpleNamespace(create_locks=nothing, close=nothing, locks=present().account.blobs)

    def guardian() -> SimulatedGuardian:
        return SimulatedGuardian(present().machine)

    with contextlib.ExitStack() as stack:
        for target, name, value in (
            ("joblease.trail", "submit", submit),
            ("joblease_dashboard.read_model.feed", "submit", submit),
            ("joblease_dashboard.read_model.index", "submit", submit),
            ("joblease_dashboard.read_model.statistics", "submit", submit),
            ("joblease_operator.open_jobs", "submit", submit),
            ("joblease.keys", "submit", submit),
            ("joblease_operator.dead", "declare_dead", declare_dead),
            ("joblease_worker.keeper", "Storage", connections),
            ("joblease_worker.keeper", "LeaseBlobs", _same),
            ("joblease_worker.keeper", "Guardian", guardian),
        ):
            stack.enter_context(mock.patch(f"{target}.{name}", value))
        thread = SimpleNamespace(is_alive=lambda: False, start=lambda: None, join=lambda: None)
        stack.enter_context(mock.patch("threading.Thread", return_value=thread))
        stack.enter_context(mock.patch("asyncio.new_event_loop", return_value=loop))
        yield
