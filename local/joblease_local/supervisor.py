"""Keeps parts running: what ends by itself is started again, as Kubernetes would do.

While something keeps ending its starts are further and further apart, so that a part that cannot work does not keep
the machine busy; one that has run for a while is started again at once, and then trusted again.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from joblease_local.processes import PartFailed, Say

LONGEST_PAUSE_SECONDS = 30
"""Between two starts of a part."""
TRUSTED_SECONDS = 60


class Part(Protocol):
    """Something that can be started and ended."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def running(self) -> bool:
        """Whether it lives."""

    @property
    def ending(self) -> str:
        """How it ended, in words."""

    def ended(self) -> None:
        """What is to be done at once when it has ended by itself, whenever it is started again. Raises nothing."""

    def start(self) -> None:
        """Start it, without waiting until it is of use."""

    def ready(self) -> None:
        """Wait until it is of use. Raises `PartFailed`."""

    def stop(self) -> None:
        """End it and all that it started."""


@dataclass
class _Watched:
    part: Part
    failures: int = 0
    started: float = -math.inf
    due: float | None = None


class Supervisor:
    """Looks after parts that have been started."""

    def __init__(self, parts: Sequence[Part], say: Say) -> None:
        self._watched = [_Watched(part) for part in parts]
        self._say = say

    def look(self, now: float) -> None:
        """Notice what has ended and start again what is due; to be called often."""
        for each in self._watched:
            if each.part.running:
                if now - each.started > TRUSTED_SECONDS:
                    each.failures = 0
            elif each.due is None:
                wait = max(0.0, each.started + min(2**each.failures, LONGEST_PAUSE_SECONDS) - now)
                each.failures += 1
                each.due = now + wait
                self._say(f"{each.part.name} {each.part.ending}; starting it again in {wait:.0f} s")
                each.part.ended()
            if each.due is not None and now >= each.due:
                each.due, each.started = None, now
                try:
                    each.part.start()
                except PartFailed as error:
                    self._say(str(error))
