"""What the author of a handler uses: `@handler`, `JobContext`, and the ways to end.

A handler is an ordinary function, sync or async. Returning ends the job `Completed`, with the returned JSON as its
result; raising lets the retry policy decide, unless it is one of `ENDINGS`, which end the job at once. Everything here
is plain data and calls: a handler can be unit-tested by calling it with a `JobContext` of one's own.
"""

import functools
import importlib
import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from joblease import values
from joblease.limits import MAX_NAME, NAME_PATTERN, is_name
from joblease.states import State
from joblease.written_policy import written

if TYPE_CHECKING:
    from joblease.policy import HandlerPolicy

F = TypeVar("F", bound=Callable[..., Any])

ENTRY_POINTS = "joblease.handlers"
MODULES_VARIABLE = "JOBLEASE_HANDLERS"


class PermanentError(Exception):
    """Raised by a handler: the job has failed, and another attempt would fail too."""


class UnknownHandler(Exception):
    """No handler of this name was found."""


ENDINGS: Mapping[type[Exception], State] = {PermanentError: State.FAILED, UnknownHandler: State.FAILED}
"""What ends the job at once when it is raised, and the outcome. All else that is raised is an attempt that failed."""
GIVEN = frozenset({State.COMPLETED, *ENDINGS.values()})
"""The outcomes that a handler can give its job; the others come from the operator or the worker."""


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
    last_checkpoint: dict[str, Any] | None = None
    """The last one of this job, by this run or an earlier one: go on from there. None: begin at the beginning."""
    cancelled: bool = False
    """True once the handler is asked to stop."""
    report: Callable[[Mapping[str, Any]], None] = _ignore
    """Where steps go (`message`, `progress` and `data` of each), and checkpoints (`checkpoint`). The worker sets it."""

    def step(self, message: str = "", *, progress: float | None = None, data: Mapping[str, Any] | None = None) -> None:
        """Record a step in the audit trail. It does not wait for storage. May be called from any thread of the run.

        `message` is text; 4,000 characters are kept. `progress` is the part done, 0 to 1. `data` is a small JSON object
        (16 KiB at most); dates, UUIDs, dataclasses and the like are written as pydantic writes them. What does not fit
        raises `TypeError` or `ValueError` here. Raises `JobCancelled` when the handler is to stop, and `RuntimeError`
        after the run has ended.
        """
        if self.cancelled:
            raise JobCancelled
        self.report(
            {"message": values.message(message), "progress": values.progress(progress), "data": values.data(data)}
        )

    def checkpoint(self, state: Mapping[str, Any]) -> None:
        """Record how far the run has come; the job's next run finds the last one in `last_checkpoint`.

        `state` is a JSON object (64 KiB at most). It does not wait for storage: it is written with the next step, or
        after some seconds by itself, and of several that wait the last one is. What such a run did after its last
        written checkpoint is done again. Raises as `step` does.
        """
        if self.cancelled:
            raise JobCancelled
        plain = values.checkpoint(state)
        self.report({"checkpoint": plain})
        self.last_checkpoint = plain


_registry: dict[str, Callable[..., Any]] = {}
_policies: dict[str, dict[str, Any]] = {}


def handler(
    name: str,
    *,
    group: str | None = None,
    limit: int | None = None,
    max_attempts: int | None = None,
    deadline: str | int | timedelta | None = None,
) -> Callable[[F], F]:
    """Register a function as the handler `name`, with the policy that its jobs have unless their spec says otherwise.

    Its first argument is the `JobContext`; the others are taken from the job's parameters by name, converted and
    checked against their annotations. Parameters that the function does not name stay in `job.parameters`.

    `group`: concurrency group, in which `{customer}` is the job's parameter `customer`, a text or an integer.
    `limit`: how many jobs of the group may run at once, 1 to 10,000. `max_attempts`: 1 to 100. `deadline` of one
    attempt: seconds, or a text as `2h` or `1h30m`, a year at most.

    Raises `ValueError` for a name that no JobRequest can have and for a bad policy, `TypeError` for what cannot be
    called as a handler.
    """
    if not isinstance(name, str):
        raise TypeError(f"a handler needs a name: @handler('resize-images'), not @handler({name!r})")
    if not is_name(name):
        raise ValueError(
            f"no JobRequest can name the handler {name!r}: a name has at most {MAX_NAME} characters, lower case "
            f"letters, digits, '-', '.' and '_', and begins and ends with a letter or digit ({NAME_PATTERN})"
        )

    try:
        policy = written(group=group, limit=limit, max_attempts=max_attempts, deadline=deadline)
    except (TypeError, ValueError) as error:
        raise type(error)(f"handler {name!r}: {error}") from None

    def register(function: F) -> F:
        _check_signature(name, function)
        known = _registry.get(name)
        if known is not None and _module(known) != _module(function):
            raise ValueError(f"handler {name!r} is defined twice: in {_module(known)} and in {_module(function)}")
        _registry[name], _policies[name] = function, policy
        return function

    return register


def _check_signature(name: str, function: Callable[..., Any]) -> None:
    if not callable(function) or inspect.isclass(function):
        raise TypeError(f"handler {name!r} is no function: {function!r}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"handler {name!r} is a generator (it has a 'yield'), which would never run: use job.step")
    try:
        first, *others = inspect.signature(function).parameters.values()
    except ValueError:
        raise TypeError(f"handler {name!r} takes no argument: its first one is the JobContext") from None
    if first.kind in (first.KEYWORD_ONLY, first.VAR_KEYWORD):
        raise TypeError(f"handler {name!r} takes no positional argument: its first one is the JobContext")
    for other in others:
        if other.kind is other.POSITIONAL_ONLY:
            raise TypeError(f"handler {name!r}: {other.name} is positional-only, but parameters are passed by name")


def _module(function: Any) -> str:
    """Where it was written, also of a `functools.partial`."""
    while isinstance(function, functools.partial):
        function = function.func
    return str(function.__module__)


def find(name: str) -> Callable[..., Any]:
    """The handler of that name. Raises `UnknownHandler`."""
    try:
        return _registry[name]
    except KeyError:
        raise UnknownHandler(f"no handler {name!r}; known here: {', '.join(sorted(_registry)) or 'none'}") from None


def policy_of(name: str) -> "HandlerPolicy | None":
    """The policy that the handler of that name was given, if any."""
    from joblease.policy import HandlerPolicy  # pydantic, which takes longer to import than all else here

    policy = _policies.get(name)
    return HandlerPolicy(**policy) if policy else None


def name_of(function: Callable[..., Any]) -> str:
    """The name that a function is registered as. Raises `TypeError` when it has none, `ValueError` when several."""
    names = [name for name, known in _registry.items() if known is function]
    if not names:
        raise TypeError(f"{function!r} is no handler: register it with @handler('a-name'), or pass a handler's name")
    if len(names) > 1:
        raise ValueError(f"{function!r} is registered as {', '.join(names)}: pass the name that is meant")
    return names[0]


def load_handlers(modules: Iterable[str] | None = None) -> list[str]:
    """Import all handlers and return their names.

    They come from entry points of the group `joblease.handlers` and from the modules in `JOBLEASE_HANDLERS`
    (comma-separated). An import that fails is raised: a worker without its handlers must not start.
    """
    from importlib.metadata import entry_points  # costs a program that only names a handler a tenth of its start

    if modules is None:
        modules = [name.strip() for name in os.environ.get(MODULES_VARIABLE, "").split(",") if name.strip()]
    for entry_point in entry_points(group=ENTRY_POINTS):
        entry_point.load()
    for module in modules:
        importlib.import_module(module)
    return sorted(_registry)
