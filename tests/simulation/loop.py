"""An event loop on virtual time, for several programs at once, whose order of events is drawn from a seed.

Nothing here waits: when no program has anything to do, time jumps to the next timer. Within one program, callbacks run
in asyncio's order, since production code may rely on that; which program is next is drawn. A program has a clock of its
own, which may go wrong; it can be stopped (SIGSTOP), and it can be killed between any two of its steps.
"""

import asyncio
import contextlib
import gc
import heapq
import itertools
import math
import random
import sys
import warnings
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context, ContextVar, copy_context
from typing import Any
from unittest import mock

PROGRAM: ContextVar["Program | None"] = ContextVar("program", default=None)
"""Whose code is running; None is the outside: services, handlers' witnesses, the nemesis."""
EPOCH = 1_800_000_000.0
"""Unix time at the beginning."""


class Stuck(Exception):
    """Nothing is left to happen, and somebody still waits."""


class Program:
    """A process of the system: its clock, and whether it lives."""

    def __init__(self, name: str, loop: "VirtualLoop", rate: float = 1.0, offset: float = 0.0) -> None:
        """`rate`: seconds that its clock counts in a real one; `offset`: seconds that its wall clock is ahead."""
        self.name = name
        self.rate = rate
        self.offset = offset
        self.alive = True
        self.stops = 0
        """Why it stands still: it was stopped, its machine is suspended. It goes on when no reason is left."""
        self.ready: deque[asyncio.Handle] = deque()
        self.main: asyncio.Task[None] | None = None
        self._loop = loop
        loop.programs.append(self)

    @property
    def real(self) -> float:
        """The true time, which no program knows."""
        return self._loop.real

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run its main coroutine."""
        self.main = self.call(lambda: self._loop.create_task(work, name=self.name))
        return self.main

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call something as this program, now."""
        context = copy_context()
        context.run(PROGRAM.set, self)
        return context.run(function, *arguments)

    def soon(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Have something called as this program, in its next turn; never, once it is dead."""
        self.call(self._loop.call_soon, function, *arguments)

    @contextlib.contextmanager
    def standing(self) -> Iterator[None]:
        """It stands still meanwhile."""
        self.stops += 1
        try:
            yield
        finally:
            self.stops -= 1

    def kill(self) -> None:
        """End it at once: no `finally` of its runs."""
        self.alive = False
        self._loop.buried += self.ready
        self.ready.clear()


class _Timer(asyncio.TimerHandle):
    """When it is due by the clock of its program, and when that really is, are two things."""

    def __init__(self, when: float, real: float, *arguments: Any) -> None:
        super().__init__(when, *arguments)
        self.real = real


class _Task(asyncio.Task[Any]):
    """Sets of tasks are walked in the order of their hashes; by address, no run could be repeated."""

    _numbers = itertools.count()
    _number: int

    def __hash__(self) -> int:
        try:
            return self._number
        except AttributeError:
            self._number = next(self._numbers)
            return self._number


class VirtualLoop(asyncio.BaseEventLoop):
    """Use with `asyncio.Runner(loop_factory=...)`."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__()
        self.dice = dice
        self.real = 0.0
        """Seconds since the beginning, by the one true clock: that of storage."""
        self.turns = 0
        self.most_turns = 1_000_000
        self.programs: list[Program] = []
        self.buried: list[object] = []
        """Tasks and calls of the dead: collected, they would run their `finally`, or say that they never began."""
        self._outside = Program("outside", self)
        self._timers: list[tuple[float, int, _Timer]] = []
        self._serial = itertools.count()
        _Task._numbers = itertools.count()
        self.set_task_factory(self._make_task)

    def _make_task(self, loop: asyncio.AbstractEventLoop, work: Any, context: Context | None = None) -> _Task:
        task = _Task(work, loop=loop, context=context)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        if PROGRAM.get():
            self.buried.append(task)
        return task

    def time(self) -> float:
        """Seconds by the clock of the program that asks."""
        program = PROGRAM.get()
        return self.real * program.rate if program else self.real

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As asyncio's."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As asyncio's: `when` is by the clock of the program that asks."""
        context = context or copy_context()
        program = context.get(PROGRAM)
        real = when / program.rate if program else when
        while program and real * program.rate < when:  # rounded: it would fire too early, for ever
            real = math.nextafter(real, math.inf)
        timer = _Timer(when, real, callback, args, self, context)
        heapq.heappush(self._timers, (real, next(self._serial), timer))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It stays in the heap until its time."""

    def _write_to_self(self) -> None:
        """There is one thread."""

    def _run_once(self) -> None:
        self.turns += 1
        if self.turns > self.most_turns:
            busy = [f"{each.name}: {each.ready[0]}" for each in self.programs if each.ready]
            raise Stuck(f"{self.turns} turns, at {self.real:.3f} s: somebody turns in circles: {busy}")
        self._hand_out()
        runnable = [each for each in self.programs if each.ready and not each.stops]
        if not runnable:
            self._advance()
            return
        program = runnable[0] if len(runnable) == 1 else self.dice.choice(runnable)
        for _ in range(len(program.ready)):
            if not program.alive or program.stops or not program.ready:
                break
            handle = program.ready.popleft()
            if not handle._cancelled:
                handle._run()

    def _hand_out(self) -> None:
        ready = self._ready  # type: ignore[attr-defined]
        while ready:
            handle = ready.popleft()
            program = handle._context.get(PROGRAM) or self._outside
            (program.ready if program.alive else self.buried).append(handle)

    def _advance(self) -> None:
        timers = self._timers
        while timers:
            real, _, timer = heapq.heappop(timers)
            if timer.cancelled():
                continue
            program = timer._context.get(PROGRAM)  # type: ignore[attr-defined]
            if program and not program.alive:
                self.buried.append(timer)
                continue
            self.real = max(self.real, real)
            self._ready.append(timer)  # type: ignore[attr-defined]
            while timers and timers[0][0] <= self.real:
                _, _, timer = heapq.heappop(timers)
                if not timer.cancelled():
                    self._ready.append(timer)  # type: ignore[attr-defined]
            return
        raise Stuck("nothing is left to happen")

    def _check_closed(self) -> None:
        """What the dead do when they are buried comes to nothing."""

    def close(self) -> None:
        """Bury what was left in the middle of something: its `finally` may find that it can wait for nothing."""
        told = sys.unraisablehook
        sys.unraisablehook = lambda _: None
        with warnings.catch_warnings():
            # Whoever is killed between two steps may have made a coroutine that it had not begun.
            warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
            for handles in (self._timers, self._ready, *(each.ready for each in self.programs)):  # type: ignore[attr-defined]
                handles.clear()
            self.programs.clear()
            self.buried.clear()
            super().close()
            gc.collect()
        sys.unraisablehook = told

    def forget_the_dead(self) -> None:
        """Programs that ended are not looked at again."""
        self.programs = [each for each in self.programs if each.alive]


@contextlib.contextmanager
def virtual_time(loop: VirtualLoop, dice: random.Random) -> Iterator[None]:
    """Clocks and random numbers of the standard library come from the loop and the seed."""

    def wall() -> float:
        program = PROGRAM.get()
        return EPOCH + loop.real + (program.offset if program else 0.0)

    with contextlib.ExitStack() as stack:
        for name, value in {
            "time.monotonic": loop.time,
            "time.time": wall,
            "time.time_ns": lambda: int(wall() * 1e9),
            "time.clock_gettime": lambda _: loop.time(),
            "os.urandom": dice.randbytes,
            "random._urandom": dice.randbytes,
        }.items():
            stack.enter_context(mock.patch(name, value))
        random.seed(dice.random())
        yield
