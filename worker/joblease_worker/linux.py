"""What only Linux knows of a process, and Python does not offer: prctl(2)."""

import ctypes
import signal

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4
_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37

_prctl = ctypes.CDLL(None).prctl


def on_parents_death(number: signal.Signals) -> None:
    """Let the kernel send this process a signal when the thread that started it ends."""
    _prctl(_PR_SET_PDEATHSIG, number)


def adopt_orphans() -> None:
    """Become the parent of all processes further down whose parent dies, as init is elsewhere."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def adopts_orphans() -> bool:
    """Whether `adopt_orphans` was called in this process."""
    answer = ctypes.c_int()
    _prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(answer))
    return bool(answer.value)


def hide_memory() -> None:
    """Keep other processes of the same user from this one's memory and environment (root's and debuggers' can).

    It ends with the next exec, so that what this process starts is not hidden.
    """
    _prctl(_PR_SET_DUMPABLE, 0)
