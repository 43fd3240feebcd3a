"""The protocol as a table of atomic steps: one job, one queue, two workers with sessions, an operator, a user, faults.

Time is left out. What a clock does in the product is a step here that may happen at any moment, under the assumptions
of docs/guarantee.md: a session that nobody renews becomes late, then over; a handler is killed while its session is
late. Whoever asks for a session that is over closes it: so it stays over.
Each step is one request at one service, or one thing that a program does by itself; between any two of them, anything
else may happen. A write carries the version of the head row that its writer has read.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

NONE = -1
HELD, LATE, OVER = "held", "late", "over"
MOST_MESSAGES = 2
QUEUED, RUNNING, INTERRUPTED, COMPLETED, CANCELLED = "queued", "running", "interrupted", "completed", "cancelled"
OUTCOMES = (COMPLETED, CANCELLED)
IDLE, GOT, READ, CLAIMED, RUN, ENDED, SETTLING = (
    "idle", "got", "read", "claimed", "run", "ended", "settling",
)  # fmt: skip


class Head(NamedTuple):
    """The row of the trail that decides."""

    state: str = ""
    epoch: int = 0
    session: int = NONE
    """Under which it was claimed, while it runs."""
    cancel: bool = False
    version: int = 0


class Worker(NamedTuple):
    """A worker process, and the guardian that outlives it."""

    session: int
    at: str = IDLE
    head: Head = Head()
    """As it was read or written last."""
    handler: bool = False
    """Its process lives."""
    orphans: frozenset[int] = frozenset()
    """The sessions under which handlers run whose worker process has died."""
    lost: bool = False
    """It knows that its session is late."""
    message: bool = False
    """It has one that is not settled."""
    drain: bool = False
    asked: bool = False
    """It has heard the order to cancel."""


class State(NamedTuple):
    """Everything."""

    head: Head = Head()
    sessions: tuple[str, ...] = (HELD, HELD)
    """Each one's lease: held; late, when its deadline has passed; or over. Numbers are given again."""
    ready: int = 0
    """Messages in the queue."""
    workers: tuple[Worker, ...] = (Worker(0), Worker(1))
    flying: tuple[Head, ...] = ()
    """A write whose sender has given up, and that may arrive yet: the row, with the version that it expects."""
    read: Head | None = None
    """By the operator, which is about to end the job."""
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
    """The state with the head row changed, as whoever has `seen` it wants; None when it is refused.

    Without a word of its session: it does not run any more.
    """
    if seen.version != world.head.version and "no fence" not in mutants:
        return None
    after = seen._replace(**{"session": NONE, **changes}, version=world.head.version + 1)
    return world._replace(head=after, outcomes=world.outcomes + (after.state in OUTCOMES))


def more(state: State) -> State:
    """One more message; a queue that has many does not show anything new."""
    return state._replace(ready=min(state.ready + 1, MOST_MESSAGES))


def worker_steps(state: State, number: int, mutants: Mutants) -> Steps:
    """Of a worker and its guardian: each is one request, or one thing that it does by itself."""
    worker = state.workers[number]
    yield from AT[worker.at](state, number, mutants)
    if worker.lost and worker.at not in (IDLE, SETTLING) and not worker.handler:
        yield "gives the run up", settled(state, number, again=True)
    if state.sessions[worker.session] != HELD and (worker.handler or not worker.lost):
        yield "loses the session: kills", put(state, number, handler=False, lost=True)
    if worker.lost and worker.at == IDLE:
        yield "takes another session", under_another(state, number)
    for orphan in worker.orphans:
        yield "its guardian kills", put(state, number, orphans=worker.orphans - {orphan})


def _idle(state: State, number: int, _mutants: Mutants) -> Steps:
    if state.ready and not state.workers[number].lost:
        yield "takes a message", put(state, number, at=GOT, message=True)._replace(ready=state.ready - 1)


def _got(state: State, number: int, _mutants: Mutants) -> Steps:
    at = SETTLING if state.head.state in OUTCOMES else READ
    yield "reads the head", put(state, number, at=at, head=state.head)


def _claim(state: State, number: int, mutants: Mutants) -> Steps:
    worker, seen = state.workers[number], state.workers[number].head
    if seen.state == RUNNING and seen.session != worker.session and not is_over(state, seen.session, mutants):
        yield "defers", settled(state, number, again=True)
        return
    claimed: dict[str, Any] = {"state": RUNNING, "epoch": seen.epoch + 1, "session": worker.session}
    if after := write(state, seen, mutants, **({"state": CANCELLED} if seen.cancel else claimed)):
        at = SETTLING if seen.cancel else CLAIMED
        yield "claims", put(after, number, at=at, head=after.head)
        if state.faults and not state.flying and not seen.cancel:
            yield "! its claim is late", state._replace(flying=(seen._replace(**claimed),), faults=state.faults - 1)
    else:
        yield "is refused, and reads again", put(state, number, at=GOT)


