"""The last event of a run: what its handler's end and the order to stop make of the job."""

from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from typing import Any

from joblease import backoff
from joblease.messages import JobMessage, Status, now, rfc3339
from joblease.states import State
from joblease.trail import NewEvent

from joblease_worker.pool import Ending

UNRECORDED = "unrecorded"
"""A kind of `Ending` that no handler has: storage refuses for good what the handler said."""
UNSTARTED = "unstarted"
"""Another one: the run was to stop before its handler was called."""
AGAIN = "another worker starts the handler again from the beginning; it counts as the same attempt"


class Why(IntEnum):
    """Why a run is stopped before its handler returns; a greater reason replaces a lesser one."""

    DRAIN = 1
    DEADLINE = 2
    CANCEL = 3
    LOST = 4


@dataclass(frozen=True, slots=True)
class Closing:
    """An event, and where it leaves the job: changes of its head."""

    event: NewEvent
    changes: dict[str, Any]


def closing(message: JobMessage, attempt: int, worker: str, ending: Ending, why: Why | None) -> Closing:
    """How an attempt ends, unless its lease was lost: then the next claim says so."""
    if ending.kind == "completed":
        data = None if ending.result is None else {"result": ending.result}
        event = NewEvent(Status.COMPLETED, f"attempt {attempt} completed", 100, data)
        return Closing(event, {"state": State.COMPLETED})
    if why is Why.CANCEL:
        text = "cancelled" if ending.kind == UNSTARTED else "cancelled while it was running"
        event = NewEvent(Status.CANCELLED, f"{text}: {_how(ending)}", data=_facts(ending))
        return Closing(event, {"state": State.CANCELLED})
    if why is Why.DRAIN:
        return Closing(NewEvent(Status.INTERRUPTED, f"{worker} shuts down; {AGAIN}"), {"state": State.INTERRUPTED})
    if why is Why.DEADLINE:
        seconds = message.active_deadline_seconds or 0
        error = f"did not end within activeDeadlineSeconds ({seconds:g} s); {_how(ending)}"
        return _failure(message, attempt, ending, error, State.DEADLINE_EXCEEDED)
    error = ending.error or "the handler stopped without being asked to"
    return _failure(message, attempt, ending, error, State.FAILED)


def _how(ending: Ending) -> str:
    """What became of a handler that was to stop."""
    if ending.kind == UNSTARTED:
        return "the handler had not begun"
    if ending.kind == "stopped":
        return "the handler ended when it was asked to"
    if ending.kind == "died":  # of the kill, or by itself
        return ending.error
    return "the handler ended with an error when it was asked to end"


def _facts(ending: Ending) -> dict[str, Any] | None:
    facts = {"error": ending.error if ending.kind == "failed" else "", "traceback": ending.traceback}
    return {name: value for name, value in facts.items() if value} or None


def _failure(message: JobMessage, attempt: int, ending: Ending, error: str, outcome: State) -> Closing:
    """A failed attempt: another one later, or the job's outcome."""
    retry = message.retry
    data: dict[str, Any] = {"error": error}
    if ending.traceback:
        data["traceback"] = ending.traceback
    for_good = ending.permanent and outcome is State.FAILED
    if for_good:
        text = f"attempt {attempt} failed for good (PermanentError): {error}"
    elif ending.kind == UNRECORDED:
        text = f"attempt {attempt} failed for good: {error}"
    else:
        text = f"attempt {attempt} of {retry.max_attempts} failed: {error}"
    if for_good or ending.kind == UNRECORDED or attempt >= retry.max_attempts:
        data["reason"] = outcome.value
        return Closing(NewEvent(Status.FAILED, text, data=data), {"state": outcome})
    pause: timedelta = backoff.delay(retry, attempt)
    due = now() + pause
    data["nextAttemptAt"] = rfc3339(due)
    text += f"; next attempt in {pause.total_seconds():.0f} s"
    return Closing(NewEvent(Status.RETRYING, text, data=data), {"state": State.RETRYING, "next_attempt_at": due})
