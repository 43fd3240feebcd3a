"""The last event of a run: what its handler's end and the order to stop make of the job."""

from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from typing import Any

from joblease import backoff
from joblease.handlers import GIVEN
from joblease.messages import JobMessage, Status, now, rfc3339
from joblease.states import Kind, State
from joblease.trail import NewEvent

from joblease_worker.ending import DIED, STOPPED, UNSTARTED, Ending

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
    if ending.how in GIVEN and State(ending.how).kind is not Kind.FAILED:
        why = None  # the order came too late
    if why is Why.CANCEL:
        text = "cancelled" if ending.how == UNSTARTED else "cancelled while it was running"
        facts = {"error": None if ending.how == DIED else ending.error or None, "traceback": ending.traceback or None}
        return _ended(State.CANCELLED, f"{text}: {_how(ending)}", facts)
    if why is Why.DRAIN:
        return Closing(NewEvent(Status.INTERRUPTED, f"{worker} shuts down; {AGAIN}"), {"state": State.INTERRUPTED})
    if why is None and ending.how == UNSTARTED:
        text = f"{worker} stood still before the handler began; {AGAIN}"
        return Closing(NewEvent(Status.INTERRUPTED, text), {"state": State.INTERRUPTED})
    if why is Why.DEADLINE:
        seconds = message.active_deadline_seconds or 0
        error = f"did not end within activeDeadlineSeconds ({seconds:g} s); {_how(ending)}"
        return _failed(message, attempt, ending, error, State.DEADLINE_EXCEEDED)
    if ending.how in GIVEN:
        return _given(State(ending.how), attempt, ending)
    error = ending.error or "the handler stopped without being asked to"
    return _failed(message, attempt, ending, error, State.FAILED)


def _how(ending: Ending) -> str:
    """What became of a handler that was to stop."""
    if ending.how == UNSTARTED:
        return "the handler had not begun"
    if ending.how == STOPPED:
        return "the handler ended when it was asked to"
    if ending.how == DIED:  # of the kill, or by itself
        return ending.error
    return "the handler ended with an error when it was asked to end"


def _given(outcome: State, attempt: int, ending: Ending) -> Closing:
    """The outcome that the handler has given its job."""
    if outcome.kind is Kind.FAILED:
        facts = {"error": ending.error, "traceback": ending.traceback or None}
        return _ended(outcome, f"attempt {attempt} failed for good: {ending.error}", facts)
    text = f"attempt {attempt} {outcome.kind}" + (f": {ending.error}" if ending.error else "")
    return _ended(outcome, text, {"result": ending.result})


def _failed(message: JobMessage, attempt: int, ending: Ending, error: str, outcome: State) -> Closing:
    """An attempt that failed: another one later, or the job's outcome."""
    retry = message.retry
    facts = {"error": error, "traceback": ending.traceback or None}
    text = f"attempt {attempt} of {retry.max_attempts} failed: {error}"
    if attempt >= retry.max_attempts:
        return _ended(outcome, text, facts)
    pause: timedelta = backoff.delay(retry, attempt)
    due = now() + pause
    text += f"; next attempt in {pause.total_seconds():.0f} s"
    event = NewEvent(Status.RETRYING, text, data=_known({**facts, "nextAttemptAt": rfc3339(due)}))
    return Closing(event, {"state": State.RETRYING, "next_attempt_at": due})


def _ended(outcome: State, text: str, facts: dict[str, Any]) -> Closing:
    """The job's outcome. Several have one word for failure: the reason tells them apart."""
    reason = outcome.value if outcome.kind is Kind.FAILED else None
    progress = 100 if outcome is State.COMPLETED else None
    event = NewEvent(outcome.event, text, progress, _known({**facts, "reason": reason}))
    return Closing(event, {"state": outcome})


def _known(facts: dict[str, Any]) -> dict[str, Any] | None:
    return {name: value for name, value in facts.items() if value is not None} or None
