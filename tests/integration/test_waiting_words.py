"""What a job waits for: the trail says it in the words of the resource's conditions, each time that it changes."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from joblease.messages import Status
from joblease.states import State
from support.cluster import Cluster
from support.engine import operator, until
from support.jobs import Jobs
from support.play import play


@pytest.fixture
def cluster(crd: Path, kube_namespace: str, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setenv("KUBECONFIG", str(crd))
    return Cluster(crd, kube_namespace)


async def told(jobs: Jobs, uid: str) -> list[tuple[str, str]]:
    """What each event says has happened, and where the job is after it."""
    return [(event.status, event.shown.value) for event in await jobs.trail.history(uid)]


async def test_each_word_is_in_the_trail_once_also_across_a_restart(jobs: Jobs, cluster: Cluster) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=6)
    async with operator(jobs, cluster) as running:
        holder = cluster.create()
        await cluster.reaches(holder, "Queued")
        name = cluster.create(suspend=True, startAfter=soon.isoformat())
        uid = running.uid(name)
        await cluster.reaches(name, "Suspended")
        cluster.change(name, suspend=False)
        await cluster.reaches(name, "Scheduled")
    async with operator(jobs, cluster) as running:
        resource = await cluster.reaches(name, "WaitingForGroup")
        assert f"held by {cluster.namespace}/{holder}" in resource["status"]["message"]
        cluster.change(holder, cancel=True)
        await cluster.reaches(name, "Queued")
    assert await told(jobs, uid) == [
        ("Submitted", "Suspended"),
        ("Scheduled", "Scheduled"),
        ("WaitingForGroup", "WaitingForGroup"),
        ("Queued", "Queued"),
    ]
    assert all(holder not in event.message for event in await jobs.trail.history(uid))  # it may be another tenant's
    assert (await jobs.trail.head(uid)).reason is None


async def test_a_retry_that_is_suspended_keeps_its_time(jobs: Jobs, cluster: Cluster) -> None:
    async with operator(jobs, cluster) as running:
        name = cluster.create()
        uid = running.uid(name)
        await cluster.reaches(name, "Queued")
        due = datetime.now(UTC) + timedelta(hours=1)
        await play(jobs, uid, (Status.STARTED, State.RUNNING))
        data = {"nextAttemptAt": due.isoformat()}
        await play(jobs, uid, (Status.RETRYING, State.RETRYING), data=data)
        await cluster.reaches(name, "Retrying")
        cluster.change(name, suspend=True)
        await cluster.reaches(name, "Suspended")
        cluster.change(name, suspend=False)
        await cluster.reaches(name, "Retrying")
        assert running.jobs[uid].next_attempt_at == due
        await until(lambda: running.jobs[uid].shown is State.RETRYING)
    assert (await told(jobs, uid))[-3:] == [
        ("Retrying", "Retrying"), ("Suspended", "Suspended"), ("Scheduled", "Retrying"),
    ]  # fmt: skip
    assert (await jobs.trail.head(uid)).next_attempt_at == due


async def test_a_job_that_may_go_at_once_says_nothing_of_waiting(jobs: Jobs, cluster: Cluster) -> None:
    async with operator(jobs, cluster) as running:
        name = cluster.create(suspend=True)
        await cluster.reaches(name, "Suspended")
        cluster.change(name, suspend=False)
        await cluster.reaches(name, "Queued")
        assert await told(jobs, running.uid(name)) == [("Submitted", "Suspended"), ("Queued", "Queued")]
