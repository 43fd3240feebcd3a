"""What can be done to a job: when there is a point in it, which right it needs, and what is asked before."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from joblease.states import Kind, State

from joblease_dashboard.problems import Problem

if TYPE_CHECKING:
    from joblease_dashboard.read_model.rows import Row


@dataclass(frozen=True, slots=True)
class Action:
    """Something that can be done to a job."""

    name: str
    question: str
    consequence: str
    possible: Callable[[State], bool]
    sets: Mapping[str, bool] | None
    """What it changes in the spec; None: another job is made with the same spec."""
    suspended: bool | None = None
    """Whether a job must be suspended, or must not be; None when that does not matter."""

    @property
    def verb(self) -> str:
        """The right on `jobrequests` that it needs."""
        return "create" if self.sets is None else "patch"

    def fits(self, state: State, *, suspended: bool | None) -> bool:
        """Whether there is a point in it; `suspended` is None when that is not known."""
        return self.possible(state) and (None in (self.suspended, suspended) or self.suspended is suspended)

    def check(self, job: "Row") -> None:
        """Raise `Problem` when it is too late for it."""
        if not self.possible(State(job["state"])):
            raise Problem(409, "Too late", f"job {job['name']} is {job['state']}: it cannot {self.name}")


_ALL = (
    Action(
        "cancel",
        "Cancel this job?",
        "Its handler is told to stop, and is killed if it does not. This cannot be taken back.",
        lambda state: not state.terminal,
        {"cancel": True},
    ),
    Action(
        "suspend",
        "Suspend this job?",
        "It is held back until somebody resumes it, unless a worker is just taking it.",
        lambda state: state.kind is Kind.WAITING,
        {"suspend": True},
        suspended=False,
    ),
    Action(
        "resume",
        "Resume this job?",
        "It goes on as soon as its group and its time allow.",
        lambda state: state.kind is Kind.WAITING,
        {"suspend": False},
        suspended=True,
    ),
    Action(
        "retry",
        "Submit this job again?",
        "A new job with the same spec is made; this one stays as it is.",
        lambda state: state.terminal,
        None,
    ),
)
ACTIONS = {action.name: action for action in _ALL}
"""In the order of the buttons."""
