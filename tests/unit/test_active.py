"""Which jobs the operator looks after, and in which order."""

import math

from joblease.messages import State, now
from joblease.resource import JobRequestSpec
from joblease_operator.active import Active
from joblease_operator.job import Job


def job(uid: str, state: State = State.QUEUED) -> Job:
    return Job(uid, "default", uid, now(), spec=JobRequestSpec(handler="noop", queue="q"), state=state)


def test_who_is_known_to_be_lost_is_looked_at_before_all_that_may_be() -> None:
    active, lost = Active(), job("lost", State.RUNNING)
    active.note(lost)
    for number in range(1_000):
        active.note(job(str(number)))
    active.miss(lost, since=-math.inf)
    assert list(active.handed["q"])[:3] == ["lost", "0", "1"]
    active.miss(lost)  # it was looked at
    assert next(iter(active.handed["q"])) == "0"
    assert next(reversed(active.handed["q"])) == "lost"
    assert not active.running
