"""The handler processes of a worker, kept warm and handed to one job after the other."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from joblease.messages import HandlerDescription

from joblease_worker.ending import Ending
from joblease_worker.process import HandlerProcess, StartFailed

if TYPE_CHECKING:
    from joblease_worker.settings import WorkerSettings

__all__ = ["Ending", "HandlerProcess", "ProcessPool", "StartFailed"]


class ProcessPool:
    """As many warm processes as jobs may run at once."""

    def __init__(self, settings: "WorkerSettings") -> None:
        self._settings = settings
        self._idle: list[HandlerProcess] = []
        self.handlers: dict[str, HandlerDescription] = {}

    async def start(self) -> None:
        """Start all processes. Raises `StartFailed`."""
        first = await HandlerProcess.start(self._settings)
        self.handlers = {each.name: each for each in first.handlers}
        self._idle.append(first)
        others = range(self._settings.worker_concurrency - 1)
        self._idle += await asyncio.gather(*(HandlerProcess.start(self._settings) for _ in others))

    @contextlib.asynccontextmanager
    async def process(self) -> AsyncIterator[HandlerProcess]:
        """A process for one job. One that died or was killed is replaced. Raises `StartFailed`."""
        process = self._idle.pop() if self._idle else await HandlerProcess.start(self._settings)
        if not process.alive:
            await process.close()
            process = await HandlerProcess.start(self._settings)
        try:
            yield process
        finally:
            if process.alive:
                self._idle.append(process)
            else:
                await process.close()

    async def close(self) -> None:
        """End all processes."""
        idle, self._idle = self._idle, []
        await asyncio.gather(*(process.close() for process in idle))
