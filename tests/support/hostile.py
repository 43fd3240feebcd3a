"""Handlers that leave something behind, speak out of turn, or give what cannot be kept; one a row of what was found.

Each is followed by another job on the same worker, which must run, alone, with its own trail.
"""

import asyncio
import contextlib
import contextvars
import ctypes
import dataclasses
import datetime as dt
import decimal
import enum
import faulthandler
import fractions
import gc
import importlib
import json
import logging
import logging.config
import multiprocessing
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from joblease import JobCancelled, JobContext, PermanentError, handler, handlers
from pydantic import BaseModel

faulthandler.register(signal.SIGUSR1)  # a usual way to ask a program for its stacks; it is the cancel order's signal
_customer = contextvars.ContextVar("customer", default="nobody")
_until_asked = threading.Event()
threading.Thread(target=_until_asked.wait, name="warm-up", daemon=True).start()  # ends in one of the tests


def _write(record: str, *words: object) -> None:
    with Path(record).open("a") as file:
        file.write(" ".join(map(str, words)) + "\n")


@handler("next")
def next_job(job: JobContext, seconds: float = 0.0) -> dict[str, Any]:
    """The innocent one behind. It says in which process it runs, and what it finds there."""
    job.step("mine")
    time.sleep(seconds)
    return {
        "pid": os.getpid(),
        "threads": sorted(thread.name for thread in threading.enumerate() if thread is not threading.main_thread()),
        "folder": str(Path.cwd()),
        "environment": sorted(name for name in os.environ if name.startswith(("LEAKED", "JOBLEASE_"))),
        "umask": _umask(),
        "alarm": str(signal.getsignal(signal.SIGALRM)),
        "path": "/leaked" in sys.path,
        "timeout": socket.getdefaulttimeout(),
    }


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@handler("leave-thread")
def leave_thread(job: JobContext, record: str) -> None:
    def tick() -> None:
        while True:
            try:
                job.step("from the grave")
            except RuntimeError as error:
                _write(record, error)
                return
            time.sleep(0.01)

    threading.Thread(target=tick, name="ticker", daemon=True).start()


@handler("leave-idle-thread")
def leave_idle_thread(job: JobContext) -> int:
    threading.Thread(target=time.sleep, args=(3600,), name="sleeper", daemon=True).start()
    return os.getpid()


@handler("leave-orphan")
def leave_orphan(job: JobContext, record: str) -> None:
    """In a process that was told to adopt no orphans."""
    ctypes.CDLL(None).prctl(36, 0)  # PR_SET_CHILD_SUBREAPER
    subprocess.run(["sh", "-c", f"setsid sleep 3600 & echo $! >> {record}"], check=True)


@handler("leave-clone")
def leave_clone(job: JobContext, record: str) -> None:
    """A copy for whose end nobody is told: waitpid(2) does not see it, unless it is asked to."""
    clone = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
    if ctypes.CDLL(None).syscall(clone, 0, 0, 0, 0, 0) == 0:
        _write(record, os.getpid())
        time.sleep(3600)
    _wait_for(record, 1)


@handler("fork-and-return")
def fork_and_return(job: JobContext, record: str, seconds: float = 0.5) -> str:
    if os.fork() == 0:
        _write(record, os.getpid())
        with contextlib.suppress(RuntimeError):
            job.step("from the copy")
        return "child"
    time.sleep(seconds)
    return "parent"


@handler("fork-and-return-async")
async def fork_and_return_async(job: JobContext, record: str, seconds: float = 0.5) -> str:
    if os.fork() == 0:
        _write(record, os.getpid())
        return "child"
    await asyncio.sleep(seconds)
    return "parent"


@handler("fork-and-stay")
def fork_and_stay(job: JobContext, record: str, seconds: float = 0.0) -> str:
    if os.fork() == 0:
        _write(record, os.getpid())
        time.sleep(3600)
    _wait_for(record, 1)
    time.sleep(seconds)
    return "parent"


def _sleep_for_ever(record: str) -> None:
    _write(record, os.getpid())
    time.sleep(3600)


def _wait_for(record: str, lines: int) -> None:
    until = time.monotonic() + 20
    while not Path(record).exists() or len(Path(record).read_text().splitlines()) < lines:
        assert time.monotonic() < until
        time.sleep(0.01)


