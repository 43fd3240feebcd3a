"""Handler processes and the guardian, without processes: what they do is noted on the one true clock.

A handler lives as long as its program does, whatever its worker does; the guardian kills it when a deadline has passed,
and when its worker is dead.
"""

import asyncio
import contextlib
import itertools
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any

from faults.history import Activity
from joblease.clock import boot_seconds
from joblease.messages import HandlerDescription
from joblease.policy import HandlerPolicy
from joblease.states import State
from joblease_worker.ending import DIED, RAISED, STOPPED, UNSTARTED, Ending

from simulation.loop import EPOCH, Program, VirtualLoop

OnStep = Callable[[Mapping[str, Any]], Awaitable[None]]
LOOK_SECONDS = 0.05
WAKING_SECONDS = 1.2
"""In which a machine that was suspended kills what has lost its lease meanwhile (docs/guarantee.md)."""
FIRST_PID = 1 << 30
"""No process of this machine has such an id."""


class Witness:
    """The handlers' own notes."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.notes: list[Activity] = []
        self.slept: list[tuple[frozenset[int], float, float]] = []
        """Handlers whose machine was suspended, since when, and until when they are forgiven that they went on."""
        self.pids = itertools.count(FIRST_PID)

    def note(self, job: Mapping[str, Any], run: str, kind: str, token: str = "") -> None:
        """A handler lived, and did this."""
        at = self.loop.real
        self.notes.append(
            Activity(job["id"], run, job["epoch"], kind, at, EPOCH + at - 1e-5, token)
        )  # before the row of the same moment


class Machine:
    """What a worker process shares with its guardian and its handler processes: a clock, and a set of processes."""

    def __init__(self, worker: Program, witness: Witness, dice: random.Random) -> None:
        self.worker, self.witness, self.dice = worker, witness, dice
        self.loop = witness.loop
        self.guardian = Program(f"guardian of {worker.name}", self.loop, worker.rate, worker.offset)
        self.processes: dict[int, SimulatedProcess] = {}
        self.guarded: dict[tuple[int, str], float] = {}
        self.awake = 0.0
        """Since when keeper and guardian have had the time to kill what had lost its lease in a sleep."""
        self._news = asyncio.Event()
        self.guardian.start(self._guard())

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """All its processes stand still meanwhile, whoever else has stopped one; its clock goes on.

        What was held may have another holder then: until `awake`, handlers are forgiven that they go on.
        """
        since, self.awake = self.loop.real, math.inf
        with contextlib.ExitStack() as stack:
            for program in (self.worker, self.guardian, *(each.child for each in self.processes.values())):
                stack.enter_context(program.standing())
            try:
                yield
            finally:
                self.awake = self.loop.real + WAKING_SECONDS
                self.witness.slept.append((frozenset(self.processes), since, self.awake))

    def kill_tree(self, pid: int) -> None:
        """As `guardian_process.end_tree`."""
        if process := self.processes.pop(pid, None):
            process.end()

    async def _guard(self) -> None:
        while True:
            self._news.clear()
            first = min(self.guarded.values(), default=math.inf)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(first if first < math.inf else None):
                    await self._news.wait()
            await asyncio.sleep(self.dice.uniform(0, LOOK_SECONDS))
            due = {pid for (pid, _), deadline in self.guarded.items() if deadline <= boot_seconds()}
            for pid in [*self.processes] if not self.worker.alive else due:
                self.kill_tree(pid)
                self.guarded = {key: value for key, value in self.guarded.items() if key[0] != pid}
            if not self.worker.alive and not self.processes:
                self.guardian.kill()
                return

    def look(self) -> None:
        """The guardian has something new to look at: a deadline, or its worker is dead."""
        self.guardian.soon(self._news.set)


class SimulatedGuardian:
    """As `joblease_worker.guardian.Guardian`."""

    alive = True

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def start(self) -> None:
        """It runs already."""

    def expect(self, pid: int, lease: str, deadline: float) -> None:
        """See `Guardian`."""
        self._machine.guarded[pid, lease] = deadline
        self._machine.look()

    def forget(self, pid: int, lease: str) -> None:
        """See `Guardian`."""
        self._machine.guarded.pop((pid, lease), None)


class SimulatedProcess:
    """As `joblease_worker.process.HandlerProcess`."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.pid = next(machine.witness.pids)
        self.child = Program(f"handler {self.pid}", machine.loop, machine.worker.rate, machine.worker.offset)
        self._killed = ""
        self._asked = False
        self._running: asyncio.Future[Ending] | None = None
        machine.processes[self.pid] = self

    @property
    def alive(self) -> bool:
        """See `HandlerProcess`."""
        return self.child.alive

    def end(self) -> None:
        """Its process is dead; its worker notices."""
        self.child.kill()
        if self._running:
            self._machine.worker.soon(_set, self._running, Ending(DIED, error=self._killed or "killed"))

    def kill(self, why: str) -> None:
        """See `HandlerProcess`."""
        self._killed = self._killed or why
        self._machine.kill_tree(self.pid)

    def ask_to_stop(self, _job_id: str) -> None:
        """See `HandlerProcess`."""
        self._asked = True

    def stood(self) -> str:
        """See `HandlerProcess`."""
        return ""

    async def close(self) -> None:
        """See `HandlerProcess`."""
        self.kill("closed")

    async def run(self, job: Mapping[str, Any], deadline: float, on_step: OnStep, _log_fields: Any) -> Ending:
        """See `HandlerProcess`."""
        loop, worker = self._machine.loop, self._machine.worker
        self._asked = False
        ending: asyncio.Future[Ending] = loop.create_future()
        self._running = ending
        steps: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        say: Callable[..., None] = worker.soon
        self.child.start(
            self._handle(job, deadline, lambda step: say(steps.put_nowait, step), lambda end: say(_set, ending, end))
        )
        reading = asyncio.ensure_future(_pass_on(steps, on_step))
        try:
            ended = await ending
            while not steps.empty() or reading_is_busy(reading):
                await asyncio.sleep(0.001)
        except BaseException:
            self.kill("the run was given up")
            raise
        finally:
            self._running = None
            reading.cancel()
        return ended

    async def _handle(
        self,
        job: Mapping[str, Any],
        deadline: float,
        step: Callable[[Mapping[str, Any]], None],
        end: Callable[[Ending], None],
    ) -> None:
        await asyncio.sleep(self._machine.dice.uniform(0.0005, 0.005))
        if boot_seconds() > deadline:
            end(Ending(UNSTARTED))
            return
        parameters, note = job["parameters"], self._machine.witness.note
        run = f"{self.pid}.{self._machine.dice.getrandbits(40):x}"
        last = job["last_checkpoint"]
        note(job, run, "start", f"{last['epoch']}.{last['number']}" if last else "")
        for number in range(1, parameters["steps"] + 1):
            until = math.inf if parameters.get("hangs") else boot_seconds() + parameters["seconds"]
            while boot_seconds() < until:
                await asyncio.sleep(min(0.2, parameters["seconds"]))
                note(job, run, "alive")
                if self._asked and not parameters.get("deaf"):
                    note(job, run, "stopped")
                    end(Ending(STOPPED))
                    return
            if parameters.get("dies") == number and job["attempt"] <= parameters["failures"]:
                self._machine.kill_tree(self.pid)
                return
            note(job, run, "step", f"{run}.{number}")
            step({"checkpoint": {"epoch": job["epoch"], "number": number}})
            step(
                {
                    "step": number,
                    "message": "x" * parameters.get("bytes", 0),
                    "progress": number / parameters["steps"],
                    "data": {"token": f"{run}.{number}"},
                }
            )
        if job["attempt"] <= parameters["failures"]:
            note(job, run, "stopped")
            end(Ending(State.FAILED if parameters.get("permanent") else RAISED, error="as asked"))
            return
        note(job, run, "end")
        end(Ending(State.COMPLETED, result={"run": run}))


