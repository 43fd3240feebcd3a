"""How a run ends: an outcome that its handler gives (`joblease.handlers.GIVEN`), or one of the words below."""

import signal
from dataclasses import dataclass
from typing import Any

RAISED = "raised"
"""The handler has raised something: the retry policy decides what becomes of the job."""
STOPPED = "stopped"
"""It has ended before its end, as it was asked to."""
DIED = "died"
"""Its process has ended first."""
UNSTARTED = "unstarted"
"""It was not called: it was to stop before that, or its leases were over."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended."""

    how: str
    result: Any = None
    error: str = ""
    traceback: str = ""


def died(code: int | None) -> str:
    """What an exit code says; None is that of a process that does not end."""
    if code is None:
        return "the handler's process hangs"
    if code >= 0:
        return f"the handler's process ended by itself with exit code {code}"
    return f"the handler's process {killed(code)}"


def killed(code: int) -> str:
    """What a negative exit code says."""
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = ": out of memory, most likely" if name == "SIGKILL" else ""
    return f"was killed by {name}{hint}"
