"""Which jobs the operator looks after, and in which order."""

import math
from typing import Any

from joblease.jobrequest import JobRequestSpec
from joblease.messages import now
from joblease.states import State
from joblease_operator import pools
from joblease_operator.active import Active
from joblease_operator.admissions import Admissions
from joblease_operator.job import Job
from joblease_operator.policies import Policies
from joblease_operator.settings import OperatorSettings


def job(uid: str, state: State = State.QUEUED) -> Job:
    return Job(uid, "default", uid, now(), spec=JobRequestSpec(handler="noop", queue="q"), state=state)


class Counting(dict[str, Job]):
    """Jobs, and how often one was looked at."""

    looks = 0

    def get(self, uid: str, default: Any = None) -> Any:
        self.looks += 1
        return super().get(uid, default)


async def test_a_round_costs_what_has_changed_and_not_how_many_wait_for_a_worker() -> None:
    jobs, active, reflected = Counting(), Active(), list[str]()
    settings = OperatorSettings(operator_default_limit=0)
    admissions = Admissions(Policies(settings, print), jobs, lambda _: None)
    nobody: Any = None
    watcher = pools.Pools(
        settings, nobody, jobs, active, admissions, nobody, nobody, nobody, lambda job: reflected.append(job.uid)
    )

    def hand_over(uid: str) -> None:
        jobs[uid] = job(uid)
        admissions.hold(jobs[uid])
        active.note(jobs[uid])

    for number in range(1_000):
        hand_over(str(number))
    await watcher._pass_over({"q"})
    assert len(reflected) == 1_000
    jobs.looks = 0
    await watcher._pass_over({"q"})
    assert jobs.looks == 0
    settings.operator_default_limit = 1
    hand_over("late")
    assert admissions.scheduler.slot("late") == 0
    await watcher._pass_over({"q"})
    assert (jobs.looks, reflected[1_000:]) == (1, ["late"])
    assert admissions.scheduler.slot("late") is None  # it holds up nobody
    await watcher._pass_over(set())
    assert len(reflected) == 2_002


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


async def test_a_job_that_has_ended_while_others_waited_for_storage_stands_in_nobodys_way() -> None:
    jobs = {uid: job(uid, State.SUBMITTED) for uid in ("ended", "next")}
    admissions = Admissions(Policies(OperatorSettings(operator_default_limit=1), print), jobs, lambda _: None)
    admissions.open()
    jobs["ended"].state = State.CANCELLED
    assert not admissions.enqueue(jobs["ended"])
    assert admissions.enqueue(jobs["next"])
