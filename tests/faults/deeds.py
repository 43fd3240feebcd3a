"""What a handler can do to its process, its worker and the trail, apart from its work."""

import os
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from faults.record import Record
from joblease import JobContext

LONG = 3600
NOT_UTF8 = os.fsdecode(b"caf\xe9")
FLOOD_STEPS, FLOOD_EMOJI, FLOOD_DATA = 80, 4_000, 15_000

Deed = Callable[[JobContext, Record], Any]
"""Done before the steps; what it returns goes into the handler's result, and what it raises is the run's end."""


def talk_for_ever(_: JobContext, notes: Record) -> None:
    """A thread that outlives the handler, and goes on to report."""

    def talk() -> None:
        while True:
            time.sleep(0.1)
            notes.step("a thread goes on")

    threading.Thread(target=talk, daemon=True).start()


def child(_: JobContext, notes: Record) -> None:
    notes.start(["sleep", str(LONG)])


def session(_: JobContext, notes: Record) -> None:
    """A process that is out of the handler's process group."""
    notes.start(["sleep", str(LONG)], start_new_session=True)


def daemon(_: JobContext, notes: Record) -> None:
    """A process of another session whose parent has ended, as daemons are."""
    ours, theirs = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if (pid := os.fork()) == 0:
            os.execvp("sleep", ["sleep", str(LONG)])
        os.write(theirs, str(pid).encode())
        os._exit(0)
    os.wait()
    notes.started(int(os.read(ours, 20)))
    os.close(ours)
    os.close(theirs)


def copy(_: JobContext, notes: Record) -> None:
    """A copy of the handler's process, with all that it has open, which stays where it is."""
    if notes.fork() == 0:
        time.sleep(LONG)
        os._exit(0)


def flood(_: JobContext, notes: Record) -> None:
    """More at once than storage takes in one transaction."""
    for _number in range(FLOOD_STEPS):
        notes.step("\N{GRINNING FACE}" * FLOOD_EMOJI, data={"text": "a" * FLOOD_DATA})


def not_utf8(_: JobContext, notes: Record) -> str:
    """A file name that is not UTF-8, as Python hands it out, wherever text can be."""
    notes.step(NOT_UTF8, data={"name": NOT_UTF8, NOT_UTF8: "\0"})
    return NOT_UTF8


def not_utf8_error(*_: object) -> None:
    raise ValueError(NOT_UTF8)


def list_as_data(job: JobContext, _: Record) -> None:
    job.step("a list", data=[1, 2])  # type: ignore[arg-type]


def deep(*_: object) -> Any:
    value: Any = 0
    for _number in range(300):
        value = [value]
    return value


def leave(*_: object) -> None:
    sys.exit("enough")


DEEDS: dict[str, Deed] = {
    "thread": talk_for_ever,
    "child": child,
    "session": session,
    "daemon": daemon,
    "copy": copy,
    "flood": flood,
    "not-utf8": not_utf8,
    "not-utf8-error": not_utf8_error,
    "list-as-data": list_as_data,
    "deep": deep,
    "large-number": lambda *_: 10**400,
    "no-number": lambda *_: float("nan"),
    "date": lambda *_: datetime.now(UTC),
    "object": lambda *_: object(),
    "sys-exit": leave,
}
FAILS = {"not-utf8-error", "list-as-data", "deep", "large-number", "no-number", "object", "sys-exit"}
"""Those that a job fails by, in each attempt; all others do no harm to it."""
RETURNING_COPY = "returning-copy"
"""The deed that only the handler itself can do: a copy of its process returns from it, and it goes on."""
