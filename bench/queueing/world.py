"""What the simulated programs share: time, chance, storage, the broker, and what is counted.

Rates are token buckets; a request that finds its bucket empty waits, where Azure would refuse it and the client would
try again. An account's and a partition's limits count rows, as the published targets do.
"""

import random
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import simpy
from capacity import ACCOUNT
from costs import LEASE_SECONDS, Cost, Job, Latency, Site

Steps = Generator[Any, Any, Any]
"""A SimPy process, or a part of one."""
BLOB, EVENT_AND_HEAD = Cost(blob=1), Cost(table=1, rows=2)
BURST_SECONDS = 0.1
"""How much of its rate a bucket holds."""


class Bucket:
    """A rate: what is taken beyond it has to wait."""

    def __init__(self, env: Any, rate: float) -> None:
        self._env, self._rate = env, rate
        self._free_at = 0.0

    def take(self, amount: float) -> float:
        """Take so much; the seconds to wait for it."""
        self._free_at = max(self._free_at, self._env.now - BURST_SECONDS) + amount / self._rate
        return max(0.0, self._free_at - float(self._env.now))


@dataclass(slots=True)
class Lease:
    """A blob's lease. A dead holder's stays until it expires."""

    renewed_at: float
    alive: bool = True

    def held(self, now: float) -> bool:
        """Whether nobody else can have it."""
        return self.alive or now < self.renewed_at + LEASE_SECONDS


@dataclass(slots=True, eq=False)
class Task:
    """A job on its way."""

    submitted_at: float
    slot: int | None = None
    admitted_at: float = 0
    shown_at: float = 0
    ended: bool = False
    runs: int = 0
    deferrals: int = 0
    lost_at: float | None = None
    recovered_after: float | None = None
    """Seconds from the loss of its worker to its next start."""

    @property
    def blobs(self) -> list[object]:
        """What its worker leases: a slot of the group, if that has a limit, and the job."""
        return [self] if self.slot is None else [self.slot, self]


@dataclass(slots=True)
class Figures:
    """What happened while it was measured."""

    waited: list[float] = field(default_factory=list)
    """Seconds from submission to the first start."""
    ended: int = 0
    indexed: int = 0
    """Events written into the history."""
    most_running: int = 0
    spent: Cost = field(default_factory=Cost)
    renewals: int = 0
    deferrals: int = 0
    busy: Counter[str] = field(default_factory=Counter)
    """Seconds for which each part of `capacity.py` was in use, summed over what it has of them."""


class World:
    """Everything that is not a program."""

    def __init__(self, site: Site, job: Job, limit: int, seed: int) -> None:
        self.env: Any = simpy.Environment()
        self.site, self.job, self.limit = site, job, limit
        self.figures = Figures()
        self.account, self.partition = Bucket(self.env, site.account), Bucket(self.env, site.partition)
        self.slot_blobs = [Bucket(self.env, site.blob) for _ in range(limit)]
        self.jobs, self.history = simpy.Store(self.env), simpy.Store(self.env)
        """The jobs queue, and the events queue of the dashboard."""
        self.hears: Callable[[Task, str], Steps]
        """The operator's events."""
        self.on_end: Callable[[], None] = lambda: None
        self._random = random.Random(seed)
        self._waits: dict[Any, float] = {}

    def chance(self, rate: float) -> float:
        """Seconds to the next of events that come at random, so many a second."""
        return self._random.expovariate(rate)

    def some(self, things: Sequence[Any], count: int) -> list[Any]:
        """So many of them, any."""
        return self._random.sample(things, count)

    def takes(self, latency: Latency) -> float:
        """Seconds of one request."""
        return latency.p50 / 1000 * self._random.lognormvariate(0, latency.sigma)

    def request(self, cost: Cost, *buckets: Bucket) -> Any:
        """A storage request; its rows, or itself, count against the account and the buckets."""
        self.figures.spent += cost
        self.spend(ACCOUNT, cost.units / self.site.account)
        wait = max(bucket.take(cost.units) for bucket in (self.account, *buckets))
        self.wait(wait)
        return self.env.timeout(wait + self.takes(self.site.storage))

    def spend(self, part: str, seconds: float) -> None:
        """Note that a part was in use."""
        self.figures.busy[part] += seconds  # type: ignore[assignment] # seconds

    def start_work(self) -> float:
        """The time; from now on, it is noted for how long the present process waits for other parts."""
        self._waits[self.env.active_process] = 0
        return float(self.env.now)

    def wait(self, seconds: float) -> None:
        """Note that the present process waits for another part, and does not work."""
        if self.env.active_process in self._waits:
            self._waits[self.env.active_process] += seconds

    def work_since(self, start: float) -> float:
        """For how long the present process was at work since it started."""
        return float(self.env.now) - start - self._waits.pop(self.env.active_process)

    def publish(self) -> Any:
        return self.env.timeout(self.takes(self.site.publish))

    def say(self, task: Task, event: str) -> Steps:
        """Publish an event to everybody."""
        yield self.publish()
        self.history.put((self.env.now, task))
        self.env.process(self._deliver(task, event))

    def _deliver(self, task: Task, event: str) -> Steps:
        yield self.env.timeout(self.takes(self.site.deliver))
        yield from self.hears(task, event)
