"""What is done to the programs: killed, stopped, suspended, replaced, scaled, cut off."""

import asyncio
import math
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from joblease.topology import jobs_queue

from simulation.broker import HEARTBEAT_SECONDS
from simulation.fleet import Fleet, Running
from simulation.programs import RunningDashboard, RunningOperator, RunningWorker, Services

T = TypeVar("T")
SERVICES = ("storage", "broker", "kubernetes")
ENDING_SECONDS = 10
"""In which an operator or a dashboard that runs ends."""


class Nemesis:
    """Use `run` as a task."""

    def __init__(self, services: Services, fleet: Fleet, dice: random.Random, pause: float) -> None:
        """`pause`: mean seconds between two deeds."""
        self.complaints: list[str] = []
        """What no history tells."""
        self._services, self._fleet, self._dice, self._pause = services, fleet, dice, pause
        self._network = services.network

    def deeds(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        """What it chooses from."""
        return [
            self._kill_worker, self._kill_worker, self._stop_worker, self._stop_worker, self._drain_worker,
            self._kill_machine, self._restart_container, self._restart_container, self._break_slot,
            self._suspend_machine, self._stop_guardian, self._kill_operator, self._stop_operator,
            self._second_operator, self._cut, self._cut, self._cut_connection, self._cut_connection,
            self._restart_broker, self._raise_alarm, self._replay, self._lose_queue, self._lose_watch,
            self._kill_dashboard, self._second_dashboard, self._upgrade, self._scale_to_zero, self._jump,
            self._isolate, self._isolate,
        ]  # fmt: skip

    async def run(self) -> None:
        """Do harm until cancelled."""
        deeds = self.deeds()
        async with asyncio.TaskGroup() as tasks:
            while True:
                await asyncio.sleep(self._dice.expovariate(1 / self._pause))
                self._fleet.bury()
                deed = self._dice.choice(deeds)
                if self._network.strikes(1):
                    tasks.create_task(deed())

    def _count(self, fault: str, whom: str) -> None:
        self._network.faults[fault] += 1
        self._network.note(whom, fault.upper())

    def _one(self, programs: Sequence[T]) -> list[T]:
        """One of them, if there is any."""
        return [self._dice.choice(programs)] if programs else []

    # Workers

    def _busy(self) -> list[RunningWorker]:
        """Workers whose handlers run, or all."""
        return [each for each in self._fleet.workers if each.machine.guarded] or self._fleet.workers

    async def _kill_worker(self) -> None:
        for worker in self._one(self._fleet.workers):
            self._count("worker killed", worker.program.name)
            worker.kill()
            await self._replace(worker)

    async def _kill_machine(self) -> None:
        for worker in self._one(self._fleet.workers):
            self._count("machine lost", worker.program.name)
            worker.kill_machine()
            await self._replace(worker)

    async def _restart_container(self) -> None:
        """All its processes die, and it starts again in its pod."""
        for worker in self._one(self._busy()):
            self._count("container restarted", worker.program.name)
            worker.kill_machine()
            await asyncio.sleep(self._dice.choice([0.1, 1, 5]))
            self._fleet.bury()
            self._fleet.add_worker(worker.program.name, worker.settings.worker_identity)

    async def _break_slot(self) -> None:
        """An administrator breaks a slot's lease, which is free for others when its time is over."""
        for name in self._one([name for name, _, leased in self._services.storage.listing("group/") if leased]):
            self._count("slot broken", name)
            self._services.storage.break_lease(name)

    async def _drain_worker(self) -> None:
        for worker in self._one(self._fleet.workers):
            await self._drain(worker)

    async def _drain(self, worker: RunningWorker) -> None:
        self._count("worker drained", worker.program.name)
        await self._terminate(worker)
        await self._replace(worker)

    async def _terminate(self, worker: RunningWorker) -> None:
        worker.terminate()
        await asyncio.sleep(self._dice.uniform(1, 30))
        if worker.program.alive:
            worker.kill()

    async def _replace(self, worker: RunningWorker) -> None:
        await asyncio.sleep(self._dice.choice([0.1, 1, 5, 20]))
        self._fleet.bury()
        if len(self._fleet.workers) < self._fleet.wanted:
            self._fleet.add_worker(self._dice.choice(["", worker.program.name]))

    async def _stop_worker(self) -> None:
        for worker in self._one(self._busy()):
            await self._stop(worker)

    async def _stop_guardian(self) -> None:
        """For less than the margin between the keeper's deadline and the lease's end, and not after a suspension."""
        awake = [each.machine for each in self._fleet.workers if each.machine.awake < self._services.loop.real]
        for machine in self._one([each for each in awake if not each.guardian.stops]):
            self._count("guardian stopped", machine.guardian.name)
            with machine.guardian.standing():
                await asyncio.sleep(self._dice.uniform(0.1, 1.5))

    async def _suspend_machine(self) -> None:
        for worker in self._one(self._fleet.workers):
            await self._suspend(worker)

    async def _suspend(self, worker: RunningWorker) -> None:
        if worker.machine.awake < math.inf:
            self._count("machine suspended", worker.program.name)
            with worker.machine.suspended():
                await self._miss_heartbeats(worker, self._dice.choice([2, 10, 20, 40]))
            self._network.note(worker.program.name, "WOKEN")

    async def _scale_to_zero(self) -> None:
        wanted = self._fleet.wanted
        if not wanted:
            return
        self._count("scaled to zero", "fleet")
        self._fleet.wanted = 0
        async with asyncio.TaskGroup() as tasks:
            for worker in self._fleet.workers:
                tasks.create_task(self._terminate(worker))
        await asyncio.sleep(self._dice.choice([1, 10, 40]))
        self._fleet.wanted = wanted
        self._fleet.fill()

    async def _upgrade(self) -> None:
        """All programs are replaced one after the other, the new one first."""
        self._count("upgrade", "fleet")
        for worker in [*self._fleet.workers]:
            if self._fleet.wanted:
                self._fleet.add_worker()
            await self._terminate(worker)
        for operator in [*self._fleet.operators]:
            self._fleet.add_operator()
            await self._end(operator)
        for dashboard in [*self._fleet.dashboards]:
            self._fleet.add_dashboard()
            await asyncio.sleep(self._dice.uniform(0, 5))
            await self._end(dashboard)

    # Any program

    async def _stop(self, running: Running, seconds: float = 0) -> None:
        program = running.program
        self._count("program stopped", program.name)
        with program.standing():
            await self._miss_heartbeats(running, seconds or self._dice.choice([0.3, 3, 12, 25, 60]))
        self._network.note(program.name, "CONTINUED")

    async def _miss_heartbeats(self, running: Running, seconds: float) -> None:
        """Let it stand still; the broker gives its connection up after a while."""
        await asyncio.sleep(min(seconds, HEARTBEAT_SECONDS))
        if seconds > HEARTBEAT_SECONDS:
            running.broker.lose()
            await asyncio.sleep(seconds - HEARTBEAT_SECONDS)

    async def _jump(self) -> None:
        """A wall clock is put right, or wrong."""
        for running in self._one(self._fleet.programs):
            self._count("clock jumped", running.program.name)
            running.program.offset = self._services.clock()[1]

    async def _cut(self) -> None:
        for running in self._one(self._fleet.programs):
            pair = running.program.name, self._dice.choice(SERVICES)
            self._count("partition", " and ".join(pair))
            self._network.cut.add(pair)
            await asyncio.sleep(self._dice.choice([0.5, 4, 12, 30]))
            self._network.cut.discard(pair)

    async def _isolate(self) -> None:
        """Its node has lost the network."""
        for running in self._one(self._fleet.programs):
            self._count("isolated", running.program.name)
            pairs = {(running.program.name, service) for service in SERVICES}
            self._network.cut |= pairs
            await self._miss_heartbeats(running, self._dice.choice([4, 12, 25, 40]))
            self._network.cut -= pairs

    async def _cut_connection(self) -> None:
        for running in self._one(self._fleet.programs):
            self._count("connection cut", running.program.name)
            running.broker.lose()

    # Operators, dashboards, services

    async def _stop_operator(self) -> None:
        for operator in self._one(self._fleet.operators):
            await self._stop(operator)

    async def _kill_operator(self) -> None:
        for operator in self._one(self._fleet.operators):
            self._count("operator killed", operator.program.name)
            operator.kill()
            await asyncio.sleep(self._dice.choice([0.1, 2, 10]))
            self._fleet.bury()
            if not self._fleet.operators:
                self._fleet.add_operator()

    async def _second_operator(self) -> None:
        first = self._fleet.operators[-1:]
        if len(self._fleet.operators) > 1:
            return
        self._count("second operator", "fleet")
        self._fleet.add_operator()
        await asyncio.sleep(self._dice.choice([0.5, 5, 30]))
        for operator in first:
            operator.kill()

    async def _end(self, running: RunningOperator | RunningDashboard) -> None:
        """Ask it to end, perhaps while the broker is away: it does so at once."""
        if self._dice.random() < 0.5:
            self._network.cut.add((running.program.name, "broker"))
            running.broker.lose()
            await asyncio.sleep(self._dice.uniform(0.5, 5))
        running.terminate()
        seconds = 0
        while running.program.alive and seconds < ENDING_SECONDS:
            await asyncio.sleep(1)
            seconds += not running.program.stops
        if running.program.alive:
            self.complaints.append(f"{running.program.name} was asked to end, and goes on")

    async def _kill_dashboard(self) -> None:
        for dashboard in self._one(self._fleet.dashboards):
            self._count("dashboard killed", dashboard.program.name)
            dashboard.kill()
            await asyncio.sleep(self._dice.choice([0.1, 5]))
            self._fleet.bury()
            if not self._fleet.dashboards:
                self._fleet.add_dashboard()

    async def _second_dashboard(self) -> None:
        if len(self._fleet.dashboards) < 3:
            self._count("another dashboard", "fleet")
            self._fleet.add_dashboard()

    async def _restart_broker(self) -> None:
        self._count("broker restarted", "broker")
        for running in self._fleet.programs:
            running.broker.lose()

    async def _raise_alarm(self) -> None:
        """It is short of memory or disk for a while: those who publish are not read."""
        if not self._services.broker.alarm:
            self._count("broker alarm", "broker")
            self._services.broker.alarm = True
            await asyncio.sleep(self._dice.choice([2, 20, 60]))
            self._services.broker.alarm = False

    async def _replay(self) -> None:
        """Somebody sends the dead letters back, also of jobs that have ended since they looked."""
        if self._services.broker.replay():
            self._count("dead letters replayed", "broker")

    async def _lose_queue(self) -> None:
        if self._services.broker.lose(jobs_queue("default")):
            self._count("queue lost", "broker")

    async def _lose_watch(self) -> None:
        for operator in self._fleet.operators:
            self._count("watch lost", operator.program.name)
            operator.watch.lose()