_SHELL = 'echo $$ >> "$0"; exec sleep 3600'
WAYS = ("popen", "shell", "setsid", "double", "daemon", "no-environment", "multiprocessing", "nohup")


def _start(way: str, record: str) -> None:
    """A process that lives for an hour and writes its number into the record."""
    command = ["sh", "-c", _SHELL, record]
    if way == "popen":
        subprocess.Popen(command)
    elif way == "shell":
        subprocess.Popen("sh -c '" + _SHELL.replace("$0", record) + "' & wait", shell=True)
    elif way == "setsid":
        subprocess.Popen(command, start_new_session=True)
    elif way == "double":
        subprocess.run(["sh", "-c", f"sh -c '{_SHELL.replace('$0', record)}' &"], check=True)
    elif way == "daemon":
        pid = os.fork()
        if pid == 0:
            os.setsid()
            if os.fork() == 0:
                os.closerange(3, 256)
                os.execvp("sh", command)
            os._exit(0)
        os.waitpid(pid, 0)
    elif way == "no-environment":
        subprocess.run(
            ["setsid", "sh", "-c", f"sh -c '{_SHELL.replace('$0', record)}' &"], env={"PATH": os.environ["PATH"]},
            check=True,
        )  # fmt: skip
    elif way == "multiprocessing":
        multiprocessing.get_context("fork").Process(target=_sleep_for_ever, args=(record,)).start()
    elif way == "nohup":
        subprocess.Popen(["nohup", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@handler("leave-processes")
def leave_processes(job: JobContext, record: str, end: str = "return") -> str:
    """Starts processes in all ways, and then ends in one."""
    for number, way in enumerate(WAYS, 1):
        _start(way, record)
        _wait_for(record, number)
    job.step("started all")
    if end == "raise":
        raise ValueError("and raises")
    if end == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if end == "stay":
        time.sleep(3600)
    while end == "speak":
        job.step("still here")
        time.sleep(0.001)
    return "left them"


@handler("keep-processes")
def keep_processes(job: JobContext, record: str, until: str) -> int:
    """Starts processes in all ways and keeps them until a file is there: how many of them live then."""
    for number, way in enumerate(WAYS, 1):
        _start(way, record)
        _wait_for(record, number)
    _wait_for(until, 1)
    return sum(Path(f"/proc/{pid}").exists() for pid in Path(record).read_text().splitlines())


@handler("killed-leader")
def killed_leader(job: JobContext, record: str) -> None:
    """Its copies live on with all that was open, as after an OOM kill."""
    multiprocessing.get_context("fork").Process(target=_sleep_for_ever, args=(record,)).start()
    _wait_for(record, 1)
    os.kill(os.getpid(), signal.SIGKILL)


class Colour(enum.StrEnum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int


class Model(BaseModel):
    at: dt.date


def _deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def _cycle() -> list[Any]:
    cycle: list[Any] = []
    cycle.append(cycle)
    return cycle


class Rude(Exception):
    def __str__(self) -> str:  # noqa: PLE0307 - it does not return at all
        sys.exit("not even my text")


class Ruder(BaseException):
    @property
    def __notes__(self) -> Any:  # type: ignore[override]
        raise ZeroDivisionError

    def __str__(self) -> str:
        return "caf\udce9\x00"


class _Nothing(type):
    """Its classes do not say what they are."""

    def __getattribute__(cls, name: str) -> Any:
        raise ZeroDivisionError


class Nameless(Exception, metaclass=_Nothing):
    pass


class Odd(Exception):
    __module__ = 5  # type: ignore[assignment]
    __qualname__ = "\ud800.\x00"


class Wordless(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value] # noqa: PLE0307


class Circular(Exception):
    def __str__(self) -> str:
        return str(self)


class Endless(Exception):
    def __str__(self) -> str:  # noqa: PLE0307 - it does not return at all
        while True:
            pass


class _Word(str):
    __slots__ = ()

    def _never(self, *_: Any) -> Any:
        raise ZeroDivisionError

    __format__ = __bool__ = __len__ = __getitem__ = isascii = _never


class Wordy(Exception):
    def __str__(self) -> str:
        return _Word("caf\udce9")


class WordyForGood(Wordy, PermanentError):
    pass


class TwoFaced(Exception):
    def __getattribute__(self, name: str) -> Any:
        raise ZeroDivisionError

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise ZeroDivisionError


def _too_late(*_: object) -> None:
    raise TimeoutError("this took too long")


class Interrupted(Mapping[str, int]):
    """The handler's alarm goes off in the moment in which its result is read."""

    def __iter__(self) -> Any:
        signal.signal(signal.SIGALRM, _too_late)
        signal.raise_signal(signal.SIGALRM)

    def __len__(self) -> int:
        return 1

    def __getitem__(self, _: str) -> int:
        return 1


VALUES: dict[str, Any] = {
    "interrupted": Interrupted(),
    "fraction": fractions.Fraction(10**400, 3),
    "huge": 10**400,
    "deep": _deep(300),
    "just deep enough": _deep(60),
    "nan": float("nan"),
    "object": object(),
    "cycle": _cycle(),
    "generator": (n for n in range(3)),
    "list": [1, 2],
    "set of bytes": {b"\xff"},
    "number keys": {1: 2},
    "large": {"x": "😀" * 20_000},
    "file name": os.fsdecode(b"caf\xe9"),
    "nul": "a\x00b\x1b[31m",
    "rich": {
        "when": dt.datetime(2026, 11, 27, 8, tzinfo=dt.UTC),
        "id": uuid.UUID(int=1),
        "price": decimal.Decimal("1.10"),
        "colour": Colour.RED,
        "path": Path("/a"),
        "point": Point(1),
        "model": Model(at=dt.date(2026, 11, 27)),
        "pair": (1, {2}),
    },
    "model": Model(at=dt.date(2026, 11, 27)),
}
ERRORS: dict[str, type[BaseException]] = {
    "file name": ValueError, "rude": Rude, "ruder": Ruder, "interrupt": KeyboardInterrupt, "close": GeneratorExit,
    "stop": StopIteration, "base": BaseException, "cancelled": asyncio.CancelledError, "nameless": Nameless, "odd": Odd,
    "wordless": Wordless, "circular": Circular, "endless": Endless, "wordy": Wordy, "wordy for good": WordyForGood,
    "two-faced": TwoFaced,
}  # fmt: skip


@handler("return-value")
def return_value(job: JobContext, which: str) -> Any:
    return VALUES[which]


@handler("step-data")
def step_data(job: JobContext, which: str) -> None:
    job.step("with data", data=VALUES[which])


@handler("step-message")
def step_message(job: JobContext, which: str) -> None:
    job.step(VALUES[which])


@handler("step-progress")
def step_progress(job: JobContext, progress: Any = 0.5) -> None:
    job.step("x", progress=progress)


@handler("raise-error")
def raise_error(job: JobContext, which: str) -> None:
    if which == "group":
        raise ExceptionGroup("two", [ValueError("caf\udce9"), Rude()])
    raise ERRORS[which](os.fsdecode(b"caf\xe9"))


@handler("raise-too-late")
def raise_too_late(job: JobContext) -> None:
    """As an alarm may do it that goes off when the handler has returned."""

    def at_the_end(frame: FrameType, event: str, _: Any) -> None:
        if (frame.f_code.co_name, event) == ("_execute", "return"):
            _too_late()

    sys.setprofile(at_the_end)


@handler("fail-deep")
def fail_deep(job: JobContext) -> None:
    _inner()


def _inner() -> None:
    raise ValueError("here")


@handler("fail-async")
async def fail_async(job: JobContext) -> None:
    await asyncio.sleep(0)
    _inner()


@handler("change-surroundings")
def change_surroundings(job: JobContext) -> int:
    os.chdir("/")
    os.environ["LEAKED"] = "1"
    os.environ.pop("PATH")
    os.umask(0o077)
    sys.path.insert(0, "/leaked")
    sys.argv.append("leaked")
    sys.stdout = None
    socket.setdefaulttimeout(0.001)
    faulthandler.dump_traceback_later(0.3, exit=True)
    signal.signal(signal.SIGALRM, lambda *_: os._exit(9))
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    return os.getpid()


@handler("use-memory")
def use_memory(job: JobContext, mebibytes: int) -> int:
    _kept.append(bytearray(os.urandom(1 << 20) * mebibytes))
    return os.getpid()


_kept: list[bytearray] = []


@handler("look-for-keys")
def look_for_keys(job: JobContext) -> dict[str, Any]:
    def environment(pid: int | str) -> str:
        return Path(f"/proc/{pid}/environ").read_text(errors="replace")

    guardians = [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if _parent(path.parent) == os.getppid() and b"guardian_process.py" in path.read_bytes()
    ]
    return {
        "mine": "JOBLEASE_AMQP_URL" in environment("self") or "JOBLEASE_STORAGE" in environment("self"),
        "guardians": [environment(pid) for pid in guardians],
    }


def _parent(folder: Path) -> int:
    try:
        return int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


@handler("log-lines")
def log_lines(job: JobContext) -> None:
    log = logging.getLogger("my.module")
    log.debug("too low to be seen")
    log.info("as information")
    log.error("as an error")


@handler("write-into-socket")
def write_into_socket(job: JobContext, text: str) -> str:
    """What no handler should, and any can: its process has only one socket."""
    for fd in range(3, 64):
        with contextlib.suppress(OSError):
            if str(Path(f"/proc/self/fd/{fd}").readlink()).startswith("socket:"):
                os.write(fd, text.encode())
    return "wrote"


@handler("close-everything")
def close_everything(job: JobContext) -> str:
    os.closerange(3, 256)
    threading.Thread(target=time.sleep, args=(3600,)).start()  # Python would wait for it before it ends
    return "closed"


@handler("fail-for-good-here")
def fail_for_good_here(job: JobContext) -> None:
    raise PermanentError("the input is broken")


def _close_output() -> None:
    os.close(1)


def _replace_output() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _set_context() -> None:
    _customer.set("somebody")
    decimal.getcontext().prec = 4


def _set_time_zone() -> None:
    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()


def _reconfigure_output() -> None:
    sys.stdout.reconfigure(encoding="ascii", errors="strict")  # type: ignore[union-attr]


def _replace_environment() -> None:
    os.environ = dict(os.environ, LEAKED="1")  # type: ignore[assignment] # noqa: B003 - as it is done


def _change_interpreter() -> None:
    gc.disable()
    sys.setswitchinterval(100)
    sys.setrecursionlimit(sys.getrecursionlimit() // 4)
    sys.setprofile(lambda *_: None)


def _open_files() -> None:
    with contextlib.suppress(OSError):
        while True:
            _files.append(os.open(os.devnull, os.O_RDONLY))


_files: list[int] = []


def _reset_signals() -> None:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError):
            signal.signal(number, signal.SIG_DFL)


def _close_memory() -> None:
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if "memfd:where" in str(link.readlink()):
                os.close(int(link.name))


def _stop_the_clock() -> None:
    time.monotonic = lambda: 0.0
    threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()


def _move_temporary_files() -> None:
    folder = tempfile.mkdtemp()
    os.environ["TMPDIR"], tempfile.tempdir = folder, None
    with tempfile.TemporaryFile():
        pass
    Path(folder).rmdir()


def _configure_logging() -> None:
    logging.config.dictConfig({"version": 1})  # as most programs do it: it silences the loggers that are there
    logging.getLogger("new").addHandler(logging.NullHandler())
    logging.getLogger("new").propagate = False


class _NoLoops(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        raise AssertionError("this is another job's")


def _spoil_loops() -> None:
    asyncio.set_event_loop_policy(_NoLoops())


def _be_in_a_loop() -> None:
    asyncio._set_running_loop(asyncio.new_event_loop())


def _schedule_otherwise() -> None:
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _replace_functions() -> None:
    vars(json).update(loads=None, dumps=None)
    time.time = lambda: 0.0


def _clear_modules() -> None:
    for name in ("json", "time", "os"):
        del sys.modules[name]


CHANGES: dict[str, Callable[[], object]] = {
    "close output": _close_output,
    "replace output": _replace_output,
    "reconfigure output": _reconfigure_output,
    "output that does not block": lambda: os.set_blocking(1, False),
    "context": _set_context,
    "files": _open_files,
    "clock": _stop_the_clock,
    "time zone": _set_time_zone,
    "environment": _replace_environment,
    "interpreter": _change_interpreter,
    "logging": lambda: logging.disable(logging.CRITICAL),
    "priority": lambda: os.nice(3),
    "processors": lambda: os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]),
    "profiling timer": lambda: signal.setitimer(signal.ITIMER_PROF, 0.2),
    "signal mask": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1]),
    "all signals": _reset_signals,
    "all stack dumps": lambda: [*map(faulthandler.unregister, range(signal.SIGRTMIN, signal.SIGRTMAX))],
    "memory that is not its own": _close_memory,
    "stack dumps": lambda: faulthandler.register(signal.SIGUSR1),
    "soft limit": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.getrlimit(resource.RLIMIT_FSIZE)[1])),
    "temporary files": _move_temporary_files,
    "warnings": lambda: warnings.simplefilter("error"),
    "loggers": _configure_logging,
    "chance": lambda: random.seed(42),
    "event loops": _spoil_loops,
    "a loop": _be_in_a_loop,
    "garbage": lambda: gc.set_threshold(0),
    "scheduling": _schedule_otherwise,
    "functions": _replace_functions,
    "modules": _clear_modules,
    "handlers": handlers._registry.clear,
    "hard limit": lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
}
"""What the next job would suffer from."""


