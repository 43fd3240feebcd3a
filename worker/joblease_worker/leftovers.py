"""What a run leaves behind in its handler process: threads, processes, and a changed surrounding.

The surroundings are put back; a process with threads or processes that its run has started runs no other job.
"""

import contextlib
import faulthandler
import os
import signal
import socket
import sys
import threading
import time
from _signal import getsignal as _getsignal  # type: ignore[import-not-found] # signal's makes an enum of it, slowly

from joblease_worker.guard import children

GRACE_SECONDS = 0.1
"""For what is about to end anyway."""
_PAUSE_SECONDS = 0.005
_SIGNALS = (
    signal.SIGALRM, signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGTERM, signal.SIGUSR1,
    signal.SIGUSR2,
)  # fmt: skip
"""Those that programs handle."""


class Leftovers:
    """Knows what belongs to the process, as it is when this is made, and so what belongs to a run."""

    def __init__(self) -> None:
        self._threads = set(sys._current_frames())  # noqa: SLF001 - documented, and the one that sees every thread
        self._children = set(children(os.getpid()))

    def find(self) -> str:
        """What is there beyond that, in words; empty when there is nothing, which takes microseconds to see."""
        until = time.monotonic() + GRACE_SECONDS
        while found := [*self._new_threads(), *self._new_processes()]:
            if time.monotonic() > until:
                return ", ".join(found)
            time.sleep(_PAUSE_SECONDS)
        return ""

    def _new_threads(self) -> list[str]:
        living = set(sys._current_frames())  # noqa: SLF001 - see above
        if not (new := living - self._threads):
            self._threads = living  # the number of one that has ended may become another's
            return []
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        return [f"the thread {names.get(ident, ident)!r}" for ident in new]

    def _new_processes(self) -> list[str]:
        with contextlib.suppress(ChildProcessError):  # there are none at all
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if processes := sys.modules.get("multiprocessing"):
                processes.active_children()  # its own way to wait for those that have ended
            while os.waitpid(-1, os.WNOHANG)[0]:  # ended, and the run does not wait for them any more
                continue
            return [f"the process {pid}" for pid in children(os.getpid()) if pid not in self._children]
        return []


class Surroundings:
    """What any code can change for all code of its process. Taken after the handlers were imported."""

    def __init__(self) -> None:
        self._folder = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._umask = os.umask(0o022)
        os.umask(self._umask)
        self._environment = _environment().copy()
        self._path, self._arguments = list(sys.path), list(sys.argv)
        self._streams = sys.stdin, sys.stdout, sys.stderr
        self._signals = {number: _getsignal(number) for number in _SIGNALS}
        self._timeout = socket.getdefaulttimeout()
        self._locale = _locale()

    def restore(self) -> None:
        """Put it all back as it was."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        socket.setdefaulttimeout(self._timeout)
        for number, known in self._signals.items():
            if _getsignal(number) is not known and known is not None:  # None: not set from Python
                signal.signal(number, known)
        os.fchdir(self._folder)
        os.umask(self._umask)
        if _environment() != self._environment:
            for name in os.environb.keys() - self._environment.keys():
                del os.environb[name]
            os.environb.update(self._environment)
        sys.path[:], sys.argv[:] = self._path, self._arguments
        sys.stdin, sys.stdout, sys.stderr = self._streams
        sys.stdout.flush()
        sys.stderr.flush()
        if self._locale != (now := _locale()) and now:
            sys.modules["locale"].setlocale(sys.modules["locale"].LC_ALL, self._locale)


def _environment() -> dict[bytes, bytes]:
    """As `os.environb` holds it: decoding it for each comparison would take longer than many handlers run."""
    return os.environb._data  # type: ignore[attr-defined,no-any-return] # noqa: SLF001 - see above


def _locale() -> str:
    """The locale in force, if anybody has imported what could change it."""
    module = sys.modules.get("locale")
    return module.setlocale(module.LC_ALL) if module else ""
