"""One simulated installation, from its first job to its last, all drawn from a seed."""

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from faults.checker import RULES, dashboard_knows
from faults.history import History, Submitted
from joblease.head import Head
from joblease.messages import JobEvent
from joblease.rows import HEAD, event_of, head_of
from joblease.states import State
from joblease.topology import DEAD, defer_queue, jobs_queue

from simulation.loop import EPOCH, VirtualLoop, virtual_time
from simulation.nemesis import Fleet, Nemesis
from simulation.network import CALM, Weather
from simulation.programs import Services, seams
from simulation.storage import Row

GROUPS = (("alone", 1), ("pair", 2), ("free", 0))
PATIENCE = 400.0
"""Virtual seconds in which every job has ended after the last fault."""


@dataclass(slots=True)
class Result:
    """What came of a seed."""

    seed: int
    violations: list[str]
    faults: Counter[str]
    requests: Counter[str]
    jobs: int
    outcomes: Counter[str]
    virtual: float
    quiet_after: float
    turns: int
    trace: list[str] = field(default_factory=list)
    digest: int = 0


def simulate(seed: int, jobs: int = 25, minutes: float = 3, *, trace: bool = False) -> Result:
    """Run an installation for some virtual minutes of faults, then until all is quiet, and check."""
    dice = random.Random(seed)
    loop = VirtualLoop(dice)
    with virtual_time(loop, dice), seams(loop):
        world = World(seed, loop, dice, jobs, minutes * 60, trace=trace)
        try:
            return loop.run_until_complete(world.run())
        finally:
            loop.close()


