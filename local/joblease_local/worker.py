"""The worker as a child process that is restarted as a container is: after the end of all that it has started.

So the next one may close its predecessor's session at once (`JOBLEASE_WORKER_IDENTITY`). A worker that is started
without that proof gets another identity, and waits for its predecessor's lease.
"""

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from azure.core.exceptions import AzureError
from joblease.leases import LeaseBlobs, LeaseUnknown
from joblease.settings import StorageSettings
from joblease.storage import Storage
from pydantic import SecretStr, ValidationError

from joblease_local import warden
from joblease_local.processes import PartFailed, Process
from joblease_local.program import Program

CLOSE_SECONDS = 2.0
"""For requests to storage that may be away; its successor closes the sessions as well."""


class Warded(Process):
    """A process below a warden: it has ended when all that it has started has."""

    def __init__(self, name: str, state: Path) -> None:
        super().__init__(name, state)
        self._words: int | None = None
        self._said = b""

    def over(self) -> bool:
        """Whether it has ended, and it is proven that nothing is left of it; true before the first start."""
        if self._words is None:
            return True
        if not self.running:
            self._said += os.read(self._words, 100)
        return b"over" in self._said

    def _launch(self, command: Sequence[str], **how: Any) -> "subprocess.Popen[bytes]":
        words, tell = os.pipe()
        arguments = [sys.executable, "-I", "-S", warden.__file__, str(tell), *command]
        try:
            child = super()._launch(arguments, **how, pass_fds=[tell])
        finally:
            os.close(tell)
        if self._words is not None:
            os.close(self._words)
        self._words, self._said = words, b""
        told = os.read(words, 100)
        if not told:
            child.wait()
            raise PartFailed(f"{self.name} cannot be started:\n{self.log_tail()}")
        self.pid = int(told)
        return child


class Worker(Program):
    """The console script `joblease-worker`."""

    def __init__(self, script: Path, name: str, state: Path, port: int, environment: Mapping[str, str]) -> None:
        super().__init__(script, name, state, port, environment)
        self.process: Warded = Warded(name, state)
        self._identity = ""

    def start(self) -> None:
        """Start it; as its predecessor's successor, if that is proven to be dead."""
        if not self._identity or not self.process.over():
            self._identity = str(uuid4())
        self.process.start([self._script], {**self._environment, "JOBLEASE_WORKER_IDENTITY": self._identity})

    def ended(self) -> None:
        """Let others have its jobs now, if it is proven to be dead; the next one does so, too, once it is up."""
        if not self.process.over():
            return
        given = self._environment.get("JOBLEASE_STORAGE_CONNECTION_STRING")
        try:
            settings = StorageSettings(storage_connection_string=SecretStr(given)) if given else StorageSettings()
            asyncio.run(_close_sessions(settings, self._identity))
        except (AzureError, LeaseUnknown, TimeoutError, ValidationError):
            logging.getLogger(__name__).info("sessions of %s are left to its successor", self.name, exc_info=True)


async def _close_sessions(settings: StorageSettings, identity: str) -> None:
    async with asyncio.timeout(CLOSE_SECONDS), Storage(settings) as storage:
        await LeaseBlobs(storage.locks()).close_sessions(identity)
