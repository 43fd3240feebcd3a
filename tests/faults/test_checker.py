"""The checker, held to histories that are right and to forged ones that it must reject."""

import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from faults.checker import RULES, check
from faults.history import Activity, History, Submitted, living
from joblease.head import Head
from joblease.messages import JobEvent
from joblease.states import State
from joblease_local.processes import started_at

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
Forge = Callable[[History], None]


def event(job: str, sequence: int, status: str, state: State, epoch: int, attempt: int, at: float) -> JobEvent:
    return JobEvent(
        event_id=f"{job}.{sequence}", job_id=job, namespace="n", name=job, handler="witness", queue="q", group="g",
        submitted_at=BEGIN, sequence=sequence, status=status, state=state, epoch=epoch, attempt=attempt,
        timestamp=BEGIN + timedelta(seconds=at),
        data={"token": f"{job}.{sequence}", "result": {"run": f"{job}/{epoch}"}},
    )  # fmt: skip


def run(job: str, epoch: int, began: float, ended: float, last: str = "end") -> list[Activity]:
    """A run's notes, on a machine whose monotonic clock was 0 at `BEGIN`."""
    return [
        Activity(job, f"{job}/{epoch}", epoch, kind, at, BEGIN.timestamp() + at)
        for kind, at in (("start", began), ("alive", (began + ended) / 2), (last, ended))
    ]


def reported(job: str, epoch: int, at: float, sequence: int) -> Activity:
    """A run's note of a step, whose event has that sequence."""
    return Activity(job, f"{job}/{epoch}", epoch, "step", at, BEGIN.timestamp() + at, token=f"{job}.{sequence}")


def good() -> History:
    """Job a: killed in its first run, completed in the second. Job b after it, with a limit of 1 for both."""
    history = History([Submitted("a", "a", "g", 1), Submitted("b", "b", "g", 1)], [], {}, {})
    history.activities = [
        *run("a", 1, 1, 2, "alive"),
        reported("a", 1, 1.4, 4),
        *run("a", 2, 20, 21),
        reported("a", 2, 20.3, 7),
        reported("a", 2, 20.7, 8),
        *run("b", 1, 22, 23),
        Activity("b", "b/1", 1, "process", 22.5, BEGIN.timestamp() + 22.5, pid=7, started="1"),
    ]
    history.events = {
        "a": [
            event("a", 1, "Submitted", State.SUBMITTED, 0, 0, 0),
            event("a", 2, "Queued", State.QUEUED, 0, 0, 0.1),
            event("a", 3, "Started", State.RUNNING, 1, 1, 0.9),
            event("a", 4, "Step 1", State.RUNNING, 1, 1, 1.5),
            event("a", 5, "Interrupted", State.INTERRUPTED, 2, 1, 19),
            event("a", 6, "Started", State.RUNNING, 2, 2, 19),
            event("a", 7, "Step 1", State.RUNNING, 2, 2, 20.4),
            event("a", 8, "Step 2", State.RUNNING, 2, 2, 20.8),
            event("a", 9, "Completed", State.COMPLETED, 2, 2, 21.1),
        ],
        "b": [
            event("b", 1, "Submitted", State.SUBMITTED, 0, 0, 0),
            event("b", 2, "Queued", State.QUEUED, 0, 0, 21.5),
            event("b", 3, "Started", State.RUNNING, 1, 1, 21.9),
            event("b", 4, "Completed", State.COMPLETED, 1, 1, 23.1),
        ],
    }
    history.heads = {
        "a": Head("a", "n", "a", "witness", "q", "g", BEGIN, State.COMPLETED, epoch=2, attempt=2, sequence=9),
        "b": Head("b", "n", "b", "witness", "q", "g", BEGIN, State.COMPLETED, epoch=1, attempt=1, sequence=4),
    }
    history.announced = [each for events in history.events.values() for each in events] * 2
    history.statuses = {"a": "Completed", "b": "Completed"}
    history.fed = {each.event_id for each in history.announced}
    history.indexed = dict(history.statuses)
    history.messages = {"joblease.jobs.q": 0}
    return history


def test_a_good_history_passes() -> None:
    assert check(good()) == []


def killed_late(history: History) -> None:
    history.activities.append(Activity("a", "a/1", 1, "alive", 20.01, BEGIN.timestamp() + 20.01))


def group_overlap(history: History) -> None:
    history.activities += run("b", 0, 20.5, 20.6)


def two_outcomes(history: History) -> None:
    history.events["a"].append(event("a", 10, "Failed", State.FAILED, 2, 2, 22))
    history.heads["a"] = replace(history.heads["a"], sequence=10, state=State.FAILED)


def word_after_the_outcome(history: History) -> None:
    history.events["b"].append(event("b", 5, "Step 1", State.RUNNING, 1, 1, 24))
    history.heads["b"] = replace(history.heads["b"], sequence=5)


def stuck(history: History) -> None:
    history.events["b"].pop()
    history.heads["b"] = replace(history.heads["b"], sequence=3, state=State.RUNNING)


def no_trail(history: History) -> None:
    history.jobs.append(Submitted("c", "c", "g", 1))


def strange_outcome(history: History) -> None:
    history.events["b"][-1] = event("b", 4, "Failed", State.WORKER_CRASHED, 1, 1, 23.1)
    history.heads["b"] = replace(history.heads["b"], state=State.WORKER_CRASHED)


def lost_event(history: History) -> None:
    del history.events["a"][3]


def reordered(history: History) -> None:
    events = history.events["a"]
    events[2], events[5] = replace_sequence(events[5], 3), replace_sequence(events[2], 6)


def replace_sequence(one: JobEvent, sequence: int) -> JobEvent:
    return one.model_copy(update={"sequence": sequence})


