"""How a run's end reads in the trail, and what it makes of the job."""

import pytest
from joblease.handlers import ENDINGS, GIVEN
from joblease.messages import JobMessage, RetryPolicy
from joblease.states import State
from joblease_worker import frames
from joblease_worker.closing import Why, closing
from joblease_worker.ending import DIED, RAISED, STOPPED, UNSTARTED, Ending
from joblease_worker.failure import failure

MESSAGE = JobMessage(
    job_id="1", namespace="default", name="n", handler="h", queue="default", group="default", limit=1,
    retry=RetryPolicy(max_attempts=3, initial_seconds=10, factor=1), active_deadline_seconds=90,
)  # fmt: skip
ASKED_TO = Ending(STOPPED)
KILLED = Ending(DIED, error="the handler did not end within 10 s of being asked to, and was killed")
FAILED = Ending(RAISED, error="ValueError: no luck", traceback="the stack")
FOR_GOOD = Ending(State.FAILED, error="the input is broken")
ASKED = "the handler ended when it was asked to"
AGAIN = "another worker starts the handler again from the beginning; it counts as the same attempt"


@pytest.mark.parametrize(
    ("ending", "why", "attempt", "state", "text"),
    [
        (Ending(State.COMPLETED, result=1), None, 1, State.COMPLETED, "attempt 1 completed"),
        (Ending(State.COMPLETED), Why.CANCEL, 1, State.COMPLETED, "attempt 1 completed"),
        (ASKED_TO, Why.CANCEL, 1, State.CANCELLED, f"cancelled while it was running: {ASKED}"),
        (KILLED, Why.CANCEL, 1, State.CANCELLED, f"cancelled while it was running: {KILLED.error}"),
        (Ending(UNSTARTED), None, 3, State.INTERRUPTED, f"worker-1 stood still before the handler began; {AGAIN}"),
        (Ending(UNSTARTED), Why.CANCEL, 1, State.CANCELLED, "cancelled: the handler had not begun"),
        (ASKED_TO, Why.DRAIN, 1, State.INTERRUPTED, f"worker-1 shuts down; {AGAIN}"),
        (ASKED_TO, Why.DEADLINE, 3, State.DEADLINE_EXCEEDED,
         f"attempt 3 of 3 failed: did not end within activeDeadlineSeconds (90 s); {ASKED}"),
        (KILLED, Why.DEADLINE, 3, State.DEADLINE_EXCEEDED,
         f"attempt 3 of 3 failed: did not end within activeDeadlineSeconds (90 s); {KILLED.error}"),
        (FAILED, None, 3, State.FAILED, "attempt 3 of 3 failed: ValueError: no luck"),
        (FOR_GOOD, None, 1, State.FAILED, "attempt 1 failed for good: the input is broken"),
        (FOR_GOOD, Why.CANCEL, 1, State.CANCELLED,
         "cancelled while it was running: the handler ended with an error when it was asked to end"),
        (ASKED_TO, None, 3, State.FAILED, "attempt 3 of 3 failed: the handler stopped without being asked to"),
    ],
)  # fmt: skip
def test_the_words_and_the_state(ending: Ending, why: Why | None, attempt: int, state: State, text: str) -> None:
    end = closing(MESSAGE, attempt, "worker-1", ending, why)
    assert (end.changes["state"], end.event.message) == (state, text)
    if state in (State.FAILED, State.DEADLINE_EXCEEDED):
        assert (end.event.data or {})["reason"] == state.value


@pytest.mark.parametrize("why", [None, Why.DEADLINE])
def test_an_attempt_that_failed_is_followed_by_another(why: Why | None) -> None:
    end = closing(MESSAGE, 1, "worker-1", FAILED, why)
    assert end.changes["state"] is State.RETRYING
    assert end.event.message.startswith("attempt 1 of 3 failed: ")
    assert "; next attempt in " in end.event.message
    assert (end.event.data or {})["traceback"] == "the stack"
    assert set(end.changes) == {"state", "next_attempt_at"}


@pytest.mark.parametrize("outcome", GIVEN)
def test_what_a_handler_gives_is_the_jobs_outcome(outcome: State) -> None:
    end = closing(MESSAGE, 1, "worker-1", Ending(outcome, error="why"), None)
    assert (end.changes, end.event.status) == ({"state": outcome}, outcome.event)


@pytest.mark.parametrize(("raised", "outcome"), ENDINGS.items())
def test_what_is_raised_reaches_the_worker_as_its_outcome(raised: type[Exception], outcome: State) -> None:
    class Own(raised):  # type: ignore[misc,valid-type]
        pass

    for error in (raised("why"), Own("why")):
        told = frames.said(frames.encode(frames.Ended(run="1.1", **failure(error))))
        assert isinstance(told, frames.Ended)
        assert (told.how, told.error) == (outcome, "why")


def test_a_greater_reason_replaces_a_lesser_one() -> None:
    assert Why.LOST > Why.CANCEL > Why.DEADLINE > Why.DRAIN