@handler("change")
def change(job: JobContext, what: str) -> None:
    CHANGES[what]()


def _warns() -> bool:
    try:
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    except DeprecationWarning:
        return True
    return False


async def _in_a_loop() -> bool:
    return True


@handler("look-around")
def look_around(job: JobContext, folder: str) -> dict[str, Any]:
    """The innocent one behind: all that the others change."""
    busy_until = time.process_time() + 0.3
    while time.process_time() < busy_until:
        pass
    logging.getLogger("mine").error("a line of the log")
    file = Path(folder) / "mine"
    with file.open("w") as mine:
        print("a line of output: é", flush=True)
        mine.write("x" * 100)
    return {
        "written": file.read_text() == "x" * 100,
        "output": [os.get_blocking(1), sys.stdout.encoding],
        "context": [_customer.get(), str(decimal.Decimal(1) / 3)],
        "time zone": list(time.tzname),
        "environment": "LEAKED" in os.environ,
        "temporary": tempfile.mkdtemp() != "",
        "warnings": _warns(),
        "loggers": [logging.getLogger("new").propagate, len(logging.getLogger("new").handlers)],
        "chance": random.random() == random.Random(42).random(),
        "loop": asyncio.run(_in_a_loop()),
        "garbage": list(gc.get_threshold()),
        "scheduling": os.sched_getscheduler(0),
        "functions": [time.time() > 0, json.loads("1"), "json" in sys.modules],
        "interpreter": [gc.isenabled(), sys.getswitchinterval(), sys.getrecursionlimit(), sys.getprofile() is None],
        "priority": [os.nice(0), len(os.sched_getaffinity(0))],
        "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "limits": [resource.getrlimit(number) for number in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE)],
    }


