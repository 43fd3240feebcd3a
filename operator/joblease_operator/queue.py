"""A queue of jobs to be reconciled: each at most once at a time, all of them side by side.

A job that is added while it is being worked on is worked on once more afterwards; adding it ten times is adding it
once. That is what makes reconciling level-triggered.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

WORKERS = 32
MAX_PAUSE_SECONDS = 60.0

Handle = Callable[[str], Awaitable[float | None]]
"""Works on a key; returns the pause before it is to be tried again, or None when it is done."""


class WorkQueue:
    """Use as an async context manager: keys are handled between enter and exit."""

    def __init__(self, handle: Handle, workers: int = WORKERS) -> None:
        self._handle = handle
        self._size = workers
        self._ready: asyncio.Queue[str] = asyncio.Queue()
        self._marked: set[str] = set()
        self._active: set[str] = set()
        self._failures: dict[str, int] = {}
        self._later: dict[str, asyncio.TimerHandle] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def add(self, key: str, after: float = 0) -> None:
        """Have a key handled, now or after some seconds; the earliest of several times counts."""
        if after:
            due = asyncio.get_running_loop().time() + after
            timer = self._later.get(key)
            if timer and timer.when() <= due:
                return
            if timer:
                timer.cancel()
            self._later[key] = asyncio.get_running_loop().call_at(due, self._due, key)
        elif key not in self._marked:
            self._marked.add(key)
            if key not in self._active:
                self._ready.put_nowait(key)

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._work(), name=f"reconcile {n}") for n in range(self._size)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for timer in self._later.values():
            timer.cancel()
        for task in self._tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _due(self, key: str) -> None:
        self._later.pop(key, None)
        self.add(key)

    async def _work(self) -> None:
        while True:
            key = await self._ready.get()
            self._marked.discard(key)
            self._active.add(key)
            try:
                pause = await self._handle(key)
            finally:
                self._active.discard(key)
            if pause is None:
                self._failures.pop(key, None)
            else:
                failures = self._failures[key] = self._failures.get(key, 0) + 1
                self.add(key, min(pause * 2 ** (failures - 1), MAX_PAUSE_SECONDS))
            if key in self._marked:
                self._ready.put_nowait(key)
