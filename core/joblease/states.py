"""The states of a job: what each one means to every program, in one table.

The audit trail, the conditions of a `JobRequest`, the API, the pages and the command line use the same words. A state
that is added needs a line here and somebody who writes it.

A word that is not in the table comes from a newer release. It is shown as it is and counts as an outcome: the job holds
no slot, and nobody starts it again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Self, get_args

Look = Literal["wait", "busy", "good", "bad", "quiet", "main", "high"]
"""Colour and stroke of a kind: a class in the pages' style, a line of charts, a colour of the command line."""
LOOKS: tuple[Look, ...] = get_args(Look)


class Kind(StrEnum):
    """What a state comes to, for whoever counts or colours jobs. Those after `RUNNING` are what ended jobs come to.

    All but `COMPLETED` and `FAILED` of these count as neither success nor failure.
    """

    look: Look

    def __new__(cls, value: str, look: Look) -> Self:
        """A word and its look."""
        kind = str.__new__(cls, value)
        kind._value_, kind.look = value, look
        return kind

    WAITING = "waiting", "wait"
    RUNNING = "running", "busy"
    COMPLETED = "completed", "good"
    FAILED = "failed", "bad"
    CANCELLED = "cancelled", "quiet"
    UNKNOWN = "unknown", "high"


OUTCOMES = tuple(kind for kind in Kind if kind not in (Kind.WAITING, Kind.RUNNING))
"""What ended jobs are counted as."""


class State(StrEnum):
    """Where a job is. `State(text)` takes any text: see above."""

    UNSUPPORTED = "Unsupported"
    """This operator cannot read the spec: the custom resource is of another release."""
    SUBMITTED = "Submitted"
    """The trail's word for a job that was not admitted yet; which of the next three it is stands beside it."""
    SUSPENDED = "Suspended"
    SCHEDULED = "Scheduled"
    WAITING_FOR_GROUP = "WaitingForGroup"
    QUEUED = "Queued"
    RUNNING = "Running"
    RETRYING = "Retrying"
    INTERRUPTED = "Interrupted"
    """The trail's word for a job that its worker has left: it is queued again, for the same attempt."""
    COMPLETED = "Completed"
    FAILED = "Failed"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    WORKER_CRASHED = "WorkerCrashed"
    CANCELLED = "Cancelled"

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        unknown = str.__new__(cls, value)
        unknown._name_, unknown._value_ = value, value
        return unknown

    @property
    def kind(self) -> Kind:
        """What it comes to."""
        return _TRAITS.get(self, _UNKNOWN).kind

    @property
    def terminal(self) -> bool:
        """Whether the job has its outcome; it is never changed again."""
        return self.kind in OUTCOMES

    @property
    def admitted(self) -> bool:
        """Whether the job was admitted, and holds a slot of its group or is about to take one."""
        return _TRAITS.get(self, _UNKNOWN).admitted

    @property
    def succeeded(self) -> str:
        """Status of the condition `Succeeded`."""
        known = self.terminal and self.kind is not Kind.UNKNOWN
        return "True" if self.kind is Kind.COMPLETED else "False" if known else "Unknown"

    @property
    def finished(self) -> str:
        """Status of the condition `Finished`."""
        return "True" if self.terminal else "False"

    @property
    def event(self) -> str:
        """The status of the event that gives a job this outcome: one for each kind."""
        return self.kind.value.capitalize()

    @property
    def reason(self) -> "State":
        """The word that people see for it: the reason of both conditions."""
        return _TRAITS.get(self, _UNKNOWN).reason or self

    @property
    def icon(self) -> str:
        """Its sign on pages: the path of an SVG, 16 by 16."""
        return _TRAITS.get(self, _UNKNOWN).icon


@dataclass(frozen=True, slots=True)
class _Traits:
    kind: Kind
    icon: str
    admitted: bool = False
    reason: State | None = None


_PAUSE, _CLOCK = "M5.5 3.5v9M10.5 3.5v9", "M8 4.5V8l2.5 1.5M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2z"
_GLASS = "M4 2.5h8M4 13.5h8M5 3c0 4 6 6 6 10M11 3c0 4-6 6-6 10"
_TRAITS: Mapping[State, _Traits] = {
    State.UNSUPPORTED: _Traits(Kind.WAITING, "M8 3v6M8 12.2v.6"),
    State.SUBMITTED: _Traits(Kind.WAITING, "M8 2.5v11M2.5 8h11", reason=State.WAITING_FOR_GROUP),
    State.SUSPENDED: _Traits(Kind.WAITING, _PAUSE),
    State.SCHEDULED: _Traits(Kind.WAITING, _CLOCK),
    State.WAITING_FOR_GROUP: _Traits(Kind.WAITING, "M3 4.5h10M3 8h10M3 11.5h6"),
    State.QUEUED: _Traits(Kind.WAITING, "M8 2.5v9M4 8l4 4 4-4", admitted=True),
    State.RUNNING: _Traits(Kind.RUNNING, "M5 3l8 5-8 5z", admitted=True),
    State.RETRYING: _Traits(Kind.WAITING, "M13 8a5 5 0 1 1-1.5-3.5M12 2v3H9"),
    State.INTERRUPTED: _Traits(Kind.WAITING, _PAUSE, admitted=True, reason=State.QUEUED),
    State.COMPLETED: _Traits(Kind.COMPLETED, "M3 8.5l3.5 3.5L13 4.5"),
    State.FAILED: _Traits(Kind.FAILED, "M4 4l8 8M12 4l-8 8"),
    State.DEADLINE_EXCEEDED: _Traits(Kind.FAILED, _GLASS),
    State.WORKER_CRASHED: _Traits(Kind.FAILED, "M9 2L4 9h4l-1 5 5-7H8z"),
    State.CANCELLED: _Traits(Kind.CANCELLED, "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2zM4 12l8-8"),
}
_UNKNOWN = _Traits(Kind.UNKNOWN, "M6 6a2 2 0 1 1 2.7 1.9q-.7.3-.7 1.3M8 12v.6")
REASONS = tuple(state for state in State if state.reason is state)
"""The words that people see: of both conditions, in the column STATUS, in the API and on the pages."""
