"""Decides whether JobLease kept its promise, from what happened and from what it says happened.

Each rule returns what broke it, in words. The handlers' own notes are the only witness of what really ran: a run lasts
from its first note to its last, so a handler that is killed late shows as an overlap with its successor.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

from faults.history import History, Run

MAX_ENDS = 5
"""A worker can be lost between a handler's end and its record, and storage be away until the lease is over. (Four times
for one of 2,079 jobs, in half an hour with 199 cut connections to storage and 98 broken leases.)"""

Rule = Callable[[History], Iterable[str]]

NOT_RUN = "not run: key "
"""Begins the message of an outcome that is another job's, of the same idempotency key."""


def check(history: History) -> list[str]:
    """All violations; empty when the promise was kept."""
    return [violation for rule in RULES for violation in rule(history)]


def one_run_per_job(history: History) -> Iterator[str]:
    """At most one live run per job."""
    by_job: dict[str, list[Run]] = defaultdict(list)
    for run in history.runs():
        by_job[run.job_id].append(run)
    for job_id, runs in by_job.items():
        yield from _beyond(runs, 1, f"job {job_id}")


def limit_per_group(history: History) -> Iterator[str]:
    """Never more than `limit` live runs per group."""
    group_of = {job.job_id: (job.group, job.limit) for job in history.jobs if job.limit}
    by_group: dict[tuple[str, int], list[Run]] = defaultdict(list)
    for run in history.runs():
        if run.job_id in group_of:
            by_group[group_of[run.job_id]].append(run)
    for (group, limit), runs in by_group.items():
        yield from _beyond(runs, limit, f"group {group}")


def _beyond(runs: list[Run], limit: int, what: str) -> Iterator[str]:
    live: list[Run] = []
    for run in runs:  # in the order in which they began
        live = [other for other in live if other.last_seen > run.began]
        live.append(run)
        if len(live) > limit:
            shown = ", ".join(f"{each.run} (epoch {each.epoch}, until {each.last_seen:.3f})" for each in live)
            yield f"{what}: {len(live)} runs at once at {run.began:.3f}, limit {limit}: {shown}"


def one_outcome(history: History) -> Iterator[str]:
    """Every accepted job reaches exactly one outcome, one that can be explained, and nothing follows it."""
    for job in history.jobs:
        head, events = history.heads.get(job.job_id), history.events.get(job.job_id, [])
        if head is None:
            if not job.deleted:
                yield f"job {job.job_id} ({job.name}) has no audit trail"
            continue
        if not head.state.terminal:
            yield f"job {job.job_id} ({job.name}) is stuck: {head.state} at epoch {head.epoch}"
        elif head.state not in job.outcomes:
            last = events[-1].message if events else ""
            yield f"job {job.job_id} ({job.name}) ended {head.state}, and not {'/'.join(job.outcomes)}: {last[:200]}"
        outcomes = [event.sequence for event in events if event.state.terminal]
        if len(outcomes) > 1:
            yield f"job {job.job_id} has {len(outcomes)} outcomes, at {outcomes}"
        if outcomes and outcomes[0] != len(events):
            yield f"job {job.job_id} has events after its outcome at {outcomes[0]}"
        if events and events[-1].state is not head.state:
            yield f"job {job.job_id}: its head says {head.state}, its last event {events[-1].state}"


def whole_trail(history: History) -> Iterator[str]:
    """No event is lost or out of order; every one that was announced is in the trail as it was announced."""
    for job_id, events in history.events.items():
        head = history.heads[job_id]
        if [event.sequence for event in events] != list(range(1, head.sequence + 1)):
            yield f"job {job_id}: events {[event.sequence for event in events]}, its head counts {head.sequence}"
        for before, after in pairwise(events):
            if after.epoch < before.epoch or after.attempt < before.attempt:
                yield f"job {job_id}: event {after.sequence} ({after.status}) is older than the one before it"
    kept = {event.event_id: event for events in history.events.values() for event in events}
    for event in history.announced:
        told = kept.get(event.event_id)
        if told is None or told.model_copy(update={"group": event.group}) != event:  # settled when it is admitted
            yield f"event {event.event_id} ({event.status}) was announced, the trail has {kept.get(event.event_id)}"


