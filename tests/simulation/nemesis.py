"""What is done to the programs: killed, stopped, replaced, cut off."""

import asyncio
import random

from simulation.loop import Program
from simulation.programs import RunningOperator, RunningWorker, Services

SERVICES = ("storage", "broker", "kubernetes")


class Fleet:
    """The programs of an installation, and who replaces the dead."""

    def __init__(self, services: Services, workers: int) -> None:
        self._services = services
        self._started = 0
        self.operators: list[RunningOperator] = []
        self.workers: list[RunningWorker] = []
        self.wanted = workers
        self.add_operator()
        for _ in range(workers):
            self.add_worker()

    @property
    def programs(self) -> list[RunningOperator | RunningWorker]:
        """All of them."""
        return [*self.workers, *self.operators]

    def add_operator(self) -> None:
        """A new pod."""
        self._started += 1
        self.operators.append(RunningOperator(self._services, f"operator-{self._started}", self._started))

    def add_worker(self, name: str = "") -> None:
        """A new pod, or a container that starts again under its old name."""
        self._started += 1
        concurrency = self._services.dice.choice([1, 1, 2])
        self.workers.append(RunningWorker(self._services, name or f"worker-{self._started}", concurrency))

    def bury(self) -> None:
        """Forget those that have ended by themselves."""
        self.workers = [each for each in self.workers if each.program.alive]
        self._services.loop.forget_the_dead()

    async def whole(self) -> None:
        """Have everything run again."""
        self._services.network.cut.clear()
        for program in self._services.loop.programs:
            program.stopped = False
        self.bury()
        self.operators = [each for each in self.operators if each.program.alive]
        for operator in self.operators[:-1]:
            operator.kill()
        self.operators = self.operators[-1:]
        if not self.operators:
            self.add_operator()
        while len(self.workers) < self.wanted:
            self.add_worker()


class Nemesis:
    """Use `run` as a task."""

    def __init__(self, services: Services, fleet: Fleet, dice: random.Random, pause: float) -> None:
        """`pause`: mean seconds between two deeds."""
        self._services, self._fleet, self._dice, self._pause = services, fleet, dice, pause
        self._network = services.network

    async def run(self) -> None:
        """Do harm until cancelled."""
        deeds = [
            self._kill_worker, self._kill_worker, self._stop_worker, self._stop_worker, self._drain_worker,
            self._kill_machine, self._kill_operator, self._stop_operator, self._second_operator, self._cut, self._cut,
            self._cut_connection, self._cut_connection, self._restart_broker, self._lose_watch, self._stop_guardian,
        ]  # fmt: skip
        async with asyncio.TaskGroup() as tasks:
            while True:
                await asyncio.sleep(self._dice.expovariate(1 / self._pause))
                self._fleet.bury()
                tasks.create_task(self._dice.choice(deeds)())

    def _count(self, fault: str, whom: str) -> None:
        self._network.faults[fault] += 1
        self._network.note(whom, fault.upper())

    async def _kill_worker(self) -> None:
        if not self._fleet.workers:
            return
        worker = self._dice.choice(self._fleet.workers)
        self._count("worker killed", worker.program.name)
        worker.kill()
        await self._replace(worker)

    async def _kill_machine(self) -> None:
        if not self._fleet.workers:
            return
        worker = self._dice.choice(self._fleet.workers)
        self._count("machine lost", worker.program.name)
        worker.kill_machine()
        await self._replace(worker)

    async def _drain_worker(self) -> None:
        if not self._fleet.workers:
            return
        worker = self._dice.choice(self._fleet.workers)
        self._count("worker drained", worker.program.name)
        worker.terminate()
        await asyncio.sleep(self._dice.uniform(1, 30))
        if worker.program.alive:
            worker.kill()
        await self._replace(worker)

    async def _replace(self, worker: RunningWorker) -> None:
        await asyncio.sleep(self._dice.choice([0.1, 1, 5, 20]))
        self._fleet.bury()
        if len(self._fleet.workers) < self._fleet.wanted:
            self._fleet.add_worker(self._dice.choice(["", worker.program.name]))

    async def _stop_worker(self) -> None:
        if self._fleet.workers:
            await self._stop(self._dice.choice(self._fleet.workers).program)

    async def _stop_operator(self) -> None:
        if self._fleet.operators:
            await self._stop(self._dice.choice(self._fleet.operators).program)

    async def _stop_guardian(self) -> None:
        """For less than the margin between the keeper's deadline and the lease's end."""
        if self._fleet.workers:
            program = self._dice.choice(self._fleet.workers).machine.guardian
            self._count("guardian stopped", program.name)
            program.stopped = True
            await asyncio.sleep(self._dice.uniform(0.1, 1.5))
            program.stopped = False

    async def _stop(self, program: Program) -> None:
        self._count("program stopped", program.name)
        program.stopped = True
        await asyncio.sleep(self._dice.choice([0.3, 3, 12, 25, 60]))
        program.stopped = False
        self._network.note(program.name, "CONTINUED")

    async def _kill_operator(self) -> None:
        operator = self._fleet.operators[-1]
        if not operator.program.alive:
            return
        self._count("operator killed", operator.program.name)
        operator.kill()
        await asyncio.sleep(self._dice.choice([0.1, 2, 10]))
        if operator in self._fleet.operators:
            self._fleet.operators.remove(operator)
        if not self._fleet.operators:
            self._fleet.add_operator()

    async def _second_operator(self) -> None:
        if len(self._fleet.operators) > 1:
            return
        first = self._fleet.operators[0] if self._fleet.operators else None
        self._count("second operator", "fleet")
        self._fleet.add_operator()
        await asyncio.sleep(self._dice.choice([0.5, 5, 30]))
        if first and len(self._fleet.operators) > 1 and first in self._fleet.operators:
            first.kill()
            self._fleet.operators.remove(first)

    async def _cut(self) -> None:
        programs = self._fleet.programs
        if not programs:
            return
        pair = self._dice.choice(programs).program.name, self._dice.choice(SERVICES)
        self._count("partition", " and ".join(pair))
        self._network.cut.add(pair)
        await asyncio.sleep(self._dice.choice([0.5, 4, 12, 30]))
        self._network.cut.discard(pair)

    async def _cut_connection(self) -> None:
        programs = self._fleet.programs
        if programs:
            program = self._dice.choice(programs)
            self._count("connection cut", program.program.name)
            program.broker.lose()

    async def _restart_broker(self) -> None:
        self._count("broker restarted", "broker")
        for program in self._fleet.programs:
            program.broker.lose()

    async def _lose_watch(self) -> None:
        for operator in self._fleet.operators:
            self._count("watch lost", operator.program.name)
            operator.watch.lose()
