"""What users ask for: jobs of all kinds, some of them hostile, and what they do to them afterwards."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from faults.history import Submitted
from joblease.states import State

from simulation.cluster import ApiServer, Gone
from simulation.loop import EPOCH, VirtualLoop

GROUPS = (("alone", 1), ("pair", 2), ("free", 0))
RETRY = {"maxAttempts": 40, "backoff": {"initialSeconds": 1, "factor": 1, "maxSeconds": 1}}
KINDS = (
    ["plain"] * 11
    + ["long"] * 4
    + ["refuses", "refuses", "late", "late", "hangs", "endless", "endless", "floods", "huge", "keyed", "keyed", "keyed"]
)
KEYS = 3
"""That jobs of the kind `keyed` share."""


class Workload:
    """`submit` each job as a task; `jobs` are those that the API server has accepted."""

    def __init__(self, cluster: ApiServer, loop: VirtualLoop, dice: random.Random, note: Callable[[str], None]) -> None:
        self._cluster, self._loop, self._dice, self._note = cluster, loop, dice, note
        self.jobs: list[Submitted] = []
        self.keys: dict[str, str] = {}
        """Idempotency keys, by job."""

    async def submit(self, number: int, within: float) -> None:
        """Create a job some time `within` so many seconds, and do something to it later."""
        dice, cluster = self._dice, self._cluster
        await asyncio.sleep(dice.uniform(0, within))
        group, limit = dice.choice(GROUPS)
        kind = dice.choice(KINDS)
        spec, outcomes = self._spec(kind)
        if kind == "keyed":
            group, limit = GROUPS[0]
        if limit == 1 and kind == "plain" and number % 2:  # its handler says so; no worker reports what it knows
            spec["handler"], spec["parameters"]["team"] = "policed", group
        else:
            spec["concurrency"] = {"group": group, "limit": limit}
        fate = dice.choice(["cancel", "delete"] if kind == "endless" else ["run"] * 6 + ["cancel", "delete", "suspend"])
        if fate == "suspend":
            spec["suspend"] = True
        if kind == "endless":
            outcomes = {State.CANCELLED}
        elif fate in ("cancel", "delete"):
            outcomes = outcomes | {State.CANCELLED}
        name = f"job-{number:03d}"
        body = cluster.create(name, spec)
        self._note(f"creates {name} {group}/{limit} {spec['parameters']} {fate}")
        job = Submitted(body["metadata"]["uid"], name, group, limit, frozenset(outcomes), deleted=fate == "delete")
        self.jobs.append(job)
        if kind == "keyed":
            self.keys[job.job_id] = spec["key"]
        await asyncio.sleep(dice.choice([1, 10, 40, 90] if kind == "endless" else [0, 0.05, 1, 10, 40]))
        self._note(f"{fate} {name}")
        with suppress(Gone):
            if fate == "suspend":
                cluster.change(name, suspend=False)
            elif fate == "cancel":
                cluster.change(name, cancel=True)
            elif fate == "delete":
                for watch in cluster.watches if dice.random() < 0.5 else ():
                    watch.lose()  # nobody sees it
                cluster.delete(name, job.job_id)

    def cancel(self, job_id: str) -> None:
        """Have it cancelled now, whatever was to become of it."""
        for job in self.allow(job_id, State.CANCELLED):
            with suppress(Gone):
                self._cluster.change(job.name, cancel=True)
            self._note(f"cancels {job.name}")

    def allow(self, job_id: str, outcome: State, *, deleted: bool = False) -> list[Submitted]:
        """It may end so, too; the job."""
        for number, job in enumerate(self.jobs):
            if job.job_id == job_id:
                self.jobs[number] = replace(job, outcomes=job.outcomes | {outcome}, deleted=job.deleted or deleted)
                return [job]
        return []

    @property
    def endless(self) -> list[Submitted]:
        """Jobs that end when they are cancelled or deleted, and not before."""
        return [job for job in self.jobs if job.outcomes == {State.CANCELLED}]

    def delete(self, job_id: str) -> None:
        """Have its resource deleted now."""
        for job in self.allow(job_id, State.CANCELLED, deleted=True):
            with suppress(Gone):
                self._cluster.delete(job.name, job_id)
            self._note(f"deletes {job.name}")

    def submit_endless(self, number: int) -> Submitted:
        """Create a job without a group that runs until it is deleted."""
        spec, _ = self._spec("endless")
        name = f"job-{number:03d}"
        body = self._cluster.create(name, {**spec, "concurrency": {"group": "free", "limit": 0}})
        self._note(f"creates {name}, for ever")
        job = Submitted(body["metadata"]["uid"], name, "", 0, frozenset({State.CANCELLED}), deleted=True)
        self.jobs.append(job)
        return job

    def submit_rival(self, job_id: str) -> None:
        """Create a job that stands before this one in the line of its group."""
        for job in [job for job in self.jobs if job.job_id == job_id]:
            name = f"rival-{len(self.jobs):03d}"
            parameters = {"steps": 3, "seconds": 8, "failures": 0}
            concurrency = {"group": job.group or "free", "limit": job.limit}
            spec = {"handler": "witness", "priority": 9, "parameters": parameters, "concurrency": concurrency}
            body = self._cluster.create(name, {**spec, "retry": RETRY})
            self._note(f"creates {name}, before {job.name}")
            self.jobs.append(Submitted(body["metadata"]["uid"], name, job.group, job.limit))

    async def submit_plain(self, number: int) -> None:
        """Create a job without a group, of three steps."""
        parameters = {"steps": 3, "seconds": 0.1, "failures": 0}
        spec = {"handler": "witness", "parameters": parameters, "concurrency": {"group": "free", "limit": 0}}
        body = self._cluster.create(f"job-{number:03d}", spec)
        self.jobs.append(Submitted(body["metadata"]["uid"], f"job-{number:03d}", "", 0))

    def _spec(self, kind: str) -> tuple[dict[str, Any], set[State]]:
        dice = self._dice
        failures = dice.choice([0, 0, 0, 1, 2])
        parameters = {
            "steps": dice.choice([1, 2, 5]), "seconds": dice.choice([0.05, 0.5, 3, 8]), "failures": failures,
            "deaf": dice.random() < 0.2, "dies": dice.choice([0, 0, 1]) if failures else 0,
        }  # fmt: skip
        spec: dict[str, Any] = {
            "handler": "witness", "priority": dice.randint(0, 8), "parameters": parameters,
            "retry": dict(RETRY),
        }  # fmt: skip
        if dice.random() < 0.1:
            moment = datetime.fromtimestamp(EPOCH + self._loop.real, UTC) + timedelta(seconds=20)
            spec["startAfter"] = f"{moment:%Y-%m-%dT%H:%M:%SZ}"
        match kind:
            case "refuses":
                parameters.update(failures=99, permanent=True, dies=0)
                return spec, {State.FAILED}
            case "late" | "hangs":
                spec["activeDeadlineSeconds"] = 2
                spec["retry"]["maxAttempts"] = 2
                ends = {State.DEADLINE_EXCEEDED, State.WORKER_CRASHED, State.FAILED}
                if kind == "late":
                    return spec, ends | {State.COMPLETED}
                parameters.update(hangs=True, dies=0, seconds=0.5)
                return spec, ends - {State.FAILED}
            case "endless":
                parameters.update(hangs=True, dies=0, failures=0, seconds=0.5)
            case "long":
                parameters.update(steps=3, seconds=15)
            case "keyed":  # the same work for each of a key; how one ends, all end
                parameters.update(steps=2, seconds=0.5, failures=0, deaf=False, dies=0)
                spec["key"] = f"key-{dice.randrange(KEYS)}"
                spec.pop("startAfter", None)
                return spec, {State.COMPLETED, State.CANCELLED, State.FAILED}
            case "floods":
                parameters.update(steps=150, seconds=0)
            case "huge":
                parameters.update(steps=4, seconds=0, bytes=400_000)
        return spec, {State.COMPLETED}
