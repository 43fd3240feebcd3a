"""What has come of an installation, for the checker of `tests/faults`, and the rules that only a simulation can check.

A simulation knows the true time of everything, whatever the programs' clocks say. So the trail's times are replaced by
those at which storage had the rows, before runs are compared with them.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from faults import checker
from faults.history import Activity, History, Submitted
from joblease.head import Head
from joblease.messages import JobEvent, Status
from joblease.rows import HEAD, event_of, head_of, row_key
from joblease.states import State
from joblease.storage import FEED_TABLE, INDEX_TABLE, OPEN_TABLE, STATS_TABLE
from joblease.topology import DEAD, EVENTS, defer_queues, jobs_queue
from joblease_dashboard.read_model.statistics import WHOLE
from joblease_dashboard.read_model.tally import Tally
from joblease_worker.closing import AGAIN

from simulation.loop import EPOCH
from simulation.programs import Services
from simulation.storage import Row

QUEUES = (jobs_queue("default"), *defer_queues("default", 2), f"{EVENTS}.index", f"{EVENTS}.operator")
OWN_FAILURES = ("as asked", "killed", "did not end within activeDeadlineSeconds")
"""How a simulated handler fails; its guardian kills it, too."""
FEW = 10
"""Steps that fit into a transaction; of more, the checkpoint comes with the last ones."""
TIMED = (checker.one_run_per_job, checker.limit_per_group, checker.runs_are_told)
"""What does not hold with clocks that are worse than promised."""


class Scene:
    """Reads what the services hold."""

    def __init__(self, services: Services, jobs: list[Submitted], keys: Mapping[str, str]) -> None:
        """`keys` of jobs that have one; they may grow, as the jobs may."""
        self._services = services
        self._jobs = jobs
        self._keys = keys

    def quiet(self) -> bool:
        """Whether nothing is left to be done."""
        heads, statuses = self.heads(), self._statuses()
        leases, messages = self._left()
        arrived = self._services.loop.real > self._services.network.last_arrival
        ended = all(head.state.terminal for head in heads.values())
        begun = all(job.job_id in heads or job.deleted for job in self._jobs)
        said = all(uid in heads and heads[uid].state == reason for uid, reason in statuses.items())
        fed = not any(self._services.onlooker.unfed(self._fed()))
        return arrived and ended and begun and said and fed and not leases and not any(messages.values())

    def ended(self) -> int:
        """How many jobs have their outcome."""
        return sum(head.state.terminal for head in self.heads().values())

    def violations(self, *, within: bool) -> Iterator[str]:
        """What broke the promise; `within`: clocks were as good as promised."""
        history = self.history()
        timed = self._in_true_time(history)
        for rule in checker.RULES:
            if rule is checker.ends_once:  # a guess, of which `ends_are_told` is the truth
                continue
            if rule not in TIMED:
                yield from rule(history)
            elif within:
                yield from rule(timed)
        yield from whole_runs(history)
        yield from only_their_own_failures(history)
        yield from ends_are_told(history)
        yield from keys_run_once(history, self._keys)
        yield from runs_end_before_the_next(history)
        yield from runs_go_on(history)
        yield from self._whole_statuses(history)
        yield from self._exact_statistics(history)
        onlooker = self._services.onlooker
        yield from onlooker.complaints
        yield from onlooker.untimely if within else ()
        yield from onlooker.unfed(history.fed)

    def heads(self) -> dict[str, Head]:
        """Of all jobs that were begun."""
        rows = self._services.storage.rows
        return {job: head_of(_row(found[HEAD])) for job, found in rows.items() if HEAD in found}

    def history(self) -> History:
        """All that has happened, and all that is said to have happened."""
        storage, heads = self._services.storage, self.heads()
        events: dict[str, list[JobEvent]] = {}
        for job, head in heads.items():
            rows = sorted(storage.rows[job].items())
            events[job] = [event_of(_row(found), head) for key, found in rows if key != HEAD]
        history = History(self._jobs, self._services.witness.notes, heads, events)
        history.announced = [JobEvent.model_validate_json(each) for each in self._services.broker.announced]
        history.statuses = self._statuses()
        history.fed = self._fed()
        index = {row["jobId"]: (row["state"], row["sequence"]) for row in self._table(INDEX_TABLE)}
        history.indexed = {
            job: state if sequence == heads[job].sequence else f"{state} at {sequence}"
            for job, (state, sequence) in index.items()
        }
        history.leases, history.messages = self._left()
        return history

    def _in_true_time(self, history: History) -> History:
        began = {run.run: run.began for run in history.runs()}
        notes = [self._forgiven(note, began) for note in history.activities]
        written = self._services.storage.written_at
        events = {}
        for job, told in history.events.items():
            last = [replace_time(each, written[job, row_key(each.sequence)]) for each in told[-1:]]
            events[job] = [*told[:-1], *last]
        return replace(history, activities=notes, events=events)

    def _forgiven(self, note: Activity, began: dict[str, float]) -> Activity:
        """What a handler did in the moment in which its machine woke up: as if it had done it before."""
        for pids, since, until in reversed(self._services.witness.slept):  # it may have been suspended again at once
            if since <= note.at <= until and began[note.run] < since and int(note.run.split(".")[0]) in pids:
                note = replace(note, at=since, wall=EPOCH + since - 1e-5)
        return note

    def _whole_statuses(self, history: History) -> Iterable[str]:
        for body in self._services.cluster.objects.values():
            uid, status = body["metadata"]["uid"], body.get("status", {})
            head = history.heads.get(uid)
            said = status.get("jobId"), status.get("attempt"), status.get("observedGeneration")
            told = uid, head.attempt if head else None, body["metadata"]["generation"]
            if said != told:
                yield f"job {uid}: its status says {said}, and should say {told}"

    def _exact_statistics(self, history: History) -> Iterable[str]:
        """Each job that has ended is counted once."""
        rows = self._table(STATS_TABLE)
        told = sum((Counter(Tally.decode(row[WHOLE]).ended) for row in rows if WHOLE in row), Counter[str]())
        counted = Counter(row["RowKey"].removeprefix("job-") for row in rows if row["RowKey"].startswith("job-"))
        ended = {job for job, head in history.heads.items() if head.state.terminal}
        if {*counted} != ended or told.total() != len(ended):
            yield f"{len(ended)} jobs have ended, the statistics count {told.total()} of {len(counted)}"

    def _fed(self) -> set[str]:
        return {row["eventId"] for row in self._table(FEED_TABLE)}

    def _table(self, name: str) -> list[dict[str, Any]]:
        return [row for rows in self._services.storage.tables[name].values() for row, _ in rows.values()]

    def _statuses(self) -> dict[str, str]:
        reasons = {}
        for body in self._services.cluster.objects.values():
            conditions = body.get("status", {}).get("conditions", [])
            found = next((each["reason"] for each in conditions if each["type"] == "Succeeded"), "")
            reasons[body["metadata"]["uid"]] = found
        return reasons

    def _left(self) -> tuple[list[str], dict[str, int]]:
        storage, broker = self._services.storage, self._services.broker
        leases = [name for name, _, leased in storage.listing("group/") if leased]
        leases += [f"{row['RowKey']} is in the list of open jobs" for row in self._table(OPEN_TABLE)]
        unsettled = sum(len(each.unsettled) for each in broker.consumers)
        dead = sum(each.message_id not in broker.expired for each in broker.queues[DEAD])
        return leases, {**{name: len(broker.queues[name]) for name in QUEUES}, DEAD: dead, "unsettled": unsettled}


def whole_runs(history: History) -> Iterator[str]:
    """What came to its end, and was recorded, has all its steps in the trail."""
    reported = Counter((note.job_id, note.epoch) for note in history.activities if note.kind == "step")
    for job_id, events in history.events.items():
        told = Counter(event.epoch for event in events if event.status.startswith("Step "))
        for event in events:
            if event.status == Status.COMPLETED and told[event.epoch] != reported[job_id, event.epoch]:
                yield f"job {job_id}: {told[event.epoch]} of {reported[job_id, event.epoch]} steps at {event.epoch}"


def runs_end_before_the_next(history: History) -> Iterator[str]:
    """The trail tells of each run how it ended, before it tells of another one."""
    for job_id, events in history.events.items():
        running = False
        for event in events:
            if running and event.status == Status.STARTED:
                yield f"job {job_id}: a run began at {event.sequence}, and the one before it had not ended"
            running = event.state is State.RUNNING


def ends_are_told(history: History) -> Iterator[str]:
    """What has come to its end is completed, or its worker was lost, perhaps unheard, before it could say so."""
    for run in history.runs():
        told = [event for event in history.events.get(run.job_id, []) if not event.status.startswith("Step ")]
        began = next((n for n, e in enumerate(told) if e.status == Status.STARTED and e.epoch == run.epoch), None)
        after = told[began + 1] if began is not None and began + 1 < len(told) else None
        lost = after and any(word in after.message for word in ("lost", "the JobRequest was deleted", "parked"))
        if run.ended and after and after.status != Status.COMPLETED and not lost:
            yield f"job {run.job_id} came to its end at epoch {run.epoch}, and was {after.status}: {after.message}"


def keys_run_once(history: History, keys: Mapping[str, str]) -> Iterator[str]:
    """Of all jobs with one idempotency key, one runs at most; `keys` by job."""
    ran: dict[str, set[str]] = {}
    for run in history.runs():
        if key := keys.get(run.job_id):
            ran.setdefault(key, set()).add(run.job_id)
    for key, jobs in ran.items():
        if len(jobs) > 1:
            yield f"{len(jobs)} jobs of {key} ran: {', '.join(sorted(jobs))}"
    completed = {keys[job] for job, head in history.heads.items() if job in keys and head.state is State.COMPLETED}
    for key in completed - ran.keys():
        yield f"a job of {key} is completed, and none has run"


def only_their_own_failures(history: History) -> Iterator[str]:
    """An attempt has failed because of its handler, and of nothing else; being handed back is no failure."""
    for job_id, events in history.events.items():
        for before, event in pairwise(events):
            error = (event.data or {}).get("error") or ""
            if event.status == Status.RETRYING and not error.startswith(OWN_FAILURES):
                yield f"job {job_id}: attempt {event.attempt} failed: {error}"
            handed = before.status == Status.INTERRUPTED and before.message.endswith(AGAIN)
            if handed and event.status == Status.STARTED and event.attempt != before.attempt:
                yield f"job {job_id}: attempt {before.attempt} was handed back, and became {event.attempt}"


def runs_go_on(history: History) -> Iterator[str]:
    """A run begins with a checkpoint no older than the last step in the trail, unless steps were many or long."""
    for note in history.activities:
        if note.kind != "start":
            continue
        found = tuple(map(int, note.token.split("."))) if note.token else (0, 0)
        if found[0] >= note.epoch:
            yield f"job {note.job_id}: the run of epoch {note.epoch} began with a checkpoint of epoch {found[0]}"
        for event in reversed(history.events.get(note.job_id, [])):
            if event.epoch < note.epoch and event.status.startswith("Step "):
                step = event.epoch, int(event.status.removeprefix("Step "))
                if step > found and step[1] <= FEW and not event.message:
                    yield f"job {note.job_id}: the run of epoch {note.epoch} began at {found}, its last step was {step}"
                break


def replace_time(event: JobEvent, real: float) -> JobEvent:
    """The event, as if its writer's clock had been right."""
    return event.model_copy(update={"timestamp": datetime.fromtimestamp(EPOCH + real, UTC)})


def _row(found: tuple[dict[str, Any], str]) -> Row:
    row = Row(found[0])
    row.metadata = {"etag": found[1]}
    return row
