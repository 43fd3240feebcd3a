"""Between a program and a service: latency, lost requests and answers, errors, cuts.

What was sent arrives whatever becomes of its sender: it may have given up, or be dead. So a write can take effect long
after another one that was sent later.
"""

import asyncio
import math
import random
import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from simulation.loop import PROGRAM, Program, VirtualLoop

T = TypeVar("T")


class NoAnswer(Exception):
    """The sender does not know whether what it has sent took effect."""


class Refused(Exception):
    """The service has a problem of its own, and did nothing: a status of 500 or more, or 429."""

    def __init__(self, status: int) -> None:
        super().__init__(f"{status}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Weather:
    """How likely each fault is, for each request."""

    lost_request: float = 0.02
    lost_answer: float = 0.03
    error: float = 0.02
    slow: float = 0.02
    """Seconds instead of milliseconds, each way."""
    late: float = 0.005
    """Up to a minute, on its way to the service: its sender has given up, or is dead."""


CALM = Weather(0, 0, 0, 0, 0)


class Network:
    """All ways, and what was done to them."""

    def __init__(self, loop: VirtualLoop, dice: random.Random) -> None:
        self.loop = loop
        self.dice = dice
        self.weather = CALM
        self.faults: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.struck = 0
        self.spared: frozenset[int] = frozenset()
        self.last_strike = math.inf
        """Faults are numbered: those that are spared, and those after the last, do not happen (`shrink`)."""
        self.cut: set[tuple[str, str]] = set()
        """Pairs of program and service between which nothing passes."""
        self.traps: list[tuple[str, Callable[[str, str], bool]]] = []
        """A pattern of how the words of a request begin (of one that is refused: `refused ` and those), and what is
        done to its sender when it takes effect: whether the answer is lost."""
        self.last_arrival = 0.0
        """When everything that was sent has arrived."""
        self.note: Callable[[str, str], None] = lambda _who, _what: None

    def is_cut(self, program: str, service: str) -> bool:
        """Whether nothing passes between them."""
        return (program, service) in self.cut

    def strikes(self, chance: float) -> bool:
        """Whether a fault happens now."""
        if self.dice.random() >= chance:
            return False
        self.struck += 1
        return self.struck <= self.last_strike and self.struck not in self.spared

    async def ask(self, program: Program, service: str, what: str, act: Callable[[], T], timeout: float) -> T:
        """Have a service do something. Raises `NoAnswer` after `timeout`, `Refused`, and what `act` raises."""
        self.requests[f"{program.name.split('-')[0]} {service}"] += 1
        answer: asyncio.Future[T] = self.loop.create_future()
        self._send(program, service, what, act, answer)
        try:
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError:
            raise NoAnswer(f"{service}: {what}") from None

    def _send(self, program: Program, service: str, what: str, act: Callable[[], Any], answer: Any) -> None:
        dice, weather = self.dice, self.weather
        if self.is_cut(program.name, service):
            self._count(program, "cut", what)
            return
        if self.strikes(weather.lost_request):
            self._count(program, "lost request", what)
            return
        there = self._latency(program, what, weather)
        if self.strikes(weather.late):
            self._count(program, "late request", what)
            there += dice.uniform(1, 60)
        self.last_arrival = max(self.last_arrival, self.loop.real + there)
        outcome: Callable[[], Any] = act
        if self.strikes(weather.error):
            self._count(program, "error", what)
            outcome = _refuser(dice.choice([429, 500, 503]))
        lost = self.strikes(weather.lost_answer)
        back = self._latency(program, what, weather)

        def arrive() -> None:
            value: Any = None
            error: Exception | None = None
            try:
                value = outcome()
            except Exception as raised:  # noqa: BLE001 - it is the answer
                error = raised
            self.note(program.name, f"{what}: {error!r}" if error else what)
            if self._spring(program.name, f"refused {what}" if error else what) or lost:
                self._count(program, "lost answer", what)
            elif not self.is_cut(program.name, service):
                self._outside(back, lambda: _settle(answer, value, error))

        self._outside(there, arrive)

    def _spring(self, program: str, what: str) -> bool:
        trapped = [each for each in self.traps if re.match(each[0], what)]
        lost = False
        for trap in trapped:
            self.traps.remove(trap)
            lost |= trap[1](program, what)
        return lost

    def _outside(self, delay: float, function: Callable[[], None]) -> None:
        """Call something later, as nobody's code: no death and no standstill keeps it from happening."""
        token = PROGRAM.set(None)
        self.loop.call_at(self.loop.real + delay, function)
        PROGRAM.reset(token)

    def _latency(self, program: Program, what: str, weather: Weather) -> float:
        if self.strikes(weather.slow):
            self._count(program, "slow", what)
            return self.dice.uniform(0.5, 6)
        return self.dice.uniform(0.0005, 0.01)

    def _count(self, program: Program, fault: str, what: str) -> None:
        self.faults[fault] += 1
        self.note(program.name, f"{fault}: {what}")


def _refuser(status: int) -> Callable[[], Any]:
    def refuse() -> Any:
        raise Refused(status)

    return refuse


def _settle(answer: "asyncio.Future[Any]", value: Any, error: Exception | None) -> None:
    with suppress(asyncio.InvalidStateError):
        if error:
            answer.set_exception(error)
            answer.exception()  # its sender may be dead: it is not an error that nobody looks
        else:
            answer.set_result(value)