@handler("clean-up")
def clean_up(job: JobContext, record: str) -> None:
    job.step("began")
    try:
        time.sleep(60)
    except JobCancelled:
        _write(record, os.getpid())
        raise


@handler("leave-thread-with-a-known-number")
def leave_thread_with_a_known_number(job: JobContext) -> int:
    (old,) = (thread for thread in threading.enumerate() if thread.name == "warm-up")
    _until_asked.set()
    old.join()
    others: list[tuple[threading.Thread, threading.Event]] = []
    while True:  # until one gets the number
        end = threading.Event()
        thread = threading.Thread(target=end.wait, args=(3600,), name="sleeper", daemon=True)
        thread.start()
        if thread.ident == old.ident:
            break
        others.append((thread, end))
        assert len(others) < 100
    for other, end in others:
        end.set()
        other.join()
    return os.getpid()


@handler("import-from")
def import_from(job: JobContext, folder: str) -> str:
    sys.path.insert(0, folder)
    module = importlib.import_module("of_one_job")
    return str(module.whose)


@handler("send-signal")
def send_signal(job: JobContext) -> int:
    with subprocess.Popen(["sleep", "30"]) as process:
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        try:
            return process.wait(3)
        finally:
            process.kill()


@handler("lose-connection")
def lose_connection(job: JobContext) -> None:
    os.closerange(3, 256)
    _sockets.extend(each for _ in range(32) for each in socket.socketpair())


_sockets: list[socket.socket] = []


@handler("print-lines")
def print_lines(job: JobContext, count: int) -> None:
    for _ in range(0, count, 1_000):
        print("\n" * 1_000, end="")


@handler("out-of-memory")
def out_of_memory(job: JobContext) -> None:
    raise MemoryError("Unable to allocate 7 TiB")
