"""The protocol as a table of atomic steps: one job, one lease, one queue, two workers, an operator, a user, faults.

Time is left out. What a clock does in the product is a step here that may happen at any moment, under the assumptions
of docs/guarantee.md: a lease that nobody renews becomes late, then free; a handler is killed while its lease is late.
Each step is one request at one service, or one thing that a program does by itself; between any two of them, anything
else may happen. A write carries the version of the head row that its writer has read.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

NOBODY = -1
MOST_MESSAGES = 2
QUEUED, RUNNING, INTERRUPTED, COMPLETED, CANCELLED = "queued", "running", "interrupted", "completed", "cancelled"
OUTCOMES = (COMPLETED, CANCELLED)
IDLE, GOT, HELD, READ, CLAIMED, RUN, ENDED, CLOSING, SETTLING = (
    "idle", "got", "held", "read", "claimed", "run", "ended", "closing", "settling",
)  # fmt: skip


class Head(NamedTuple):
    """The row of the trail that decides."""

    state: str = ""
    epoch: int = 0
    cancel: bool = False
    version: int = 0


class Worker(NamedTuple):
    """A worker process, and the guardian that outlives it."""

    at: str = IDLE
    head: Head = Head()
    """As it was read or written last."""
    handler: bool = False
    """Its process lives."""
    orphan: bool = False
    """The handler of a worker process that has died lives."""
    lost: bool = False
    """It knows that its lease is over."""
    message: bool = False
    """It has one that is not settled."""
    drain: bool = False
    asked: bool = False
    """It has heard the order to cancel."""


class State(NamedTuple):
    """Everything."""

    head: Head = Head()
    holder: int = NOBODY
    late: bool = False
    """The deadline of the lease has passed: its holder's handler must die."""
    renewed: bool = True
    """Its holder lives, and knows of it."""
    ready: int = 0
    """Messages in the queue."""
    workers: tuple[Worker, ...] = (Worker(), Worker())
    flying: tuple[Head, ...] = ()
    """A write whose sender has given up, and that may arrive yet: the row, with the version that it expects."""
    read: Head | None = None
    """By the operator, which is about to end the job."""
    free: bool = False
    """The operator has seen that nobody held the running job, for so long that no handler of before can live."""
    wants_cancel: bool = False
    may_cancel: bool = True
    outcomes: int = 0
    faults: int = 3


Steps = Iterator[tuple[str, State]]
"""What can happen, and what is then."""
Mutants = frozenset[str]


def put(state: State, number: int, /, **changes: Any) -> State:
    """The state with one worker changed."""
    workers = list(state.workers)
    workers[number] = workers[number]._replace(**changes)
    return state._replace(workers=tuple(workers))


def write(world: State, seen: Head, mutants: Mutants, /, **changes: Any) -> State | None:
    """The state with the head row changed, as whoever has `seen` it wants; None when it is refused."""
    if seen.version != world.head.version and "no fence" not in mutants:
        return None
    after = seen._replace(**changes, version=world.head.version + 1)
    return world._replace(head=after, outcomes=world.outcomes + (after.state in OUTCOMES))


def more(state: State) -> State:
    """One more message; a queue that has many does not show anything new."""
    return state._replace(ready=min(state.ready + 1, MOST_MESSAGES))


def worker_steps(state: State, number: int, mutants: Mutants) -> Steps:
    """Of a worker and its guardian: each is one request, or one thing that it does by itself."""
    worker = state.workers[number]
    yield from AT[worker.at](state, number, mutants)
    if worker.lost and worker.at not in (IDLE, GOT, CLOSING, SETTLING) and not worker.handler:
        yield "gives the run up", settled(state, number, again=True)
    if state.holder == number and state.renewed and state.late and (worker.handler or not worker.lost):
        yield "loses the lease: kills", put(state, number, handler=False, lost=True)
    if worker.orphan:
        yield "its guardian kills", put(state, number, orphan=False)


