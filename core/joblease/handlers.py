"""What the author of a handler uses: `@handler`, `JobContext`, and three ways to end.

A handler is an ordinary function, sync or async. Returning ends the job `Completed`, with the returned JSON as its
result; raising lets the retry policy decide; raising `PermanentError` ends it `Failed` at once. Everything here is
plain data and calls: a handler can be unit-tested by calling it with a `JobContext` of one's own.
"""

import importlib
import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

ENTRY_POINTS = "joblease.handlers"
MODULES_VARIABLE = "JOBLEASE_HANDLERS"


class PermanentError(Exception):
    """Raised by a handler: the job has failed, and another attempt would fail too."""


class JobCancelled(BaseException):
    """Raised inside a handler that is to stop: the job was cancelled, or this worker shuts down.

    A `BaseException`, like `asyncio.CancelledError`, so that an `except Exception` in a handler does not swallow it.
    Clean up and let it pass; after a grace period the process is killed.
    """


def _ignore(_: Mapping[str, Any]) -> None:
    """The report of a context that nobody listens to (a unit test's)."""


@dataclass(slots=True)
class JobContext:
    """The job that a handler runs, and its voice."""

    id: str
    name: str = ""
    namespace: str = "default"
    handler: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    input_file_path: str | None = None
    description: str | None = None
    attempt: int = 1
    """1 for the first attempt."""
    epoch: int = 1
    """Rises each time the job is claimed: send it along to make a side effect safe against an older run."""
    worker: str = ""
    traceparent: str = ""
    """W3C trace context of this run."""
    cancelled: bool = False
    """True once the handler is asked to stop."""
    report: Callable[[Mapping[str, Any]], None] = _ignore
    """Where steps go; the worker sets it."""
    _steps: int = 0

    def step(self, message: str = "", *, progress: float | None = None, data: Mapping[str, Any] | None = None) -> None:
        """Record a step in the audit trail. It does not wait for storage.

        `progress` is the part done, 0 to 1. `data` is a small JSON object (16 KiB at most). Raises `JobCancelled` when
        the handler is to stop.
        """
        if self.cancelled:
            raise JobCancelled
        if progress is not None and not 0 <= progress <= 1:
            raise ValueError(f"progress is a part of 1, from 0 to 1, not {progress}")
        self._steps += 1
        self.report({"step": self._steps, "message": message, "progress": progress, "data": data})


class UnknownHandler(Exception):
    """No handler of this name was found."""


_registry: dict[str, Callable[..., Any]] = {}


def handler(name: str) -> Callable[[F], F]:
    """Register a function as the handler `name`.

    Its first argument is the `JobContext`; the others are taken from the job's parameters by name, converted and
    checked against their annotations. Parameters that the function does not name stay in `job.parameters`.
    """

    def register(function: F) -> F:
        known = _registry.get(name)
        if known is not None and known.__module__ != function.__module__:
            raise ValueError(f"handler {name!r} is defined twice: in {known.__module__} and in {function.__module__}")
        if not inspect.signature(function).parameters:
            raise TypeError(f"handler {name!r} takes no argument: its first one is the JobContext")
        _registry[name] = function
        return function

    return register


def find(name: str) -> Callable[..., Any]:
    """The handler of that name. Raises `UnknownHandler`."""
    try:
        return _registry[name]
    except KeyError:
        raise UnknownHandler(f"no handler {name!r}; known here: {', '.join(sorted(_registry)) or 'none'}") from None


def load_handlers(modules: Iterable[str] | None = None) -> list[str]:
    """Import all handlers and return their names.

    They come from entry points of the group `joblease.handlers` and from the modules in `JOBLEASE_HANDLERS`
    (comma-separated). An import that fails is raised: a worker without its handlers must not start.
    """
    if modules is None:
        modules = [name.strip() for name in os.environ.get(MODULES_VARIABLE, "").split(",") if name.strip()]
    for entry_point in entry_points(group=ENTRY_POINTS):
        entry_point.load()
    for module in modules:
        importlib.import_module(module)
    return sorted(_registry)
