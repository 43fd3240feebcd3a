"""How often somebody may ask: a bucket of tokens for each caller, which fills at a steady rate."""

import time
from collections import OrderedDict
from collections.abc import Callable

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