def runs_are_told(history: History) -> Iterator[str]:
    """No handler runs without a `Started` of its epoch, or after the outcome; what is `Completed` came to its end."""
    for run in history.runs():
        events = history.events.get(run.job_id, [])
        if not any(event.status == "Started" and event.epoch == run.epoch for event in events):
            yield f"job {run.job_id} ran at epoch {run.epoch} ({run.run}), and the trail does not know"
        if events and events[-1].state.terminal and run.last_seen_wall > events[-1].timestamp.timestamp():
            late = run.last_seen_wall - events[-1].timestamp.timestamp()
            yield f"job {run.job_id} still ran {late:.3f} s after it was {events[-1].state} ({run.run})"
    whole = {(run.job_id, run.epoch) for run in history.runs() if run.ended}
    for job_id, events in history.events.items():
        for event in events:
            told = event.status == "Completed" and not event.message.startswith(NOT_RUN)
            if told and (job_id, event.epoch) not in whole:
                yield f"job {job_id} is said to be completed at epoch {event.epoch}, but that run did not end"


def ends_once(history: History) -> Iterator[str]:
    """A handler that has come to its end is not run again, unless nobody could record it: not so often for one job."""
    ends = Counter(run.job_id for run in history.runs() if run.ended)
    for job_id, count in ends.items():
        if count > MAX_ENDS:
            yield f"job {job_id}: its handler came to its regular end {count} times"


def steps_in_order(history: History) -> Iterator[str]:
    """The steps of a run are numbered from 1 without gaps."""
    for job_id, events in history.events.items():
        steps: dict[int, list[int]] = defaultdict(list)
        for event in events:
            if event.status.startswith("Step "):
                steps[event.epoch].append(int(event.status.split()[1]))
        for epoch, numbers in steps.items():
            if numbers != list(range(1, len(numbers) + 1)):
                yield f"job {job_id}: steps {numbers} at epoch {epoch}"


def own_words(history: History) -> Iterator[str]:
    """Each step in the trail was reported by the run of that epoch, and so was the result: they carry its marks."""
    reported = {(note.job_id, note.epoch, note.token) for note in history.activities if note.kind == "step"}
    ended = {(run.job_id, run.epoch, run.run) for run in history.runs() if run.ended}
    for job_id, events in history.events.items():
        for event in events:
            data = event.data or {}
            if event.status.startswith("Step ") and (job_id, event.epoch, data.get("token")) not in reported:
                yield f"job {job_id}: {event.status} at epoch {event.epoch} is foreign, its run did not report it"
            if event.status == "Completed":
                result = data.get("result")
                if event.message.startswith(NOT_RUN):
                    continue
                if not isinstance(result, dict) or (job_id, event.epoch, result.get("run")) not in ended:
                    yield f"job {job_id}: the result at epoch {event.epoch} is foreign: {str(result)[:100]}"


def no_process_outlives_its_run(history: History) -> Iterator[str]:
    """What a run has started is gone when it has ended, and before another run of its job begins."""
    for note in history.activities:
        if note.kind == "outlived":
            yield f"job {note.job_id}: process {note.pid} of run {note.token} lived when epoch {note.epoch} began"
    for note in history.left:
        yield f"job {note.job_id}: process {note.pid}, started at epoch {note.epoch} ({note.run}), is left over"


def storage_remembers(history: History) -> Iterator[str]:
    """The storage emulator keeps the leases that it has granted, or JobLease rests on nothing."""
    yield from (f"the storage emulator forgot a lease at its restart: {lease}" for lease in history.forgotten)


def nothing_left(history: History) -> Iterator[str]:
    """No lease is held, no message left, and each resource says what the trail says."""
    yield from (f"blob {blob} is left" for blob in history.leases)
    yield from (f"{count} message(s) are left in {queue}" for queue, count in history.messages.items() if count)
    for job_id, reason in history.statuses.items():
        head = history.heads.get(job_id)
        if head and reason != head.state.value:
            yield f"job {job_id}: its resource says {reason or 'nothing'}, the trail {head.state}"


def dashboard_knows(history: History) -> Iterator[str]:
    """The dashboard's tables have every job's outcome.

    They may lack an earlier event whose writer was killed between the trail and the broker; `rebuild` adds it.
    """
    for job_id, events in history.events.items():
        for event in events:
            if event.state.terminal and event.event_id not in history.fed:
                yield f"job {job_id}: the feed lacks event {event.sequence}, its outcome"
        if history.indexed.get(job_id) != history.heads[job_id].state.value:
            yield f"job {job_id}: the index says {history.indexed.get(job_id)}, the trail {history.heads[job_id].state}"


RULES: list[Rule] = [
    one_run_per_job,
    limit_per_group,
    one_outcome,
    whole_trail,
    runs_are_told,
    ends_once,
    steps_in_order,
    own_words,
    no_process_outlives_its_run,
    storage_remembers,
    nothing_left,
    dashboard_knows,
]
