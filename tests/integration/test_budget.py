"""What a job may cost over its whole life: storage requests, messages, writes to the API server. Counted, not timed.

Whoever raises one raises what every job of every user costs; whoever makes jobs cheaper lowers it.
"""

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import pytest
from support.cluster import Cluster
from support.programs import Program


@dataclass(frozen=True)
class Cost:
    """Of one job."""

    operator_requests: float
    """To storage."""
    worker_requests: float
    """To storage, of all workers that have run it."""
    jobs: float
    """Messages to workers."""
    events: float
    """Messages to everybody."""
    api_writes: float
    """To the API server."""


# The operator lists the job and begins its trail; the worker takes a slot, claims the job, records its outcome and
# gives the slot back. Each row of the trail is an event, and each reason that lasts is a status.
AT_ONCE = Cost(operator_requests=2, worker_requests=4, jobs=1, events=4, api_writes=3)
WITHOUT_A_LIMIT = Cost(operator_requests=2, worker_requests=2, jobs=1, events=4, api_writes=3)
WITH_3_STEPS = Cost(operator_requests=2, worker_requests=4 + 3, jobs=1, events=4 + 3, api_writes=3)
# Admitted later: one more transaction; held back, queued, running, outcome.
WAITED_WITH_1_STEP = Cost(operator_requests=3, worker_requests=4 + 1, jobs=1, events=4 + 1, api_writes=4)
# Admitted again: the operator reads what the worker has left, and writes; the worker begins anew.
FAILED_ONCE = Cost(operator_requests=2 + 2, worker_requests=2 * 4, jobs=2, events=4 + 3, api_writes=3 + 3)

SOON = {"maxAttempts": 2, "backoff": {"initialSeconds": 1, "maxSeconds": 1}}
JOBS = 4
IDLE_SECONDS = 4.0


class Meter:
    """What an operator and a worker have spent so far."""

    def __init__(self, operator: Program, worker: Program) -> None:
        self.operator = operator
        self.worker = worker

    def read(self) -> Cost:
        return Cost(
            operator_requests=self.operator.metric("joblease_storage_requests_total"),
            worker_requests=self.worker.metric("joblease_storage_requests_total") - self.renewals,
            jobs=self._published("joblease.jobs"),
            events=self._published("joblease.events"),
            api_writes=self.operator.metric("joblease_api_writes_total"),
        )

    @property
    def renewals(self) -> float:
        """Of the worker's leases: so many in a time, however many jobs there are."""
        return self.worker.metric("joblease_lease_renewals_total")

    def _published(self, exchange: str) -> float:
        name = "joblease_messages_published_total"
        return sum(program.metric(name, exchange=exchange) for program in (self.operator, self.worker))


@pytest.fixture
async def meter(cluster: Cluster, operator: Program, worker: Program, submit: Callable[..., str]) -> Meter:
    await cluster.reaches(submit(), "Completed")  # the first job in a group makes the group's slot
    return Meter(operator, worker)


def check(before: Cost, after: Cost, budget: Cost) -> None:
    """Say which budgets were exceeded."""
    spent = {name: (value - getattr(before, name)) / JOBS for name, value in asdict(after).items()}
    allowed = asdict(budget)
    assert {name: value for name, value in spent.items() if value > allowed[name]} == {}, f"allowed are {allowed}"
    assert (spent["jobs"], spent["events"]) == (budget.jobs, budget.events)  # the jobs were what they should be


@pytest.mark.parametrize(
    ("handler", "spec", "budget"),
    [
        ("noop", {}, AT_ONCE),
        ("noop", {"concurrency": {"group": "free", "limit": 0}}, WITHOUT_A_LIMIT),
        ("steps", {"parameters": {"count": 3}}, WITH_3_STEPS),
        ("steps", {"parameters": {"count": 3, "checkpoints": True}}, WITH_3_STEPS),
        ("fail", {"parameters": {"until_attempt": 2}, "retry": SOON}, FAILED_ONCE),
        ("import", {"parameters": {"rows": 9, "stop_at": 6}, "retry": SOON}, FAILED_ONCE),
    ],
)
async def test_a_job_that_is_admitted_at_once(
    cluster: Cluster, meter: Meter, submit: Callable[..., str], handler: str, spec: dict[str, Any], budget: Cost
) -> None:
    before = await asyncio.to_thread(meter.read)
    for _ in range(JOBS):
        await cluster.reaches(submit(handler, **spec), "Completed")
    check(before, await asyncio.to_thread(meter.read), budget)


async def test_jobs_that_wait_for_their_group(cluster: Cluster, meter: Meter, submit: Callable[..., str]) -> None:
    before = await asyncio.to_thread(meter.read)
    names = [submit("hold", parameters={"seconds": 0.5}) for _ in range(JOBS)]  # the first one of them does not wait
    await cluster.reaches(names[-1], "WaitingForGroup")
    for name in names:
        await cluster.reaches(name, "Completed")
    check(before, await asyncio.to_thread(meter.read), WAITED_WITH_1_STEP)


async def running(cluster: Cluster, name: str) -> None:
    """Wait until there will be no other status before its outcome."""
    async with asyncio.timeout(20):
        while cluster.get(name).get("status", {}).get("progress") is None:
            await asyncio.sleep(0.05)


async def test_an_outcome_and_a_deletion_are_one_write_each(
    cluster: Cluster, meter: Meter, submit: Callable[..., str]
) -> None:
    name = submit("hold", parameters={"seconds": 4}, ttlSecondsAfterFinished=0)
    await running(cluster, name)
    before = await asyncio.to_thread(meter.read)
    async with asyncio.timeout(20):
        while cluster.exists(name):
            await asyncio.sleep(0.1)
    assert (await asyncio.to_thread(meter.read)).api_writes - before.api_writes == 2


async def test_waiting_costs_nothing(cluster: Cluster, meter: Meter, submit: Callable[..., str]) -> None:
    holder = submit("hold", parameters={"seconds": 30})
    await running(cluster, holder)
    for name in [submit() for _ in range(10)]:
        await cluster.reaches(name, "WaitingForGroup")
    before, renewals = await asyncio.to_thread(meter.read), await asyncio.to_thread(lambda: meter.renewals)
    await asyncio.sleep(IDLE_SECONDS)
    after = await asyncio.to_thread(meter.read)
    assert after.operator_requests == before.operator_requests
    assert after.worker_requests - before.worker_requests <= 1  # the slot says who holds it
    assert await asyncio.to_thread(lambda: meter.renewals) - renewals <= 2 * (IDLE_SECONDS // 5 + 1)  # session and slot
    assert (after.jobs, after.events, after.api_writes) == (before.jobs, before.events, before.api_writes)
