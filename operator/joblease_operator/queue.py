"""A queue of jobs to be reconciled: each at most once at a time, all of them side by side.

A job that is added while it is being worked on is worked on once more afterwards; adding it ten times is adding it
once. That is what makes reconciling level-triggered.

However many are added at once, or due at once, the event loop gets its turn in between.
"""

import asyncio
import contextlib
import heapq
import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

log = logging.getLogger(__name__)

WORKERS = 32
MAX_PAUSE_SECONDS = 60.0
DUE_AT_ONCE = 1_000
"""Keys that become ready in one turn of the event loop."""

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
        self._due: dict[str, float] = {}
        self._later: list[tuple[float, str]] = []
        """A heap; an entry counts only while it is what `_due` says."""
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def add(self, key: str, after: float = 0) -> None:
        """Have a key handled, now or after some seconds; the earliest of several times counts."""
        if after > 0:
            due = asyncio.get_running_loop().time() + after
            if due < self._due.get(key, due + 1):
                self._due[key] = due
                heapq.heappush(self._later, (due, key))
                self._wake_up(self._later[0][0])
        elif key not in self._marked:
            self._marked.add(key)
            if key not in self._active:
                self._ready.put_nowait(key)

    async def handled(self) -> None:
        """Wait until all was handled that is to be handled now; what is due later is not waited for."""
        await self._ready.join()

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._work(), name=f"reconcile {n}") for n in range(self._size)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _wake_up(self, when: float) -> None:
        if self._timer and not self._timer.cancelled():
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when, self._add_what_is_due)

    def _add_what_is_due(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for _ in range(DUE_AT_ONCE):
            if not self._later or self._later[0][0] > now:
                break
            due, key = heapq.heappop(self._later)
            if self._due.get(key) == due:
                del self._due[key]
                self.add(key)
        if self._later:
            self._wake_up(self._later[0][0])

    async def _work(self) -> None:
        task = asyncio.current_task()
        while not (task and task.cancelling()):  # `asyncio.wait_for`, in libraries, may have kept that to itself
            key = await self._ready.get()
            self._marked.discard(key)
            self._active.add(key)
            try:
                pause = await self._handle(key)
            except Exception:  # an error of ours; this key is given up, and all others go on
                log.exception("%s cannot be handled", key)
                pause = None
            finally:
                self._active.discard(key)
            if pause is None:
                self._failures.pop(key, None)
            else:
                failures = self._failures[key] = self._failures.get(key, 0) + 1
                self.add(key, min(pause * 2 ** (failures - 1), MAX_PAUSE_SECONDS))
            if key in self._marked:
                self._ready.put_nowait(key)
            self._ready.task_done()
            await asyncio.sleep(0)  # neither the queue nor the handler need ever have waited
