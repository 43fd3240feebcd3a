"""One simulated installation, from its first job to its last, all drawn from a seed."""

import asyncio
import math
import random
from collections import Counter
from dataclasses import dataclass, field

from simulation.ambush import Ambush
from simulation.fleet import Fleet
from simulation.loop import VirtualLoop, virtual_time
from simulation.network import CALM, Weather
from simulation.programs import BEYOND, RATES, WITHIN, Services, seams
from simulation.verdict import Scene
from simulation.workload import Workload

PATIENCE = 600.0
"""Virtual seconds after the last fault, or after another job's end, in which a job ends: some wait for others."""
WEATHER = (0.02, 0.03, 0.02, 0.02, 0.005)


@dataclass(frozen=True, slots=True)
class Play:
    """What is played."""

    seed: int
    jobs: int = 25
    minutes: float = 3
    """Virtual ones of faults; after them it goes on until all is quiet."""
    calm: bool = False
    """No faults."""
    trace: bool = False
    last_strike: float = math.inf
    spared: frozenset[int] = frozenset()
    """See `Network`."""


@dataclass(slots=True)
class Result:
    """What came of it."""

    seed: int
    violations: list[str]
    faults: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    """By service and program kind."""
    jobs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    virtual: float = 0
    quiet_after: float = 0
    turns: int = 0
    struck: int = 0
    trace: list[str] = field(default_factory=list)
    digest: int = 0
    cpu: float = 0
    """Seconds of this process."""


def simulate(play: Play) -> Result:
    """Run an installation for some virtual minutes of faults, then until all is quiet, and check."""
    dice = random.Random(play.seed)
    loop = VirtualLoop(dice)
    with virtual_time(loop, dice), seams(loop):
        world = World(play, loop, dice)
        try:
            return loop.run_until_complete(world.run())
        except Exception as error:  # noqa: BLE001 - the play could not go on
            return Result(play.seed, [f"at {loop.real:.3f} s: {error!r}"], trace=world.trace)
        finally:
            loop.close()


class World:
    """The play, and its trace."""

    def __init__(self, play: Play, loop: VirtualLoop, dice: random.Random) -> None:
        self._play, self._loop, self._dice = play, loop, dice
        self._services = Services(loop, dice)
        self.trace: list[str] = []
        self._digest = 0
        network = self._services.network
        network.note = self._note
        network.last_strike, network.spared = play.last_strike, play.spared
        self._workload = Workload(self._services.cluster, loop, dice, lambda what: self._note("user", what))
        self._scene = Scene(self._services, self._workload.jobs, self._workload.keys)

    def _note(self, who: str, what: str) -> None:
        line = f"{self._loop.real:10.4f} {who:16} {what}"
        self._digest = hash((self._digest, line)) & 0xFFFFFFFFFFFFFFFF
        if self._play.trace:
            self.trace.append(line)

    async def run(self) -> Result:
        """All of it."""
        services = self._services
        if not self._play.calm:
            services.rates = self._dice.choice([RATES] * 8 + [WITHIN] * 3 + [BEYOND])
        fleet = Fleet(services, workers=self._dice.choice([2, 3, 4]))
        complaints = await (self._without_faults() if self._play.calm else self._under_faults(fleet))
        healed = self._loop.real
        ended, latest = 0, healed
        while self._loop.real - latest < PATIENCE and not self._scene.quiet():
            await asyncio.sleep(2)
            fleet.heal()
            if (now := self._scene.ended()) > ended:
                ended, latest = now, self._loop.real
        quiet_after = self._loop.real - healed
        await asyncio.sleep(20)
        network, heads = services.network, self._scene.heads()
        return Result(
            self._play.seed, [*complaints, *self._scene.violations(within=services.rates != BEYOND)], network.faults,
            network.requests, len(self._workload.jobs), Counter(str(head.state) for head in heads.values()),
            self._loop.real, quiet_after, self._loop.turns, network.struck, self.trace, self._digest,
        )  # fmt: skip

    async def _without_faults(self) -> list[str]:
        for number in range(self._play.jobs):
            await self._workload.submit_plain(number)
            await asyncio.sleep(self._dice.uniform(0, 5))
        return []

    async def _under_faults(self, fleet: Fleet) -> list[str]:
        """Play; what the nemesis complains of."""
        services, seconds = self._services, self._play.minutes * 60
        nemesis = Ambush(services, fleet, self._dice, self._dice.choice([1, 3, 8]), self._workload)
        scale = self._dice.choice([0.3, 1, 1, 2])
        services.network.weather = Weather(*(scale * each for each in WEATHER))
        harm = asyncio.create_task(nemesis.run())
        submitting = [self._workload.submit(number, seconds * 0.9) for number in range(self._play.jobs)]
        acts = asyncio.gather(*submitting)
        await asyncio.wait([harm], timeout=seconds)
        if harm.done():
            harm.result()
        harm.cancel()
        await asyncio.gather(harm, return_exceptions=True)
        services.network.weather = CALM
        services.network.traps.clear()
        fleet.heal()
        await asyncio.gather(acts, self._last_act(nemesis))
        return nemesis.complaints

    async def _last_act(self, nemesis: Ambush) -> None:
        """A deletion that no watch sees, when nothing starts anew any more: what is missed now stays missed."""
        job = self._workload.submit_endless(self._play.jobs)
        for _ in range(60):
            await asyncio.sleep(1)
            if self._services.cluster.runs(job.name):
                break
        await nemesis.delete_unseen()
        self._workload.delete(job.job_id)  # unless it was that one
