"""What a claim makes of each state that it may find."""

from datetime import UTC, datetime, timedelta

import pytest
from joblease.head import Head
from joblease.messages import JobMessage, RetryPolicy
from joblease.states import State
from joblease_worker.claim import NothingToRun, _next

MESSAGE = JobMessage(
    job_id="1", namespace="default", name="n", handler="h", queue="default", group="default", limit=1,
    retry=RetryPolicy(max_attempts=3),
)  # fmt: skip


def head(state: State, *, attempt: int = 1, cancel_requested: bool = False) -> Head:
    return Head(
        "1", "default", "n", "h", "default", "default", datetime.now(UTC), state=state, attempt=attempt, epoch=5,
        worker="worker-9", cancel_requested=cancel_requested,
    )  # fmt: skip


def claimed(before: Head) -> tuple[list[tuple[str, int | None]], dict[str, object]]:
    events, changes = _next(before, MESSAGE, "worker-1")
    return [(event.status, event.attempt) for event in events], changes


def test_a_queued_job_starts_its_next_attempt() -> None:
    events, changes = claimed(head(State.QUEUED, attempt=1))
    assert events == [("Started", None)]
    began = changes.pop("attempt_started_at")
    assert isinstance(began, datetime)
    assert abs(datetime.now(UTC) - began) < timedelta(seconds=5)
    assert changes == {"state": State.RUNNING, "epoch": 6, "attempt": 2, "next_attempt_at": None}


def test_a_job_that_was_handed_back_keeps_its_attempt() -> None:
    events, changes = claimed(head(State.INTERRUPTED, attempt=3))
    assert events == [("Started", None)]
    assert changes == {"state": State.RUNNING, "epoch": 6, "next_attempt_at": None}  # and when it began


def test_a_lost_run_is_recorded_and_costs_an_attempt() -> None:
    events, changes = claimed(head(State.RUNNING, attempt=2))
    assert events == [("Interrupted", 2), ("Started", None)]
    assert (changes["attempt"], changes["epoch"]) == (3, 6)


def test_a_job_that_loses_its_last_attempt_has_crashed() -> None:
    events, changes = claimed(head(State.RUNNING, attempt=3))
    assert events == [("Interrupted", 3), ("Failed", None)]
    assert changes == {"state": State.WORKER_CRASHED}


@pytest.mark.parametrize(
    ("state", "attempt", "told"),
    [
        (State.QUEUED, 0, "cancelled before it started"),
        (State.QUEUED, 1, "cancelled before its next attempt"),
        (State.RUNNING, 1, "cancelled; its worker was lost"),
        (State.INTERRUPTED, 1, "cancelled before another worker took it"),
    ],
)
def test_a_cancelled_job_does_not_start(state: State, attempt: int, told: str) -> None:
    before = head(state, attempt=attempt, cancel_requested=True)
    events, changes = claimed(before)
    assert events == [("Cancelled", None)]
    assert changes == {"state": State.CANCELLED}
    assert _next(before, MESSAGE, "worker-1")[0][0].message == told


@pytest.mark.parametrize("state", [*(state for state in State if state.terminal), State.SUBMITTED, State.RETRYING])
def test_a_message_that_is_out_of_date_is_skipped(state: State) -> None:
    with pytest.raises(NothingToRun):
        claimed(head(state))
