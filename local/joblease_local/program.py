"""One of JobLease's own programs, as a child process."""

import urllib.request
from collections.abc import Mapping
from pathlib import Path

from joblease_local.processes import OneProcess, Process

READY_SECONDS = 60
STOP_SECONDS = 20


class Program(OneProcess):
    """A console script of the project that serves `/readyz`."""

    def __init__(self, script: Path, name: str, state: Path, port: int, environment: Mapping[str, str]) -> None:
        """`port` is where its probes are; `environment` comes on top of ours."""
        self.name = name
        self._script = script
        self._probe = f"http://127.0.0.1:{port}/readyz"
        self._environment = environment
        self.process = Process(name, state)

    def start(self) -> None:
        """Start it."""
        self.process.start([self._script], self._environment)

    def ready(self) -> None:
        """Wait until it says that it is ready."""
        self.process.until(self._answers, READY_SECONDS)

    def stop(self) -> None:
        """End it; what it runs gets a moment to be handed back."""
        self.process.stop(STOP_SECONDS)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self._probe, timeout=2):  # noqa: S310 - a program on this machine
                return True
        except OSError:
            return False
