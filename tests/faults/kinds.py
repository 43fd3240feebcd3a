"""What kinds of jobs the workload asks for: ordinary ones, and one of each way to be a nuisance."""

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults.deeds import DEEDS, FAILS, RETURNING_COPY
from joblease.limits import MAX_PARAMETERS_BYTES
from joblease.states import State

GROUPS = [("one", 1), ("two", 1), ("three", 1), ("wide", 3), ("free", 0)]
NOBODYS_QUEUE = "nobody"
EMOJI = "\N{GRINNING FACE}"

RUN, CANCEL, DELETE, CANCEL_AFTER_THE_NEXT = "run", "cancel", "delete", "cancel after the next"
EMOJI_PARAMETERS, UNSERVED = "emoji-parameters", "unserved-queue"
NUISANCES = [*DEEDS, RETURNING_COPY, EMOJI_PARAMETERS, UNSERVED]
"""The names by which JOBLEASE_FAULTS_NUISANCES chooses some of them."""
NUISANCE_SHARE = 0.25
RARELY = {"flood": 0.2}
"""The emulator writes all that it holds every five seconds."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A job to be, and what becomes of its resource."""

    spec: dict[str, Any]
    fate: str
    """`run`; `cancel` or `delete` after `pause` seconds; `cancel after the next` when a job behind it has ended."""
    pause: float = 0
    outcomes: frozenset[State] = frozenset({State.COMPLETED})
    """What it may end as when nobody cancels it."""


class Kinds:
    """Draws jobs from a seed."""

    def __init__(self, seed: str, record: Path, nuisances: list[str]) -> None:
        """`nuisances`: some of `NUISANCES`; none, and all jobs are ordinary."""
        if unknown := set(nuisances) - set(NUISANCES):
            raise ValueError(f"JOBLEASE_FAULTS_NUISANCES: {unknown} is not among {NUISANCES}")
        self._dice = random.Random(f"{seed} workload")
        self._record = record
        self._nuisances = nuisances

    def pause(self, mean: float) -> float:
        """Seconds until the next one."""
        return self._dice.expovariate(1 / mean)

    def draw(self, number: int) -> Asked:
        """The next job."""
        dice = self._dice
        fate = dice.choices([RUN, CANCEL, DELETE], [85, 10, 5])[0]
        spec, pause, outcomes = self._ordinary(), dice.uniform(0, 4), {State.COMPLETED}
        if self._nuisances and dice.random() < NUISANCE_SHARE:
            match dice.choices(self._nuisances, [RARELY.get(each, 1) for each in self._nuisances])[0]:
                case "unserved-queue":
                    group = {"group": f"nobody-{number}", "limit": 1}
                    return Asked({**spec, "queue": NOBODYS_QUEUE, "concurrency": group}, CANCEL_AFTER_THE_NEXT)
                case "emoji-parameters":
                    spec["parameters"]["text"] = EMOJI * (_room(spec["parameters"]) // len(EMOJI.encode()))
                    outcomes = {State.COMPLETED, State.FAILED}  # it may be more than storage holds
                case deed:
                    spec["parameters"]["deed"] = deed
                    if deed in FAILS:
                        spec["retry"]["maxAttempts"] = 5
                        outcomes = {State.FAILED, State.WORKER_CRASHED}  # when a fault takes the last attempt's worker
        return Asked(spec, fate, pause, frozenset(outcomes))

    def behind(self, asked: Asked) -> Asked:
        """An ordinary job that waits for the same group."""
        return Asked({**self._ordinary(), "concurrency": asked.spec["concurrency"]}, RUN)

    def _ordinary(self) -> dict[str, Any]:
        dice = self._dice
        group, limit = dice.choice(GROUPS)
        return {
            "priority": dice.randint(0, 9),
            "concurrency": {"group": group, "limit": limit},
            "retry": {"maxAttempts": 20, "backoff": {"initialSeconds": 1, "factor": 1, "maxSeconds": 1}},
            "parameters": {
                "record": str(self._record),
                "seconds": round(dice.choice([0.05, 0.3, 1.0, 3.0]), 2),
                "steps": dice.choice([1, 3, 30]),
                "failures": dice.choice([0, 0, 0, 1]),
            },
        }


def _room(parameters: dict[str, Any]) -> int:
    """Bytes of text that can be added as another parameter, `text`."""
    return MAX_PARAMETERS_BYTES - len(json.dumps({**parameters, "text": ""}, separators=(",", ":")))