def reading_is_busy(reading: "asyncio.Future[None]") -> bool:
    """Whether a step is being passed on."""
    return bool(getattr(reading, "busy", False))


async def _pass_on(steps: "asyncio.Queue[Mapping[str, Any]]", on_step: OnStep) -> None:
    task: Any = asyncio.current_task()
    while True:
        step = await steps.get()
        task.busy = True
        await on_step(step)
        task.busy = False


def _set(future: "asyncio.Future[Ending]", ending: Ending) -> None:
    if not future.done():
        future.set_result(ending)


class SimulatedPool:
    """As `joblease_worker.pool.ProcessPool`."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._idle: list[SimulatedProcess] = []
        policed = HandlerDescription(name="policed", policy=HandlerPolicy(group="{team}", limit=1))
        self.handlers = {"witness": HandlerDescription(name="witness"), "policed": policed}

    @contextlib.asynccontextmanager
    async def process(self) -> AsyncIterator[SimulatedProcess]:
        """See `ProcessPool`."""
        process = self._idle.pop() if self._idle else None
        if process is None or not process.alive:
            await asyncio.sleep(self._machine.dice.uniform(0.05, 0.3))
            process = SimulatedProcess(self._machine)
        try:
            yield process
        finally:
            if process.alive:
                self._idle.append(process)
