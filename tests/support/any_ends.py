"""All the ways in which a handler can end, or not end."""

import asyncio
import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from joblease import JobCancelled, PermanentError

from support.any_values import NOT_UTF8, Mute

LONG = 600


def fail(error: BaseException) -> None:
    raise error


def confusing(value: Any) -> ValueError:
    error = ValueError(value)
    error.__cause__ = error.__context__ = ValueError(value)
    error.add_note(NOT_UTF8)
    return error


def wait() -> None:
    time.sleep(LONG)


def ignore_everything() -> None:
    while True:
        with contextlib.suppress(BaseException):
            wait()


def kill(number: int) -> None:
    os.kill(os.getpid(), number)
    wait()


def recurse() -> None:
    recurse()


RAISED: dict[str, type[BaseException]] = {
    "cancelled": JobCancelled,
    "interrupt": KeyboardInterrupt,
    "generator": GeneratorExit,
    "stop": StopIteration,
    "task": asyncio.CancelledError,
    "memory": MemoryError,
    "timeout": TimeoutError,
    "broken": BrokenPipeError,
    "mute": Mute,
}
ENDS: dict[str, Callable[[Any], Any]] = {
    "return": lambda value: value,
    "raise": lambda value: fail(ValueError(value)),
    "permanent": lambda value: fail(PermanentError(value)),
    "cause": lambda value: fail(confusing(value)),
    "group": lambda value: fail(BaseExceptionGroup("many", [KeyboardInterrupt(), ValueError(value)])),
    "sys-exit": sys.exit,
    "exit": os._exit,
    "kill": kill,
    "recurse": lambda _: recurse(),
    "segfault": lambda _: ctypes.string_at(0),
    "hang": lambda _: wait(),
    "stubborn": lambda _: ignore_everything(),
    "spin": lambda _: ctypes.PyDLL(None).sleep(LONG),
    **{kind: lambda _, error=error: fail(error()) for kind, error in RAISED.items()},  # type: ignore[misc]
}
