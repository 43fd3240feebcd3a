"""What dead handler processes have left: the worker adopts it, kills it and reaps it.

While a handler process lives it adopts its own orphans; when it dies, they come to the worker (a "subreaper", see
prctl(2)). A handler's processes can leave its session, but never join the worker's; so what is a child of the worker's
in another session, and no handler process, is what a handler process has left.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Iterator

from joblease_worker import linux
from joblease_worker.guardian_process import children, end_tree

log = logging.getLogger(__name__)

SWEEP_SECONDS = 5.0
"""A process that outlives SIGKILL for so long hangs in the kernel, most likely on a file system."""
_PAUSE_SECONDS = 0.005

handler_processes: set[int] = set()
"""Those of this worker that were started and have not ended."""
_births = 0
"""Handler processes that are being started: nobody knows their numbers yet, so nobody can tell them from leftovers."""


@contextlib.contextmanager
def birth() -> Iterator[None]:
    """Start a handler process in this block, and note its number: no sweep looks meanwhile."""
    global _births  # noqa: PLW0603 - as `handler_processes`: a process has its children once
    _births += 1
    try:
        yield
    finally:
        _births -= 1


async def sweep() -> None:
    """Kill and reap what dead handler processes have left. Gives up after some seconds, and says so.

    Does nothing in a process that does not adopt orphans.
    """
    if not linux.adopts_orphans():
        return
    until = time.monotonic() + SWEEP_SECONDS
    while (left := [] if _births else _left()) or _births:
        for pid in left:
            end_tree(pid)
            _reap(pid)
        if time.monotonic() > until:
            log.error("processes that a handler has left do not end: %s", ", ".join(map(str, left)))
            return
        await asyncio.sleep(_PAUSE_SECONDS)


def _left() -> list[int]:
    here = os.getsid(0)
    return [pid for pid in children(os.getpid()) if pid not in handler_processes and _session(pid) not in (here, None)]


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None
