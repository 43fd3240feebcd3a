"""From what the operator knows about a job to the status that it writes."""

from datetime import UTC, datetime
from typing import Any

import pytest
from joblease.head import Head
from joblease.jobrequest import JobRequestStatus
from joblease.messages import JobEvent, Status
from joblease.policy import JobPolicy
from joblease.states import State
from joblease_operator.job import Job
from joblease_operator.status import TROUBLE, following, outcome, safe, stamp, status_of, tells, without_times
from pydantic.alias_generators import to_camel

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def event(sequence: int, status: str, state: State, **fields: Any) -> JobEvent:
    values = {
        "event_id": f"1.{sequence}", "job_id": "1", "namespace": "ns", "name": "n", "handler": "h", "queue": "q",
        "group": "g", "submitted_at": NOW, "timestamp": NOW, "attempt": 1, "epoch": 1,
    }  # fmt: skip
    return JobEvent(**{**values, **fields}, sequence=sequence, status=status, state=state)


def job(*events: JobEvent) -> Job:
    made = Job("1", "ns", "n", NOW, generation=3)
    for each in events:
        made.apply(each)
    return made


STARTED = event(3, Status.STARTED, State.RUNNING, worker="w", message="attempt 1 of 3 on w")


def test_a_running_job() -> None:
    status = status_of(job(STARTED, event(4, "Step 1", State.RUNNING, progress=40, message="half way")), None)
    assert (status["worker"], status["progress"], status["attempt"]) == ("w", 40, 1)
    assert status["startedAt"] == "2026-01-02T03:04:05.000000Z"
    assert status["conditions"] == [
        {"type": "Succeeded", "status": "Unknown", "reason": "Running", "message": "half way", "observedGeneration": 3},
        {"type": "Finished", "status": "False", "reason": "Running", "message": "", "observedGeneration": 3},
    ]


def test_every_field_of_a_status_is_made() -> None:
    retried = job(STARTED, event(4, "Retrying", State.RETRYING, data={"nextAttemptAt": "2026-01-02T03:05:00Z"}))
    ended = job(STARTED, event(4, "Completed", State.COMPLETED, progress=100, message="done", data={"result": 1}))
    ended.policy = JobPolicy(group="g", limit=1, max_attempts=3)
    made = set(status_of(retried, None)) | set(status_of(ended, None))
    assert made == {to_camel(name) for name in JobRequestStatus.model_fields}


@pytest.mark.parametrize(
    ("state", "reason", "status"),
    [
        (State.COMPLETED, "Completed", "True"),
        (State.FAILED, "Failed", "False"),
        (State.DEADLINE_EXCEEDED, "DeadlineExceeded", "False"),
        (State.WORKER_CRASHED, "WorkerCrashed", "False"),
        (State.CANCELLED, "Cancelled", "False"),
        (State.RETRYING, "Retrying", "Unknown"),
        (State.INTERRUPTED, "Queued", "Unknown"),
        (State.QUEUED, "Queued", "Unknown"),
    ],
)
def test_each_state_has_its_reason(state: State, reason: str, status: str) -> None:
    succeeded, finished = status_of(job(STARTED, event(4, "x", state)), None)["conditions"]
    assert (succeeded["reason"], succeeded["status"]) == (reason, status)
    assert (finished["type"], finished["reason"]) == ("Finished", reason)
    assert finished["status"] == ("False" if status == "Unknown" else "True")


def test_an_ended_job_stays_as_it_is_whatever_is_announced_again() -> None:
    """Also after a restart of the operator, which knows an ended job by its status alone, without a sequence."""
    recalled = Job("1", "ns", "n", NOW, state=State.COMPLETED, completed_at=NOW)
    for ended in (recalled, job(STARTED, event(4, Status.COMPLETED, State.COMPLETED))):
        for again in (STARTED, event(4, Status.COMPLETED, State.COMPLETED), event(5, "Step 1", State.RUNNING)):
            ended.apply(again)
            assert ended.state is State.COMPLETED


def test_a_waiting_job_says_why() -> None:
    waiting = (State.WAITING_FOR_GROUP, "waits for group 'g'")
    status = status_of(job(event(1, Status.SUBMITTED, State.SUBMITTED, attempt=0)), waiting)
    assert (status["message"], status["conditions"][0]["reason"]) == ("waits for group 'g'", "WaitingForGroup")


def test_old_news_and_repetitions_change_nothing() -> None:
    done = event(5, Status.COMPLETED, State.COMPLETED, data={"result": {"a": None}})
    late = job(STARTED, done, event(4, "Step 1", State.RUNNING, progress=10), done)
    assert status_of(late, None) == status_of(job(STARTED, done), None)
    assert status_of(late, None)["result"] == {"a": None}


