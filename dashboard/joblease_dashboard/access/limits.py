"""How often somebody may ask, and for how much at once.

A bucket of tokens for each caller fills at a steady rate; and what one asks for at once is answered in turn, so that
somebody else who asks for a little does not wait for all of it.
"""

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

CALLERS = 10_000
"""Remembered at once; the one that has been silent longest is forgotten, and has a full bucket again."""


class RateLimit:
    """At most `burst` at once, and `per_second` in the long run, for each caller."""

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = per_second
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, caller: str) -> float:
        """Seconds until the caller may ask again; 0, and a token less, when that is now."""
        now = self._clock()
        tokens, last = self._buckets.pop(caller, (float(self._burst), now))
        tokens = min(float(self._burst), tokens + (now - last) * self._rate)
        allowed = tokens >= 1
        self._buckets[caller] = (tokens - 1 if allowed else tokens, now)
        if len(self._buckets) > CALLERS:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - tokens) / self._rate


class TooManyAtOnce(Exception):
    """More wait already than may."""


@dataclass(slots=True)
class _Line:
    turns: asyncio.Semaphore
    length: int = field(default=0)


class Turns:
    """At most `at_once` requests of a caller at a time; up to `waiting` more wait for their turn."""

    def __init__(self, at_once: int, waiting: int) -> None:
        self._at_once = at_once
        self._longest = at_once + waiting
        self._lines: dict[str, _Line] = {}

    @contextlib.asynccontextmanager
    async def take(self, caller: str) -> AsyncIterator[None]:
        """A turn, when it comes. Raises `TooManyAtOnce`."""
        line = self._lines.setdefault(caller, _Line(asyncio.Semaphore(self._at_once)))
        if line.length >= self._longest:
            raise TooManyAtOnce
        line.length += 1
        try:
            async with line.turns:
                yield
        finally:
            line.length -= 1
            if not line.length:
                del self._lines[caller]
