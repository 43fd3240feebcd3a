"""Keeps Python's garbage collector from walking all jobs again and again.

A full collection looks at every object that has survived so far, in one go: with 100,000 waiting jobs that holds up the
event loop for a second. Jobs are freed when nobody refers to them any more, as most objects are; the collector is for
cycles. So full collections come early, before many new objects are there to be looked at; and whenever one took long,
what has survived it is set apart (`gc.freeze`) and never looked at again. A cycle among those objects that becomes
garbage later stays: a few kilobytes for each ten thousand jobs.
"""

import gc
import time

LONG_SECONDS = 0.005
EARLY = (700, 10, 3)
"""Thresholds: a full collection for each 700 * 10 * 3 new objects, where Python itself waits for 70,000."""
OLDEST = 2


class Collector:
    """`install` once; one program has one."""

    def __init__(self) -> None:
        self._started = 0.0
        self._before = gc.get_threshold()

    def install(self) -> None:
        """Begin to watch the garbage collector. What was imported is set apart at once."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(*EARLY)
        gc.callbacks.append(self._after)

    def remove(self) -> None:
        """End it; what was set apart stays so."""
        gc.callbacks.remove(self._after)
        gc.set_threshold(*self._before)

    def _after(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._started = time.thread_time()
        elif info["generation"] == OLDEST and time.thread_time() - self._started > LONG_SECONDS:
            gc.freeze()