def test_a_new_attempt_begins_its_progress_anew_but_not_the_jobs_start() -> None:
    again = job(
        STARTED,
        event(4, "Step 1", State.RUNNING, progress=70),
        event(5, Status.RETRYING, State.RETRYING, data={"nextAttemptAt": "2026-01-02T03:05:00.000000Z"}),
    )
    assert status_of(again, None)["nextAttemptAt"] == "2026-01-02T03:05:00.000000Z"
    again.apply(event(7, Status.STARTED, State.RUNNING, attempt=2, timestamp=NOW.replace(hour=4)))
    status = status_of(again, None)
    assert (status["attempt"], status["startedAt"]) == (2, "2026-01-02T03:04:05.000000Z")
    assert not {"progress", "nextAttemptAt"} & set(status)


def test_messages_fit_the_schema() -> None:
    long = status_of(job(event(4, Status.FAILED, State.FAILED, message="x" * 5_000)), None)
    assert len(long["message"]) == len(long["conditions"][0]["message"]) == 1_024


def test_the_transition_time_is_kept_while_the_status_stays() -> None:
    first = stamp(status_of(job(STARTED), None), {}, NOW)
    later = NOW.replace(minute=30)
    second = stamp(status_of(job(STARTED, event(4, "Step 1", State.RUNNING, message="on")), None), first, later)
    assert second["conditions"][0]["lastTransitionTime"] == first["conditions"][0]["lastTransitionTime"]
    third = stamp(status_of(job(STARTED, event(4, "Completed", State.COMPLETED)), None), second, later)
    assert third["conditions"][0]["lastTransitionTime"] == "2026-01-02T03:30:05Z"
    assert without_times(first) == without_times(stamp(first, {}, later))


def test_a_status_that_was_refused_keeps_what_does_not_come_from_handlers() -> None:
    done = event(5, Status.COMPLETED, State.COMPLETED, message="x", data={"result": {"a": 1}})
    status = stamp(status_of(job(STARTED, done), None), {}, NOW)
    kept = safe(status)
    assert not {"result", "worker", "progress"} & set(kept)
    assert kept["jobId"] == "1"
    assert outcome(kept) == outcome(status) == (State.COMPLETED, NOW)


def test_an_ended_jobs_status_follows_its_generation() -> None:
    status = stamp(status_of(job(STARTED, event(5, Status.COMPLETED, State.COMPLETED)), None), {}, NOW)
    again = following(status, 9)
    assert again["observedGeneration"] == 9
    assert [each["observedGeneration"] for each in again["conditions"]] == [9, 9]
    assert following(again, 3) == status


@pytest.mark.parametrize(
    ("state", "told"),
    [(State.SUBMITTED, True), (State.QUEUED, True), (State.RUNNING, False), (State.COMPLETED, False)],
)
def test_it_is_known_whether_a_status_was_written_after_everybody_was_told(state: State, told: bool) -> None:  # noqa: FBT001
    queued = job(event(2, Status.QUEUED, State.QUEUED, attempt=0))
    head = Head("1", "ns", "n", "h", "q", "g", NOW, state)
    assert tells(status_of(queued, None), head) is told
    assert not tells({}, head)
    queued.trouble = TROUBLE + "the broker is away"
    assert not tells(status_of(queued, None), head)
    done = job(event(3, Status.CANCELLED, State.CANCELLED))
    done.trouble = TROUBLE + "the broker is away"
    assert outcome(stamp(status_of(done, None), {}, NOW)) is None


def test_an_outcome_of_a_newer_operator_is_an_outcome() -> None:
    status = stamp(status_of(job(STARTED, event(5, Status.COMPLETED, State.COMPLETED)), None), {}, NOW)
    succeeded = {**status["conditions"][0], "reason": "Unheard", "status": "Unknown"}
    finished = {**status["conditions"][1], "reason": "Unheard"}
    assert outcome({**status, "conditions": [succeeded, finished]}) == (State("Unheard"), NOW)
    assert outcome({**status, "conditions": [{**succeeded, "status": "True"}]}) == (State("Unheard"), NOW)
    assert outcome({**status, "conditions": [succeeded, {**finished, "status": "False"}]}) is None


def test_what_a_handler_says_of_a_step_is_its_own() -> None:
    job = Job("uid", "default", "job", NOW)
    job.apply(event(1, "Started", State.RUNNING))
    job.apply(event(2, "Step 1", State.RUNNING, data={"policy": "mine", "nextAttemptAt": "soon", "handlerPolicy": 1}))
    assert (job.sequence, job.policy, job.next_attempt_at) == (2, None, None)
