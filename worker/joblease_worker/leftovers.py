"""What a run leaves behind in its handler process: threads, processes, and a changed surrounding.

The surroundings are put back; a process with threads or processes that its run has started runs no other job.
"""

import contextlib
import faulthandler
import gc
import logging
import os
import resource
import signal
import socket
import sys
import threading
import time
from _signal import getsignal as _getsignal  # type: ignore[import-not-found] # signal's makes an enum of it, slowly
from operator import attrgetter
from signal import signal as set_handler  # by name, as in `child`
from time import sleep

from joblease_worker import linux
from joblease_worker.guardian_process import children

GRACE_SECONDS = 0.1
"""For what is about to end anyway."""
_PAUSE_SECONDS = 0.005
_LOOKS = round(GRACE_SECONDS / _PAUSE_SECONDS)
_SIGNALS = (
    signal.SIGALRM, signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGTERM, signal.SIGUSR1,
    signal.SIGUSR2,
)  # fmt: skip
"""Those that programs handle."""
_WALL = 0x40000000
"""Also children whose parent is not told of their end, see wait(2)."""
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_LIMITS = {getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}
_WRITING = ("encoding", "errors", "line_buffering", "write_through")
"""How a stream writes."""
_writing = attrgetter(*_WRITING)


class Leftovers:
    """Knows what belongs to the process, as it is when this is made, and so what belongs to a run."""

    def __init__(self) -> None:
        self._threads = _threads()
        self._children = set(children(os.getpid()))

    def find(self) -> str:
        """What is there beyond that, in words; empty when there is nothing, which takes microseconds to see."""
        for _ in range(_LOOKS):  # by no clock: a handler may have put one of its own in its place
            if not (found := [*self._new_threads(), *self._new_processes()]):
                return ""
            sleep(_PAUSE_SECONDS)
        return ", ".join(found)

    def _new_threads(self) -> list[str]:
        living, known = _threads(), self._threads
        new = [ident for ident in living if ident not in known or known[ident] not in (None, living[ident])]
        if not new:
            self._threads = living
            return []
        names = {ident: thread.name for ident, thread in living.items() if thread}
        return [f"the thread {names.get(ident, ident)!r}" for ident in new]

    def _new_processes(self) -> list[str]:
        with contextlib.suppress(ChildProcessError):  # there are none at all
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT | _WALL)
            if processes := sys.modules.get("multiprocessing"):
                processes.active_children()  # its own way to wait for those that have ended
            while os.waitpid(-1, os.WNOHANG | _WALL)[0]:  # ended, and the run does not wait for them any more
                continue
            return [f"the process {pid}" for pid in children(os.getpid()) if pid not in self._children]
        return []


def _threads() -> dict[int, threading.Thread | None]:
    """All threads, by a number that may become another one's when it has ended: so with the object, if it has one."""
    known = threading._active  # type: ignore[attr-defined] # noqa: SLF001 - `enumerate` would make a list of it
    return {ident: known.get(ident) for ident in sys._current_frames()}  # noqa: SLF001 - the one that sees every thread