class World:
    """The play."""

    def __init__(
        self, seed: int, loop: VirtualLoop, dice: random.Random, jobs: int, seconds: float, *, trace: bool
    ) -> None:
        self._seed, self._loop, self._dice, self._count, self._seconds = seed, loop, dice, jobs, seconds
        self._services = Services(loop, dice)
        self._trace: list[str] = []
        self._digest = 0
        self._jobs: list[Submitted] = []
        self._tracing = trace
        self._services.network.note = self._note

    def _note(self, who: str, what: str) -> None:
        line = f"{self._loop.real:10.4f} {who:16} {what}"
        self._digest = hash((self._digest, line)) & 0xFFFFFFFFFFFFFFFF
        if self._tracing:
            self._trace.append(line)

    async def run(self) -> Result:
        """All of it."""
        services = self._services
        fleet = Fleet(services, workers=self._dice.choice([2, 3, 4]))
        nemesis = Nemesis(services, fleet, self._dice, pause=self._dice.choice([1, 3, 8]))
        scale = self._dice.choice([0.3, 1, 1, 2])
        services.network.weather = Weather(*(scale * each for each in (0.02, 0.03, 0.02, 0.02, 0.005)))
        harm = asyncio.create_task(nemesis.run())
        acts = [asyncio.create_task(self._act(number)) for number in range(self._count)]
        await asyncio.wait([harm], timeout=self._seconds)
        if harm.done():
            harm.result()
        harm.cancel()
        await asyncio.gather(harm, return_exceptions=True)
        services.network.weather = CALM
        await fleet.whole()
        healed = self._loop.real
        await asyncio.gather(*acts)
        while self._loop.real - healed < PATIENCE and not self._quiet():
            await asyncio.sleep(2)
            await fleet.whole()
        await asyncio.sleep(20)
        history = self._history()
        violations = [each for rule in RULES if rule is not dashboard_knows for each in rule(history)]
        return Result(
            self._seed, violations, services.network.faults, services.network.requests, len(self._jobs),
            Counter(str(head.state) for head in history.heads.values()), self._loop.real, self._loop.real - healed,
            self._loop.turns, self._trace, self._digest,
        )  # fmt: skip

    # The workload

    async def _act(self, number: int) -> None:
        dice, cluster = self._dice, self._services.cluster
        await asyncio.sleep(dice.uniform(0, self._seconds * 0.9))
        group, limit = dice.choice(GROUPS)
        failures = dice.choice([0, 0, 0, 1, 2])
        parameters = {
            "steps": dice.choice([1, 2, 5]), "seconds": dice.choice([0.05, 0.5, 3, 8]), "failures": failures,
            "deaf": dice.random() < 0.2, "dies": dice.choice([0, 0, 1]) if failures else 0,
        }  # fmt: skip
        spec: dict[str, Any] = {
            "handler": "witness", "priority": dice.randint(0, 9), "parameters": parameters,
            "concurrency": {"group": group, "limit": limit},
            "retry": {"maxAttempts": 40, "backoff": {"initialSeconds": 1, "factor": 1, "maxSeconds": 1}},
        }  # fmt: skip
        outcomes = {State.COMPLETED}
        if dice.random() < 0.1:
            parameters.update(failures=9, permanent=True, dies=0)
            outcomes = {State.FAILED}
        elif dice.random() < 0.1:
            spec["activeDeadlineSeconds"] = 2
            spec["retry"]["maxAttempts"] = 2
            outcomes |= {State.DEADLINE_EXCEEDED, State.WORKER_CRASHED, State.FAILED}
        if dice.random() < 0.1:
            moment = datetime.fromtimestamp(EPOCH + self._loop.real, UTC) + timedelta(seconds=20)
            spec["startAfter"] = f"{moment:%Y-%m-%dT%H:%M:%SZ}"
        fate = dice.choice(["run"] * 6 + ["cancel", "delete", "suspend"])
        if fate == "suspend":
            spec["suspend"] = True
        if fate in ("cancel", "delete"):
            outcomes |= {State.CANCELLED}
        name = f"job-{number:03d}"
        body = cluster.create(name, spec)
        self._note("user", f"creates {name} {group}/{limit} {parameters} {fate}")
        self._jobs.append(
            Submitted(body["metadata"]["uid"], name, group, limit, frozenset(outcomes), deleted=fate == "delete")
        )
        await asyncio.sleep(dice.choice([0, 0.05, 1, 10, 40]))
        self._note("user", f"{fate} {name}")
        if fate == "suspend":
            cluster.change(name, suspend=False)
        elif fate == "cancel":
            cluster.change(name, cancel=True)
        elif fate == "delete":
            cluster.delete(name)

    # What has come of it

    def _heads(self) -> dict[str, Head]:
        rows = self._services.storage.rows
        return {job: head_of(_row(found[HEAD])) for job, found in rows.items() if HEAD in found}

    def _statuses(self) -> dict[str, str]:
        reasons = {}
        for body in self._services.cluster.objects.values():
            conditions = body.get("status", {}).get("conditions", [])
            found = next((each["reason"] for each in conditions if each["type"] == "Succeeded"), "")
            reasons[body["metadata"]["uid"]] = found
        return reasons

    def _left(self) -> tuple[list[str], dict[str, int]]:
        storage, queues = self._services.storage, self._services.broker.queues
        leases = [name for name, _, leased in storage.listing("") if leased or name.startswith("job/")]
        names = (jobs_queue("default"), defer_queue("default", 2), DEAD)
        unsettled = sum(len(each.unsettled) for each in self._services.broker.consumers if each.queue == names[0])
        return leases, {**{name: len(queues[name]) for name in names}, "unsettled": unsettled}

    def _quiet(self) -> bool:
        heads, statuses = self._heads(), self._statuses()
        leases, messages = self._left()
        ended = all(head.state.terminal for head in heads.values())
        begun = all(job.job_id in heads or job.deleted for job in self._jobs)
        said = all(uid in heads and heads[uid].state == reason for uid, reason in statuses.items())
        return ended and begun and said and not leases and not any(messages.values())

    def _history(self) -> History:
        heads = self._heads()
        events: dict[str, list[JobEvent]] = {}
        for job, head in heads.items():
            rows = sorted(self._services.storage.rows[job].items())
            events[job] = [event_of(_row(found), head) for key, found in rows if key != HEAD]
        index = self._services.broker.queues["joblease.events.index"]
        history = History(self._jobs, self._services.witness.notes, heads, events)
        history.announced = [JobEvent.model_validate_json(each.body) for each in index]
        history.statuses = self._statuses()
        history.leases, history.messages = self._left()
        return history


def _row(found: tuple[dict[str, Any], str]) -> Row:
    row = Row(found[0])
    row.metadata = {"etag": found[1]}
    return row


def seconds_of(work: Any) -> tuple[Any, float]:
    """What a call returns, and how long it took."""
    began = time.perf_counter()
    return work(), time.perf_counter() - began