def is_over(state: State, session: int, mutants: Mutants) -> bool:
    """Whether nobody runs anything under a session, nor ever will."""
    return state.sessions[session] == OVER or "no look at the session" in mutants


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
        yield f"writes {outcome}", put(after, number, at=SETTLING, head=after.head)
        if state.faults and not state.flying:
            flying = worker.head._replace(state=outcome, session=NONE)
            yield "! its write is late", state._replace(flying=(flying,), faults=state.faults - 1)
        if state.faults:
            yield "! the answer to its write is lost", after._replace(faults=state.faults - 1)
    elif head.state == outcome and head.epoch == worker.head.epoch:  # its own mark: an earlier try went through
        yield "finds its own write", put(state, number, at=SETTLING, head=head)
    elif (head.state, head.epoch) == (RUNNING, worker.head.epoch):  # an order to cancel
        yield "reads again", put(state, number, head=head)
    else:
        yield "is fenced", put(state, number, at=SETTLING, head=head)


def _settling(state: State, number: int, _mutants: Mutants) -> Steps:
    again = state.workers[number].head.state == INTERRUPTED
    yield "settles", settled(state, number, again=again)


AT: Mapping[str, Callable[[State, int, Mutants], Steps]] = {
    IDLE: _idle,
    GOT: _got,
    READ: _claim,
    CLAIMED: _claimed,
    RUN: _run,
    ENDED: _end,
    SETTLING: _settling,
}


def settled(state: State, number: int, *, again: bool) -> State:
    """Its message is acknowledged; a copy is in the queue if it is to come again."""
    worker = state.workers[number]
    copied = more(state) if again and worker.message else state
    workers = list(copied.workers)
    workers[number] = Worker(worker.session, orphans=worker.orphans, lost=worker.lost)
    return copied._replace(workers=tuple(workers))


def under_another(state: State, number: int, orphans: frozenset[int] = frozenset()) -> State:
    """A worker with another session, whose number nothing tells of any more."""
    workers, sessions = list(state.workers), [*state.sessions, OVER]
    sessions[workers[number].session] = LATE
    told = told_of(state) | orphans
    session = next(each for each in range(len(sessions)) if each not in told)
    sessions[session] = HELD
    workers[number] = Worker(session, orphans=workers[number].orphans | orphans)
    return state._replace(sessions=tuple(sessions), workers=tuple(workers))


def told_of(state: State) -> set[int]:
    """The sessions that anything tells of."""
    heads = (state.head, state.read, *state.flying, *(each.head for each in state.workers))
    told = {head.session for head in heads if head} | {each.session for each in state.workers}
    return (told | {session for each in state.workers for session in each.orphans}) - {NONE}


def forgotten(state: State) -> State:
    """The same state, where sessions that nothing tells of are over."""
    told = told_of(state)
    sessions = [lease if session in told else OVER for session, lease in enumerate(state.sessions)]
    while sessions[-1] == OVER and len(sessions) - 1 not in told:
        sessions.pop()
    return state._replace(sessions=tuple(sessions))


def operator_steps(state: State, mutants: Mutants) -> Steps:
    """Of the operator, which also looks after what is lost."""
    head, seen = state.head, state.read
    if not head.state:
        yield "operator: begins and publishes", more(state._replace(head=Head(QUEUED, 0, cancel=False, version=1)))
        return
    if head.state in OUTCOMES:
        return
    unseen = state.ready == 0 and not any(each.message for each in state.workers)
    if unseen and "no republishing" not in mutants:
        yield "operator: publishes again", more(state)
    if state.wants_cancel and seen is None:
        yield "operator: reads the head", state._replace(read=head)
    if seen:
        forgets = state._replace(read=None)
        if seen.state != RUNNING or (seen.cancel and is_over(state, seen.session, mutants)):
            after = write(forgets, seen, mutants, state=CANCELLED)
        elif not seen.cancel:
            after = write(forgets, seen, mutants, cancel=True, session=seen.session)
        else:
            after = None
            for number, each in enumerate(state.workers):
                if each.at == RUN:
                    yield "operator: orders to cancel", put(forgets, number, asked=True)
        yield "operator: writes" if after else "operator: is refused", after or forgets


def time_steps(state: State, mutants: Mutants) -> Steps:
    """A session that nobody renews; a request that arrives late."""
    for session, lease in enumerate(state.sessions):
        holder = next((each for each in state.workers if each.session == session), None)
        orphan = any(session in each.orphans for each in state.workers)
        dead = not orphan and (holder is None or (holder.lost and not holder.handler))
        if lease == LATE and (dead or "no kill" in mutants):
            yield "a session is over", under(state, session, OVER)
    for flying in state.flying:
        landed = state._replace(flying=())
        yield (
            "a late write arrives",
            write(landed, flying, mutants, state=flying.state, session=flying.session) or landed,
        )


def under(state: State, session: int, lease: str) -> State:
    """The state with another state of a session's lease."""
    return state._replace(sessions=(*state.sessions[:session], lease, *state.sessions[session + 1 :]))


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
            orphans = frozenset({worker.session}) if worker.handler else frozenset()
            yield f"! worker {number} is killed", under_another(back, number, orphans)
        if worker.message:
            yield f"! worker {number} loses its connection", put(more(state), number, message=False)
        if worker.at == RUN and not worker.drain:
            yield f"! worker {number} is drained", put(state, number, drain=True, at=ENDED, handler=False)
        if state.sessions[worker.session] == HELD:
            yield f"! no renewal of worker {number} gets through", under(state, worker.session, LATE)
    if state.ready:
        yield "! a message is lost", state._replace(ready=state.ready - 1)
    if state.read:
        yield "! the operator is killed", state._replace(read=None)
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
        for name, after in part(state, mutants):
            yield name, forgotten(after)
