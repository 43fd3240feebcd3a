"""What is told of an exception that a handler raised, whatever it is and however it behaves."""

import os
import resource
import traceback
from collections.abc import Callable
from pathlib import Path
from signal import ITIMER_REAL, SIGALRM, setitimer
from signal import signal as set_handler  # by name: a handler's module may put another one in its place
from types import TracebackType
from typing import Any

from joblease import values
from joblease.handlers import ENDINGS
from joblease.limits import MAX_STEP_MESSAGE

from joblease_worker.ending import RAISED

MAX_TRACEBACK = 8_000
"""Characters; the last ones are kept."""
ASK_SECONDS = 2.0
"""For an exception to say what it is."""
_NAME: Any = type.__dict__["__name__"]
_TRACEBACK: Any = BaseException.__dict__["__traceback__"]
_NOT_THE_HANDLERS = tuple(
    map(str, (Path(__file__).parent, Path(os.__file__).parent / "asyncio", Path(values.__file__)))
)
"""Where frames come from that lead to a handler."""


def failure(error: BaseException) -> dict[str, Any]:
    """The fields of `Ended`, less the run. To be called in the main thread: it takes SIGALRM over."""
    kind, frames = type(error), _from_the_handler(_TRACEBACK.__get__(error))
    how = next((outcome for raised, outcome in ENDINGS.items() if issubclass(kind, raised)), RAISED)
    message, worse = _ask(lambda: _message(error, named=how == RAISED))
    if worse:
        message = f"{_name(kind)} (its text cannot be read: {worse} in __str__)"
    text, worse = _ask(lambda: "".join(traceback.format_exception(kind, error, frames)))
    if worse:  # in a __notes__, a __cause__, a metaclass, a source file
        text = "".join(traceback.format_tb(frames)) + f"{_name(kind)} (more cannot be written: {worse})"
    text = values.printable(text)
    if len(text) > MAX_TRACEBACK:
        text = "…" + text[1 - MAX_TRACEBACK :]
    return {"how": how, "error": values.printable(message, MAX_STEP_MESSAGE), "traceback": text}


def _ask(tell: Callable[[], str]) -> tuple[str, str]:
    """What `tell` returns; else, the name of what it raised, instead of returning or after `ASK_SECONDS`.

    It calls the handler's code, such as the exception's `__str__`, which may do anything.
    """

    def too_long(*_: object) -> None:
        raise TimeoutError

    set_handler(SIGALRM, too_long)  # whatever the handler has set it to: until its surroundings are put back
    try:
        setitimer(ITIMER_REAL, ASK_SECONDS)
        return tell(), ""
    except BaseException as worse:  # noqa: BLE001 - see above
        return "", _name(type(worse))
    finally:
        setitimer(ITIMER_REAL, 0)


def _message(error: BaseException, *, named: bool) -> str:
    kind, name, text = type(error), _name(type(error)), str.__str__(str(error))[: MAX_STEP_MESSAGE + 1]
    if not named:
        return text or name
    if issubclass(kind, MemoryError):
        limit = resource.getrlimit(resource.RLIMIT_DATA)[0]
        if limit == resource.RLIM_INFINITY:
            return f"MemoryError: {text}" if text else "MemoryError: the handler wanted more than there is"
        limit >>= 20
        return f"MemoryError: the handler wanted more than JOBLEASE_JOB_MEMORY_LIMIT_MIB={limit} allows"
    if issubclass(kind, SystemExit):
        return f"the handler called sys.exit({getattr(error, 'code', None)!r})"
    return f"{name}: {text}" if text else name


def _name(kind: type) -> str:
    """As the class statement had it: its metaclass may say something else, or nothing at all."""
    return str.__str__(_NAME.__get__(kind))


def _from_the_handler(frames: TracebackType | None) -> TracebackType | None:
    """The traceback without the frames that led to the handler: they say nothing about its error."""
    while frames and frames.tb_frame.f_code.co_filename.startswith(_NOT_THE_HANDLERS):
        frames = frames.tb_next
    return frames
