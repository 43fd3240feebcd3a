"""What is done to programs and jobs in the middle of a request: between its effect and its answer."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

from joblease.states import State
from joblease.topology import jobs_queue

from simulation.fleet import Fleet, Running
from simulation.nemesis import Nemesis
from simulation.programs import RunningOperator, RunningWorker, Services
from simulation.workload import Workload

TRAPPED = (
    *["write uid"] * 5, "acquire session", "acquire group", "renew", "release", "delete session", "discard",
    "write JobOpen", "read uid", "publish", "status", "write JobFeed", "write JobIndex", "write JobStats", "list",
    "query",
)  # fmt: skip
"""What the words of a request begin with; a job's id is `uid-...`."""
OVERTAKEN_SECONDS = 18, 25
"""In which a worker's connection and leases end, and another one takes its jobs."""
MOST_OPERATORS = 3
"""At once: one that leads, one that believes so, and one that comes. An election keeps others from writing."""


class Ambush(Nemesis):
    """A nemesis that also lies in wait."""

    def __init__(self, services: Services, fleet: Fleet, dice: random.Random, pause: float, workload: Workload) -> None:
        super().__init__(services, fleet, dice, pause)
        self._workload = workload

    def deeds(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        """See `Nemesis`."""
        own = [
            self._cancel_in_a_write, self._cancel_unheard, self._delete_at_the_beginning, self.delete_unseen,
            self._overtake_an_operator, self._expire, *[self._overtake_a_claim, self._overtake_a_write] * 3,
            *[self._silence] * 2, *[self._strike] * 10,
        ]  # fmt: skip
        return [*super().deeds(), *own]

    async def _strike(self) -> None:
        """Stop, suspend, drain or kill whoever makes a certain request; the answer may be lost."""
        caught, _ = await self._catch(self._dice.choice(TRAPPED), lost=self._dice.random() < 0.5)
        for running in caught:
            running.program.stops -= 1
            if not running.program.alive:
                continue
            harms: list[Any] = [self._stop, self._kill]
            if isinstance(running, RunningWorker):
                harms += [self._suspend, self._drain]
            await self._dice.choice(harms)(running)

    async def _catch(self, words: str, *, lost: bool, standing: bool = True) -> tuple[list[Running], str]:
        """Wait for a request, and have its sender stand still; it, and what it asked for."""
        sprung: asyncio.Future[tuple[list[Running], str]] = self._services.loop.create_future()

        def spring(program: str, what: str) -> bool:
            caught = self._named(program)
            for running in caught:
                running.program.stops += standing
            sprung.set_result((caught, what))
            return lost

        self._network.traps.append((words, spring))
        return await sprung

    def _named(self, name: str) -> list[Running]:
        return [each for each in self._fleet.programs if each.program.name == name and each.program.alive]

    async def _kill(self, running: Running) -> None:
        self._count("killed in a request", running.program.name)
        if self._dice.random() < 0.3:
            await self._lose_queue()
        running.kill()
        await asyncio.sleep(self._dice.choice([0.1, 2, 20]))
        self._fleet.fill()

    async def _cancel_in_a_write(self) -> None:
        """A user cancels a job while its worker does not know what became of a write."""

        def spring(program: str, what: str) -> bool:
            if not program.startswith("worker"):
                return False
            self._network.faults["cancelled in a write"] += 1
            self._workload.cancel(what.split()[1])
            return True

        self._network.traps.append(("write uid", spring))

    async def _cancel_unheard(self) -> None:
        """A user cancels a job whose worker does not hear of it, and holds it all the same."""
        for worker in self._one(self._busy()):
            self._count("cancelled unheard", worker.program.name)
            pair = worker.program.name, "broker"
            self._network.cut.add(pair)
            for _, lease in [*worker.machine.guarded]:
                if lease.startswith("job/"):
                    self._workload.cancel(lease.removeprefix("job/"))
            await asyncio.sleep(self._dice.choice([12, 30]))
            self._network.cut.discard(pair)

    async def delete_unseen(self) -> None:
        """Somebody deletes a job while no watch is up: one that runs, and of which nothing more is heard."""
        for job in self._one([each for each in self._workload.endless if self._services.cluster.runs(each.name)]):
            self._count("deleted unseen", "fleet")
            await self._lose_watch()
            self._workload.delete(job.job_id)

    async def _expire(self) -> None:
        """A policy of the broker's administrators parks the messages of jobs that nobody has begun yet."""
        for message_id in self._services.broker.expire(jobs_queue("default")):
            self._count("message expired", "broker")
            self._workload.allow(message_id.rsplit(".", 1)[0], State.FAILED)

    async def _overtake_a_claim(self) -> None:
        """A worker stands still when it has a job's slot, until another one has the job."""
        caught, _ = await self._catch("acquire group", lost=False)
        await self._be_overtaken(caught)

    async def _overtake_a_write(self) -> None:
        """The same when it has learnt that a write was refused: it was its own, whose answer was lost."""
        _, what = await self._catch(r"write \S+ Step", lost=True, standing=False)
        caught, _ = await self._catch(f"refused write {what.split()[1]} Step", lost=False)
        await self._be_overtaken(caught)

    async def _silence(self) -> None:
        """An operator has published a job and can tell nobody; the job is cancelled meanwhile."""
        caught, what = await self._catch("publish uid.* to joblease.jobs", lost=False, standing=False)
        for operator in caught:
            self._count("silenced", operator.program.name)
            pair = operator.program.name, "broker"
            self._network.cut.add(pair)
            operator.broker.lose()
            await asyncio.sleep(self._dice.uniform(1, 10))
            self._workload.cancel(what.split()[1].rsplit(".", 1)[0])
            await asyncio.sleep(self._dice.choice([12, 30]))
            self._network.cut.discard(pair)

    async def _be_overtaken(self, caught: list[Running]) -> None:
        for running in caught:
            running.program.stops -= 1
            self._count("overtaken", running.program.name)
            await self._stop(running, self._dice.choice(OVERTAKEN_SECONDS))

    async def _delete_at_the_beginning(self) -> None:
        """An operator stands still as it begins a job, which is deleted meanwhile; another one looks after all.

        The first one goes on, and is killed when it has written something about the job.
        """
        caught, what = await self._catch("write JobOpen replace", lost=False)
        job = what.split()[3]
        self._count("job deleted at its beginning", " ".join(each.program.name for each in caught))
        self._workload.delete(job)
        if len(self._fleet.operators) < MOST_OPERATORS:
            self._fleet.add_operator()
        await asyncio.sleep(self._dice.choice([5, 25]))
        self._network.traps.append((f"write {job}", lambda name, _what: self._kill_operator_named(name)))
        for running in caught:
            running.program.stops -= 1

    async def _overtake_an_operator(self) -> None:
        """An operator stands still as it admits a job, until another one has admitted a job of the same group."""
        caught, what = await self._catch("write JobOpen replace", lost=False)
        self._count("operator overtaken", " ".join(each.program.name for each in caught))
        self._workload.submit_rival(what.split()[3])
        if len(self._fleet.operators) < MOST_OPERATORS:
            self._fleet.add_operator()
        await asyncio.sleep(self._dice.choice([5, 25]))
        for running in caught:
            running.program.stops -= 1

    def _kill_operator_named(self, name: str) -> bool:
        for running in self._named(name):
            if isinstance(running, RunningOperator):
                self._count("killed in a request", name)
                running.kill()
        return False