def _idle(state: State, number: int, _mutants: Mutants) -> Steps:
    if state.ready:
        yield "takes a message", put(state, number, at=GOT, message=True)._replace(ready=state.ready - 1)


def _got(state: State, number: int, _mutants: Mutants) -> Steps:
    if state.holder == NOBODY:
        held = state._replace(holder=number, late=False, renewed=True)
        yield "takes the lease", put(held, number, at=HELD)
    else:
        yield "defers", settled(state, number, again=True)


def _held(state: State, number: int, mutants: Mutants) -> Steps:
    if (state.holder == number and not state.late) or "no look at the lease" in mutants:
        at = CLOSING if state.head.state in OUTCOMES else READ
        yield "reads the head", put(state, number, at=at, head=state.head)
    else:
        yield "reads the head, and finds its lease over", put(state, number, lost=True)


def _claim(state: State, number: int, mutants: Mutants) -> Steps:
    seen = state.workers[number].head
    changes = {"state": CANCELLED} if seen.cancel else {"state": RUNNING, "epoch": seen.epoch + 1}
    if after := write(state, seen, mutants, **changes):
        at = CLOSING if seen.cancel else CLAIMED
        yield "claims", put(after, number, at=at, head=after.head)
    else:
        yield "is refused, and reads again", put(state, number, at=HELD)


def _claimed(state: State, number: int, _mutants: Mutants) -> Steps:
    worker = state.workers[number]
    if not worker.lost and worker.head.state == RUNNING:
        yield "starts the handler", put(state, number, at=RUN, handler=True)


def _run(state: State, number: int, _mutants: Mutants) -> Steps:
    worker = state.workers[number]
    if worker.handler:
        yield "its handler ends", put(state, number, at=ENDED, handler=False)
        if worker.head.cancel or worker.asked:
            yield "stops the handler", put(state, number, at=ENDED, handler=False, asked=True)


def _end(state: State, number: int, mutants: Mutants) -> Steps:
    worker, head = state.workers[number], state.head
    if worker.lost:
        return
    outcome = CANCELLED if worker.head.cancel or worker.asked else INTERRUPTED if worker.drain else COMPLETED
    if after := write(state, worker.head, mutants, state=outcome):
        yield f"writes {outcome}", put(after, number, at=CLOSING, head=after.head)
        if state.faults and not state.flying:
            flying = worker.head._replace(state=outcome)
            yield "! its write is late", state._replace(flying=(flying,), faults=state.faults - 1)
        if state.faults:
            yield "! the answer to its write is lost", after._replace(faults=state.faults - 1)
    elif head.state == outcome and head.epoch == worker.head.epoch:  # its own mark: an earlier try went through
        yield "finds its own write", put(state, number, at=CLOSING, head=head)
    elif (head.state, head.epoch) == (RUNNING, worker.head.epoch):  # an order to cancel
        yield "reads again", put(state, number, head=head)
    else:
        yield "is fenced", put(state, number, at=CLOSING, head=head)


def _closing(state: State, number: int, mutants: Mutants) -> Steps:
    mine = state.holder == number and not state.workers[number].lost
    given = state._replace(holder=NOBODY, late=False) if mine or "any release" in mutants else state
    yield "gives the lease back", put(given, number, at=SETTLING)


def _settling(state: State, number: int, _mutants: Mutants) -> Steps:
    again = state.workers[number].head.state == INTERRUPTED
    yield "settles", settled(state, number, again=again)


AT: Mapping[str, Callable[[State, int, Mutants], Steps]] = {
    IDLE: _idle,
    GOT: _got,
    HELD: _held,
    READ: _claim,
    CLAIMED: _claimed,
    RUN: _run,
    ENDED: _end,
    CLOSING: _closing,
    SETTLING: _settling,
}


def settled(state: State, number: int, *, again: bool) -> State:
    """Its message is acknowledged; a copy is in the queue if it is to come again."""
    worker = state.workers[number]
    copied = more(state) if again and worker.message else state
    workers = list(copied.workers)
    workers[number] = Worker(orphan=worker.orphan)
    if copied.holder == number:  # given up without being given back: it expires
        copied = copied._replace(renewed=False)
    return copied._replace(workers=tuple(workers))


