"""What is told of an exception that a handler raised, whatever it is and however it behaves."""

import os
import resource
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

from joblease import values
from joblease.handlers import PermanentError, UnknownHandler
from joblease.limits import MAX_STEP_MESSAGE

MAX_TRACEBACK = 8_000
"""Characters; the last ones are kept."""
_NOT_THE_HANDLERS = tuple(
    map(str, (Path(__file__).parent, Path(os.__file__).parent / "asyncio", Path(values.__file__)))
)
"""Where frames come from that lead to a handler."""


def failure(error: BaseException) -> dict[str, Any]:
    """The fields of `Failed`, less the run."""
    permanent = isinstance(error, PermanentError | UnknownHandler)
    try:
        message = _message(error, permanent=permanent)
    except BaseException as worse:  # noqa: BLE001 - a __str__ may raise anything
        message = f"{type(error).__name__} (its text cannot be read: {type(worse).__name__} in __str__)"
    try:
        text = "".join(traceback.format_exception(type(error), error, _from_the_handler(error.__traceback__)))
    except BaseException as worse:  # noqa: BLE001 - so may a __notes__, a __cause__, a source file
        text = f"{type(error).__name__} (its traceback cannot be written: {type(worse).__name__})"
    text = values.printable(text)
    if len(text) > MAX_TRACEBACK:
        text = "…" + text[1 - MAX_TRACEBACK :]
    return {"error": values.printable(message, MAX_STEP_MESSAGE), "traceback": text, "permanent": permanent}


def _message(error: BaseException, *, permanent: bool) -> str:
    text = str(error)
    if permanent:
        return text or type(error).__name__
    if isinstance(error, MemoryError):
        limit = resource.getrlimit(resource.RLIMIT_DATA)[0]
        if limit == resource.RLIM_INFINITY:
            return f"MemoryError: {text}" if text else "MemoryError: the handler wanted more than there is"
        limit >>= 20
        return f"MemoryError: the handler wanted more than JOBLEASE_JOB_MEMORY_LIMIT_MIB={limit} allows"
    if isinstance(error, SystemExit):
        return f"the handler called sys.exit({error.code!r})"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _from_the_handler(frames: TracebackType | None) -> TracebackType | None:
    """The traceback without the frames that led to the handler: they say nothing about its error."""
    while frames and frames.tb_frame.f_code.co_filename.startswith(_NOT_THE_HANDLERS):
        frames = frames.tb_next
    return frames
