"""Many seeds, on several processes, and what came of them."""

import gc
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass, field, replace
from itertools import count
from multiprocessing import get_context

from simulation.world import Play, Result, simulate


@dataclass(slots=True)
class Sum:
    """Of many plays."""

    seeds: int = 0
    bad: list[Result] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    jobs: int = 0
    virtual: float = 0
    quiet_after: float = 0
    cpu: float = 0
    began: float = field(default_factory=time.perf_counter)

    def add(self, result: Result) -> None:
        """Count a play."""
        self.seeds += 1
        self.faults += result.faults
        self.outcomes += result.outcomes
        self.jobs += result.jobs
        self.virtual += result.virtual
        self.cpu += result.cpu
        self.quiet_after = max(self.quiet_after, result.quiet_after)
        if result.violations:
            self.bad.append(result)

    def __str__(self) -> str:
        took = time.perf_counter() - self.began
        rates = [self.faults.total() / max(each, 0.001) * 3600 for each in (took, self.cpu)]
        harm = f"{self.faults.total():,} faults, {rates[0]:,.0f} an hour, {rates[1]:,.0f} in an hour of one core"
        return "\n".join(
            [
                f"{self.seeds} seeds, {len(self.bad)} bad; {harm}; {self.jobs:,} jobs",
                f"{self.virtual / 3600:.1f} virtual hours in {took:.0f} s; quiet after {self.quiet_after:.0f} s",
                f"{dict(sorted(self.faults.items()))}",
                f"{dict(sorted(self.outcomes.items()))}",
            ]
        )


def one(play: Play) -> Result:
    """Play. What was there before it is not looked at by the garbage collector again."""
    sys.unraisablehook = lambda _: None  # what the dead of an earlier play say
    gc.freeze()
    began = time.process_time()
    result = simulate(play)
    result.cpu = time.process_time() - began
    return result


def many(first: Play, seconds: float, seeds: float, processes: int) -> Iterator[Result]:
    """Play seed after seed, from that of `first`, for so many real seconds or seeds."""
    began = time.perf_counter()
    numbers = count(first.seed)

    def wanted() -> Play | None:
        if time.perf_counter() - began >= seconds:
            return None
        number = next(numbers)
        return replace(first, seed=number) if number - first.seed < seeds else None

    if processes == 1:
        while play := wanted():
            yield one(play)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("fork")) as pool:
        running = {pool.submit(one, play) for _ in range(processes) if (play := wanted())}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for each in done:
                yield each.result()
                if play := wanted():
                    running.add(pool.submit(one, play))
