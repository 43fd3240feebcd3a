"""Every state that the protocol can come to, by breadth-first search, and what must hold in each.

Run it: `python -m model` in `tests/`.
"""

import time
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from model.protocol import OUTCOMES, State, steps

MUTANTS = {
    "no fence": (1, "a write that was based on an older head is taken"),
    "no kill": (2, "a session is over though a handler under it lives"),
    "no look at the session": (1, "a job is taken over from a worker whose session is held"),
    "no republishing": (1, "nobody misses a message that is lost"),
}
"""What is left out of the protocol, and how many faults it takes until somebody misses it."""


@dataclass(slots=True)
class Found:
    """What an exploration has come to."""

    states: int = 0
    steps: int = 0
    seconds: float = 0
    broken: str = ""
    """The first rule that was broken, on a shortest way."""
    way: list[str] = field(default_factory=list)
    """The steps that lead there."""


def explore(mutants: Iterable[str] = (), faults: int = 3) -> Found:
    """Go everywhere, until something is broken."""
    began, defects = time.perf_counter(), frozenset(mutants)
    found = Found()
    first = State(faults=faults)
    came: dict[State, tuple[State, str] | None] = {first: None}
    back: dict[State, list[State]] = defaultdict(list)
    waiting, at_rest = deque([first]), []
    while waiting and not found.broken:
        state = waiting.popleft()
        if state_at_rest(state):
            at_rest.append(state)
        for name, after in steps(state, defects):
            found.steps += 1
            if not name.startswith(("!", "user")):
                back[after].append(state)
            if after in came:
                continue
            came[after] = state, name
            found.broken = found.broken or next(broken(state, after), "")
            waiting.append(after)
            if found.broken:
                found.way = way(came, after)
                break
    if not found.broken and (stuck := stuck_one(came, back, at_rest)):
        found.broken, found.way = "a job cannot end", way(came, stuck)
    found.states, found.seconds = len(came), time.perf_counter() - began
    return found


def broken(before: State, after: State) -> Iterator[str]:
    """The rules that a step breaks."""
    if sum(worker.handler + len(worker.orphans) for worker in after.workers) > 1:
        yield "two handlers live"
    if after.outcomes > 1:
        yield "two outcomes"
    if before.head.state in OUTCOMES and after.head != before.head:
        yield "something was written after the outcome"
    if after.head.state in OUTCOMES and any(worker.handler for worker in after.workers):
        yield "a handler lives after the outcome"
    if after.head.epoch < before.head.epoch:
        yield "an epoch again"


def state_at_rest(state: State) -> bool:
    """Whether the job has ended, and nothing of it is left."""
    idle = all(worker.at == "idle" and not worker.orphans for worker in state.workers)
    return state.head.state in OUTCOMES and idle and not state.ready and not state.flying


def stuck_one(
    came: dict[State, tuple[State, str] | None], back: dict[State, list[State]], at_rest: list[State]
) -> State | None:
    """A state from which no way leads to rest when no further fault happens."""
    reached, waiting = set(at_rest), deque(at_rest)
    while waiting:
        for before in back[waiting.popleft()]:
            if before not in reached:
                reached.add(before)
                waiting.append(before)
    return next((state for state in came if state not in reached), None)


def way(came: dict[State, tuple[State, str] | None], state: State) -> list[str]:
    """The steps from the beginning to a state, and the state."""
    told = [str(state)]
    while origin := came[state]:
        state, name = origin
        told.append(name)
    return told[::-1]