class Surroundings:
    """What any code can change for all code of its process. Taken after the handlers were imported."""

    def __init__(self) -> None:
        self._folder = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._umask = os.umask(0o022)
        os.umask(self._umask)
        self._environ, self._environment = os.environ, _environment().copy()
        self._path, self._arguments = list(sys.path), list(sys.argv)
        self._streams = sys.stdin, sys.stdout, sys.stderr
        self._signals = {number: _getsignal(number) for number in _SIGNALS}
        self._timeout = socket.getdefaulttimeout()
        self._locale = _locale()
        self._outputs = _places()
        self._writing = [_writing(stream) for stream in self._streams[1:]]
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        self._limits = {number: resource.getrlimit(number) for number in _LIMITS}
        self._priority, self._processors = os.nice(0), os.sched_getaffinity(0)
        self._scheduling, self._adopting = os.sched_getscheduler(0), linux.adopts_orphans()
        self._recursion, self._switching = sys.getrecursionlimit(), sys.getswitchinterval()
        self._collecting, self._thresholds = gc.isenabled(), gc.get_threshold()
        self._tracing = sys.gettrace(), sys.getprofile()
        self._log_handlers, self._log_level = list(logging.root.handlers), logging.root.level
        self._log_disabled = logging.root.manager.disable

    def restore(self) -> None:
        """Put it all back as it was. Raises something when that is not possible."""
        for timer in _TIMERS:
            signal.setitimer(timer, 0)
        if sys.path != self._path:
            self._restore_path()
        self._restore_interpreter()
        self._restore_rights()
        faulthandler.cancel_dump_traceback_later()
        faulthandler.unregister(signal.SIGUSR1)  # the cancel order's
        socket.setdefaulttimeout(self._timeout)
        for number, known in self._signals.items():
            if _getsignal(number) is not known and known is not None:  # None: not set from Python
                set_handler(number, known)
        os.fchdir(self._folder)
        os.umask(self._umask)
        os.environ = self._environ  # noqa: B003 - a handler has put another object there, which nobody else knows
        if _environment() != self._environment:
            for name in os.environb.keys() - self._environment.keys():
                del os.environb[name]
            os.environb.update(self._environment)
            time.tzset()  # TZ
        sys.argv[:] = self._arguments
        sys.stdin, sys.stdout, sys.stderr = self._streams
        for stream, writing in zip((sys.stdout, sys.stderr), self._writing, strict=True):
            stream.flush()
            if _writing(stream) != writing:
                stream.reconfigure(**dict(zip(_WRITING, writing, strict=True)))  # type: ignore[union-attr]
        self._restore_logging()
        if self._locale != (now := _locale()) and now:
            sys.modules["locale"].setlocale(sys.modules["locale"].LC_ALL, self._locale)

    def _restore_path(self) -> None:
        """Raises `ImportError` when the run has imported a module that only it finds: the next one of this name is not.

        To forget the module would not do: not every one can be imported twice.
        """
        others = tuple(f"{os.path.abspath(each)}/" for each in sys.path if each not in self._path)  # noqa: PTH100
        sys.path[:] = self._path
        files = [str(getattr(module, "__file__", None)) for module in list(sys.modules.values())]
        if found := next((file for file in files if others and file.startswith(others)), None):
            raise ImportError(f"{found} was imported")

    def _restore_interpreter(self) -> None:
        (gc.enable if self._collecting else gc.disable)()
        gc.set_threshold(*self._thresholds)
        sys.setrecursionlimit(self._recursion)
        sys.setswitchinterval(self._switching)
        sys.settrace(self._tracing[0])
        sys.setprofile(self._tracing[1])

    def _restore_rights(self) -> None:
        """What the kernel keeps for the process; what it does not give back (a lowered limit) is raised."""
        for number, limits in self._limits.items():
            if resource.getrlimit(number) != limits:
                resource.setrlimit(number, limits)
        if os.nice(0) != self._priority:
            os.setpriority(os.PRIO_PROCESS, 0, self._priority)
        if os.sched_getscheduler(0) != self._scheduling:
            os.sched_setscheduler(0, self._scheduling, os.sched_param(0))
        if os.sched_getaffinity(0) != self._processors:
            os.sched_setaffinity(0, self._processors)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        if linux.adopts_orphans() != self._adopting:
            raise OSError("it adopts no orphans any more")
        if _places() != self._outputs:
            raise OSError("standard input, output or error was closed or replaced")
        lowest = os.dup(0)
        os.close(lowest)
        if lowest * 2 > resource.getrlimit(resource.RLIMIT_NOFILE)[0]:
            raise OSError("more than half of the files that may be open are")
        for output in (1, 2):
            os.set_blocking(output, True)

    def _restore_logging(self) -> None:
        logging.root.handlers[:] = self._log_handlers
        if (logging.root.level, logging.root.manager.disable) != (self._log_level, self._log_disabled):
            logging.root.setLevel(self._log_level)
            logging.disable(self._log_disabled)


def _places() -> list[tuple[int, int]]:
    """Where standard input, output and error lead to."""
    return [(found.st_dev, found.st_ino) for found in map(os.fstat, range(3))]


def _environment() -> dict[bytes, bytes]:
    """As `os.environb` holds it: decoding it for each comparison would take longer than many handlers run."""
    return os.environb._data  # type: ignore[attr-defined,no-any-return] # noqa: SLF001 - see above


def _locale() -> str:
    """The locale in force, if anybody has imported what could change it."""
    module = sys.modules.get("locale")
    return module.setlocale(module.LC_ALL) if module else ""
