"""How a run ends, as its worker sees it."""

import signal
from dataclasses import dataclass
from typing import Any

from joblease_worker import frames


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended: `completed`, `failed`, `stopped` (as it was asked to), or `died`."""

    kind: str
    result: Any = None
    error: str = ""
    traceback: str = ""
    permanent: bool = False


def told(ended: frames.Ended) -> Ending:
    """As its process has told."""
    if isinstance(ended, frames.Completed):
        return Ending("completed", result=ended.result)
    if isinstance(ended, frames.Failed):
        return Ending("failed", None, ended.error, ended.traceback, ended.permanent)
    return Ending("stopped")


def died(code: int | None) -> str:
    """What an exit code says; None is that of a process that does not end."""
    if code is None:
        return "the handler's process hangs"
    if code >= 0:
        return f"the handler's process ended by itself with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = ": out of memory, most likely" if name == "SIGKILL" else ""
    return f"the handler's process was killed by {name}{hint}"