def operator_steps(state: State, mutants: Mutants) -> Steps:
    """Of the operator, which also looks after what is lost."""
    head, seen = state.head, state.read
    if not head.state:
        yield "operator: begins and publishes", more(state._replace(head=Head(QUEUED, 0, cancel=False, version=1)))
        return
    if head.state in OUTCOMES:
        return
    unseen = state.ready == 0 and not any(each.message for each in state.workers)
    if unseen and state.holder == NOBODY and "no republishing" not in mutants:
        yield "operator: publishes again", more(state)
    if state.wants_cancel and seen is None:
        alive = any(each.handler or each.orphan or (each.at == CLAIMED and not each.lost) for each in state.workers)
        free = state.holder == NOBODY and not alive
        yield "operator: reads the head", state._replace(read=head, free=free)
    if seen:
        forgets = state._replace(read=None, free=False)
        if seen.state != RUNNING or (seen.cancel and state.free):
            after = write(forgets, seen, mutants, state=CANCELLED)
        elif not seen.cancel:
            after = write(forgets, seen, mutants, cancel=True)
        else:
            after = None
            for number, each in enumerate(state.workers):
                if each.at == RUN:
                    yield "operator: orders to cancel", put(forgets, number, asked=True)
        yield "operator: writes" if after else "operator: is refused", after or forgets


def time_steps(state: State, mutants: Mutants) -> Steps:
    """A lease that nobody renews; a request that arrives late."""
    if state.holder != NOBODY:
        holder = state.workers[state.holder]
        if not state.late and not state.renewed:
            yield "the lease is late", state._replace(late=True)
        dead = not holder.orphan and (not state.renewed or (holder.lost and not holder.handler))
        if state.late and (dead or "no kill" in mutants):
            yield "the lease is free", state._replace(holder=NOBODY, late=False, renewed=True)
    for flying in state.flying:
        landed = state._replace(flying=())
        yield "a late write arrives", write(landed, flying, mutants, state=flying.state) or landed


def user_steps(state: State, _mutants: Mutants) -> Steps:
    """A user cancels once, whenever."""
    if state.may_cancel:
        yield "user: cancels", state._replace(may_cancel=False, wants_cancel=True)


def fault_steps(state: State, _mutants: Mutants) -> Steps:
    """What need not happen; beside those of `_end`."""
    if not state.faults:
        return
    state = state._replace(faults=state.faults - 1)
    for number, worker in enumerate(state.workers):
        if worker.at != IDLE:
            back = more(state) if worker.message else state
            renewed = back.renewed and back.holder != number
            workers = list(back.workers)
            workers[number] = Worker(orphan=worker.orphan or worker.handler)
            yield f"! worker {number} is killed", back._replace(workers=tuple(workers), renewed=renewed)
        if worker.message:
            yield f"! worker {number} loses its connection", put(more(state), number, message=False)
        if worker.at == RUN and not worker.drain:
            yield f"! worker {number} is drained", put(state, number, drain=True, at=ENDED, handler=False)
    if state.holder != NOBODY and not state.late:
        yield "! no renewal gets through", state._replace(late=True)
    if state.ready:
        yield "! a message is lost", state._replace(ready=state.ready - 1)
    if state.read:
        yield "! the operator is killed", state._replace(read=None, free=False)
    if state.head.state and state.ready < MOST_MESSAGES:
        yield "! a message is published twice", more(state)


Table = tuple[Callable[[State, Mutants], Steps], ...]
TABLE: Table = (
    lambda state, mutants: worker_steps(state, 0, mutants),
    lambda state, mutants: worker_steps(state, 1, mutants),
    operator_steps,
    time_steps,
    user_steps,
    fault_steps,
)


def steps(state: State, mutants: Mutants) -> Steps:
    """All that can happen next; faults begin with an exclamation mark."""
    for part in TABLE:
        yield from part(state, mutants)