def announced_and_lost(history: History) -> None:
    history.announced.append(event("b", 5, "Step 1", State.RUNNING, 1, 1, 22.5))


def announced_otherwise(history: History) -> None:
    history.announced[0] = history.announced[0].model_copy(update={"message": "something else"})


def unknown_run(history: History) -> None:
    history.activities += run("a", 7, 40, 41)


def ran_on_after_the_outcome(history: History) -> None:
    history.activities.append(Activity("b", "b/1", 1, "alive", 23.2, BEGIN.timestamp() + 23.2))


def completed_without_its_end(history: History) -> None:
    history.activities = [note for note in history.activities if (note.job_id, note.kind) != ("b", "end")]


def run_again_and_again(history: History) -> None:
    for epoch in range(3, 8):
        history.activities += run("a", epoch, 20 + epoch, 20.5 + epoch)


def lost_step(history: History) -> None:
    history.events["a"][6] = event("a", 7, "Step 3", State.RUNNING, 2, 2, 20.4)


def step_of_another_job(history: History) -> None:
    """A thread that outlived job a's run reports into job b's trail, on the same process."""
    history.activities.append(reported("a", 2, 22.4, 3))
    history.events["b"].insert(3, event("b", 4, "Step 1", State.RUNNING, 1, 1, 22.5))
    history.events["b"][4] = event("b", 5, "Completed", State.COMPLETED, 1, 1, 23.1)
    history.heads["b"] = replace(history.heads["b"], sequence=5)


def step_of_an_earlier_run(history: History) -> None:
    history.activities = [note for note in history.activities if note.token != "a.8"]
    history.activities.append(reported("a", 1, 20.7, 8))


def step_without_a_token(history: History) -> None:
    history.events["a"][7] = history.events["a"][7].model_copy(update={"data": None})


def result_of_another_run(history: History) -> None:
    history.events["b"][3] = history.events["b"][3].model_copy(update={"data": {"result": "a copy's"}})


def process_left_over(history: History) -> None:
    history.left = [note for note in history.activities if note.kind == "process"]


def process_beside_the_next_run(history: History) -> None:
    history.activities.append(Activity("a", "a/2", 2, "outlived", 20.1, 20.1, token="a/1", pid=8, started="2"))


def forgotten_lease(history: History) -> None:
    history.forgotten.append("canary")


def held_lease(history: History) -> None:
    history.leases.append("group/g/0")


def left_message(history: History) -> None:
    history.messages["joblease.jobs.q"] = 1


def unfed(history: History) -> None:
    history.fed.discard("a.9")


def stale_index(history: History) -> None:
    history.indexed["b"] = "Running"


def stale_status(history: History) -> None:
    history.statuses["b"] = "Running"


@pytest.mark.parametrize(
    ("forge", "words"),
    [
        (killed_late, "job a: 2 runs at once"),
        (group_overlap, "group g: 2 runs at once"),
        (two_outcomes, "job a has 2 outcomes"),
        (word_after_the_outcome, "job b has events after its outcome"),
        (stuck, "job b (b) is stuck: Running"),
        (strange_outcome, "job b (b) ended WorkerCrashed, and not Completed"),
        (no_trail, "job c (c) has no audit trail"),
        (lost_event, "its head counts 9"),
        (reordered, "is older than the one before it"),
        (announced_and_lost, "event b.5 (Step 1) was announced"),
        (announced_otherwise, "was announced"),
        (unknown_run, "ran at epoch 7"),
        (ran_on_after_the_outcome, "job b still ran 0.100 s after it was Completed"),
        (completed_without_its_end, "said to be completed at epoch 1, but that run did not end"),
        (run_again_and_again, "job a: its handler came to its regular end 6 times"),
        (lost_step, "job a: steps [3, 2] at epoch 2"),
        (step_of_another_job, "job b: Step 1 at epoch 1 is foreign"),
        (step_of_an_earlier_run, "job a: Step 2 at epoch 2 is foreign"),
        (step_without_a_token, "job a: Step 2 at epoch 2 is foreign"),
        (result_of_another_run, "job b: the result at epoch 1 is foreign: a copy's"),
        (process_left_over, "job b: process 7, started at epoch 1 (b/1), is left over"),
        (process_beside_the_next_run, "job a: process 8 of run a/1 lived when epoch 2 began"),
        (forgotten_lease, "the storage emulator forgot a lease at its restart: canary"),
        (held_lease, "blob group/g/0 is left"),
        (left_message, "1 message(s) are left in joblease.jobs.q"),
        (unfed, "job a: the feed lacks event 9, its outcome"),
        (stale_index, "job b: the index says Running"),
        (stale_status, "its resource says Running, the trail Completed"),
    ],
)
def test_a_forged_history_is_rejected(forge: Forge, words: str) -> None:
    history = good()
    forge(history)
    assert any(words in violation for violation in check(history)), check(history)


def test_a_process_is_left_over_as_long_as_it_lives() -> None:
    child = subprocess.Popen(["sleep", "60"])
    note = Activity("a", "a/1", 1, "process", 1, 1, pid=child.pid, started=started_at(child.pid) or "")
    try:
        assert living([note, replace(note, kind="alive"), replace(note, started="of another process")]) == [note]
    finally:
        child.kill()
        child.wait()
    assert living([note]) == []


def test_every_rule_can_fail() -> None:
    forged = [
        *(killed_late, group_overlap, two_outcomes, lost_event, unknown_run, run_again_and_again, lost_step),
        *(step_of_another_job, process_left_over, forgotten_lease, held_lease, unfed),
    ]
    for rule, forge in zip(RULES, forged, strict=True):
        history = good()
        forge(history)
        assert list(rule(history)), rule.__name__
