"""The simulated installation: the same seed, the same run; limits hold; what it shows is what was worked out."""

from dataclasses import replace

import pytest
from capacity import least, renewals
from costs import LEASE_SECONDS, Job, Latency, Site
from queueing import Installation

SITE = Site(
    workers=20, operator_ms=5, worker_ms=5, dashboard_ms=4, operator_step_ms=0.5, dashboard_step_ms=1,
    storage=Latency(7, 40),
)  # fmt: skip
ONE_SECOND = Job(1, limited=True, waits=True)


def test_the_same_seed_gives_the_same_run() -> None:
    def run(seed: int) -> object:
        installation = Installation(SITE, Job(0.2, steps=2), seed=seed)
        installation.arrive(20)
        return installation.run(10)

    assert run(7) == run(7)
    assert run(7) != run(8)


@pytest.mark.parametrize("limit", [1, 3])
def test_never_more_jobs_run_than_the_limit_allows(limit: int) -> None:
    installation = Installation(SITE, ONE_SECOND, limit)
    installation.keep(10)
    figures = installation.run(60)
    assert figures.most_running == limit
    _, worked_out = least(ONE_SECOND, SITE, limit)
    assert figures.ended / 60 == pytest.approx(worked_out, rel=0.1)


def test_the_limit_holds_when_workers_die_and_their_leases_live_on() -> None:
    installation = Installation(SITE, ONE_SECOND, 2)
    installation.keep(10)
    installation.run(10)
    lost = installation.workers.kill(2, back_after=1)
    waiting = installation.run(LEASE_SECONDS - 25)
    assert waiting.ended == 0  # both slots are locked
    assert waiting.deferrals > 2
    after = installation.run(60)
    assert after.most_running == 2
    assert after.ended > 20
    assert all(task.recovered_after and task.recovered_after > LEASE_SECONDS - 25 for task in lost)


def test_jobs_run_at_most_on_all_workers() -> None:
    installation = Installation(SITE, Job(5))
    installation.keep(50)
    assert installation.run(60).most_running == SITE.workers


def test_long_jobs_renew_their_leases() -> None:
    job = Job(1000, limited=True, waits=True)
    installation = Installation(SITE, job, 10)
    installation.keep(10)
    installation.run(100)
    assert installation.run(200).renewals / 200 == pytest.approx(renewals(10, job.leases), rel=0.1)


@pytest.mark.parametrize("rate", [100, 400])
def test_an_account_is_not_used_beyond_its_limit(rate: float) -> None:
    site = replace(SITE, account=rate, dashboards=0, operator_ms=0.1)
    installation = Installation(site, Job())
    installation.keep(40)
    installation.run(20)
    figures = installation.run(20)
    assert figures.spent.units / 20 == pytest.approx(rate, rel=0.1)
    part, worked_out = least(Job(), site, 0)
    assert part == "the storage account"
    assert figures.ended / 20 == pytest.approx(worked_out, rel=0.1)
