"""Operator and workers as processes, on a real API server, broker and storage emulator."""

import asyncio
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from joblease.errors import TransientError
from joblease.messages import JobEvent, now
from joblease.states import State
from joblease_local.control_plane import ControlPlane
from joblease_local.manifests import apply_file, wait_for_crd
from joblease_operator.job import Job
from joblease_operator.kube import Gone, JobRequests
from joblease_operator.settings import OperatorSettings
from kubernetes.aio.client import ApiException
from support.cluster import Cluster
from support.jobs import Jobs
from support.programs import Program, check_metrics

ROOT = Path(__file__).parent.parent.parent
Start = Callable[..., AbstractAsyncContextManager[Program]]


async def history(jobs: Jobs, cluster: Cluster, name: str) -> list[JobEvent]:
    return await jobs.trail.history(cluster.get(name)["metadata"]["uid"])


async def test_a_job_goes_all_the_way(
    jobs: Jobs, cluster: Cluster, operator: Program, worker: Program, submit: Callable[..., str]
) -> None:
    name = submit("echo", parameters={"width": 3})
    resource = await cluster.reaches(name, "Completed")
    status = resource["status"]
    assert status["jobId"] == resource["metadata"]["uid"]
    assert status["result"]["width"] == 3
    assert (status["attempt"], status["worker"], status["progress"]) == (1, "worker-1", 100)
    assert status["startedAt"] <= status["completedAt"]
    assert status["observedGeneration"] == 1
    assert cluster.condition(name)["status"] == "True"
    events = await history(jobs, cluster, name)
    assert [event.status for event in events] == ["Submitted", "Queued", "Started", "Completed"]
    assert (events[0].data or {})["parameters"] == {"width": 3}


async def test_events_wait_for_a_dashboard_that_has_never_been_there(
    jobs: Jobs, cluster: Cluster, operator: Program, submit: Callable[..., str]
) -> None:
    await cluster.reaches(submit(), "Queued")
    queue = await jobs.broker.ask(lambda channel: channel.get_queue("joblease.events.index"))
    assert (queue.declaration_result.message_count or 0) >= 2


async def test_the_group_is_waited_for_by_priority_then_age(
    jobs: Jobs, cluster: Cluster, operator: Program, worker: Program, submit: Callable[..., str]
) -> None:
    holder = submit("hold", parameters={"seconds": 3})
    await cluster.reaches(holder, "Running")
    low, high, middle = submit(priority=1), submit(priority=9), submit(priority=5)
    resource = await cluster.reaches(low, "WaitingForGroup")
    assert f"held by {cluster.namespace}/{holder}" in resource["status"]["message"]
    starts = []
    for name in (high, middle, low):
        await cluster.reaches(name, "Completed")
        events = await history(jobs, cluster, name)
        starts.append(next(event.timestamp for event in events if event.status == "Started"))
        assert [event.status for event in events] == ["Submitted", "Queued", "Started", "Completed"]
    assert starts == sorted(starts)


async def test_a_job_that_fails_is_tried_again(
    jobs: Jobs, cluster: Cluster, operator: Program, worker: Program, submit: Callable[..., str]
) -> None:
    retry = {"maxAttempts": 3, "backoff": {"initialSeconds": 1, "maxSeconds": 1}}
    name = submit("fail", parameters={"until_attempt": 3}, retry=retry)
    resource = await cluster.reaches(name, "Completed")
    assert (resource["status"]["attempt"], resource["status"]["result"]) == (3, "at last")
    assert [event.status for event in await history(jobs, cluster, name)] == [
        "Submitted", "Queued", "Started", "Retrying", "Queued", "Started", "Retrying", "Queued", "Started", "Completed",
    ]  # fmt: skip
    hopeless = submit("fail", retry={**retry, "maxAttempts": 2})
    resource = await cluster.reaches(hopeless, "Failed")
    assert "attempt 2 of 2 failed: ValueError: no luck in attempt 2" in resource["status"]["message"]
    assert cluster.condition(hopeless)["status"] == "False"


async def test_parameters_that_are_too_large_fail_with_a_reason(
    jobs: Jobs, cluster: Cluster, operator: Program, submit: Callable[..., str]
) -> None:
    name = submit(parameters={"text": "x" * 65 * 1024})
    resource = await cluster.reaches(name, "Failed")
    assert "at most 65536 fit" in resource["status"]["message"]
    events = await history(jobs, cluster, name)
    assert [event.status for event in events] == ["Submitted", "Failed"]
    assert "parameters" not in (events[0].data or {})


async def test_nothing_starts_before_its_time_or_while_it_is_held_back(
    jobs: Jobs, cluster: Cluster, operator: Program, worker: Program, submit: Callable[..., str]
) -> None:
    later = submit(startAfter="2999-01-01T00:00:00Z")
    held = submit(suspend=True)
    resource = await cluster.reaches(later, "Scheduled")
    assert "2999-01-01" in resource["status"]["message"]
    await cluster.reaches(held, "Suspended")
    cluster.change(held, suspend=False)
    await cluster.reaches(held, "Completed")
    assert [event.status for event in await history(jobs, cluster, later)] == ["Submitted"]


async def test_waiting_and_running_jobs_are_cancelled(
    jobs: Jobs, cluster: Cluster, operator: Program, worker: Program, submit: Callable[..., str]
) -> None:
    running, waiting = submit("hold"), submit()
    await cluster.reaches(running, "Running")
    await cluster.reaches(waiting, "WaitingForGroup")
    cluster.change(waiting, cancel=True)
    await cluster.reaches(waiting, "Cancelled")
    assert [event.status for event in await history(jobs, cluster, waiting)] == ["Submitted", "Cancelled"]
    cluster.change(running, cancel=True)
    await cluster.reaches(running, "Cancelled")
    await cluster.reaches(submit(), "Completed")


async def test_a_queued_job_is_cancelled_before_any_worker_comes(
    jobs: Jobs, cluster: Cluster, operator: Program, start_worker: Start, submit: Callable[..., str]
) -> None:
    name = submit()
    await cluster.reaches(name, "Queued")
    cluster.change(name, cancel=True)
    await cluster.reaches(name, "Cancelled")
    after = submit()
    async with start_worker():
        await cluster.reaches(after, "Completed")
    assert [event.status for event in await history(jobs, cluster, name)] == ["Submitted", "Queued", "Cancelled"]


async def test_deleting_a_job_cancels_it(
    jobs: Jobs, cluster: Cluster, operator: Program, worker: Program, submit: Callable[..., str]
) -> None:
    running, waiting = submit("hold"), submit()
    await cluster.reaches(running, "Running")
    await cluster.reaches(waiting, "WaitingForGroup")
    uids = [cluster.get(name)["metadata"]["uid"] for name in (running, waiting)]
    for name in (waiting, running):
        cluster.delete(name)
    for uid in uids:
        assert (await jobs.outcome(uid))[0] is State.CANCELLED
    async with asyncio.timeout(10):
        while cluster.exists(running) or cluster.exists(waiting):
            await asyncio.sleep(0.1)
    await cluster.reaches(submit(), "Completed")


@pytest.mark.parametrize(("spec", "reason"), [({"suspend": True}, "Suspended"), ({}, "Queued")])
async def test_a_job_that_is_deleted_while_the_operator_is_away_is_cancelled_and_leaves_nothing(
    jobs: Jobs, cluster: Cluster, start_operator: Start, submit: Callable[..., str], spec: dict[str, Any], reason: str
) -> None:
    async with start_operator() as first:
        name = submit(**spec)
        await cluster.reaches(name, reason)
        await first.stop(signal.SIGKILL)
    uid = cluster.get(name)["metadata"]["uid"]
    cluster.delete(name)
    assert not cluster.exists(name)
    async with start_operator(JOBLEASE_OPERATOR_RESYNC_SECONDS="1"):
        assert (await jobs.outcome(uid))[0] is State.CANCELLED
        async with asyncio.timeout(10):
            while await jobs.is_listed(uid):
                await asyncio.sleep(0.1)


async def test_a_running_job_that_is_deleted_while_the_operator_is_away_is_cancelled(
    jobs: Jobs, cluster: Cluster, start_operator: Start, worker: Program, submit: Callable[..., str]
) -> None:
    async with start_operator() as first:
        name = submit("hold")
        await cluster.reaches(name, "Running")
        await first.stop(signal.SIGKILL)
    uid = cluster.get(name)["metadata"]["uid"]
    cluster.delete(name)
    async with start_operator(JOBLEASE_OPERATOR_RESYNC_SECONDS="1"):
        state, events = await jobs.outcome(uid)
    assert (state, events[-1].worker) == (State.CANCELLED, "worker-1")


async def test_an_ended_job_is_deleted_in_time_and_its_trail_stays(
    jobs: Jobs, cluster: Cluster, operator: Program, worker: Program, submit: Callable[..., str]
) -> None:
    name = submit(ttlSecondsAfterFinished=1)
    uid = (await cluster.reaches(name, "Completed"))["metadata"]["uid"]
    async with asyncio.timeout(15):
        while cluster.exists(name):
            await asyncio.sleep(0.1)
    assert (await jobs.trail.history(uid))[-1].status == "Completed"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_restart_loses_nothing_and_runs_nothing_twice(
    jobs: Jobs, cluster: Cluster, start_operator: Start, worker: Program, submit: Callable[..., str], number: int
) -> None:
    async with start_operator() as first:
        ended = await cluster.reaches(submit("echo", parameters={"width": 1}), "Completed")
        running = submit("hold", parameters={"seconds": 4})
        waiting = [submit() for _ in range(5)]
        await cluster.reaches(running, "Running")
        await first.stop(number)
    waiting += [submit() for _ in range(2)]
    async with start_operator():
        for name in (running, *waiting):
            await cluster.reaches(name, "Completed", timeout=60)
            words = [event.status for event in await history(jobs, cluster, name)]
            assert words.count("Started") == 1
            assert "Deferred" not in words  # the running job's slot was remembered
        assert cluster.get(ended["metadata"]["name"])["status"] == ended["status"]


async def test_a_job_whose_message_was_never_published_is_published_after_a_restart(
    jobs: Jobs, cluster: Cluster, start_operator: Start, worker: Program, submit: Callable[..., str]
) -> None:
    """The operator died between the trail and the broker."""
    from joblease.head import Head
    from joblease.messages import Status
    from joblease.trail import NewEvent

    name = submit()
    uid = cluster.get(name)["metadata"]["uid"]
    head = Head(uid, cluster.namespace, name, "noop", cluster.namespace, cluster.namespace, now())
    await jobs.trail.append(
        head, [NewEvent(Status.SUBMITTED, state=State.SUBMITTED), NewEvent(Status.QUEUED)], state=State.QUEUED
    )
    async with start_operator():
        await cluster.reaches(name, "Completed")
    words = [event.status for event in await history(jobs, cluster, name)]
    assert words == ["Submitted", "Queued", "Started", "Completed"]


async def test_lost_events_are_healed_from_the_trail(
    jobs: Jobs, cluster: Cluster, start_operator: Start, submit: Callable[..., str]
) -> None:
    from joblease.messages import Status
    from joblease.trail import NewEvent

    async with start_operator(JOBLEASE_OPERATOR_RESYNC_SECONDS="1"):
        name = submit()
        await cluster.reaches(name, "Queued")
        head = await jobs.trail.head(cluster.get(name)["metadata"]["uid"])
        await jobs.trail.append(head, [NewEvent(Status.COMPLETED)], state=State.COMPLETED)  # and no event
        await cluster.reaches(name, "Completed")


async def test_no_limit_admits_everything_at_once(
    cluster: Cluster, operator: Program, submit: Callable[..., str]
) -> None:
    names = [submit(concurrency={"group": "wide", "limit": 0}) for _ in range(10)]
    for name in names:
        await cluster.reaches(name, "Queued")


async def test_the_trace_of_the_resource_reaches_the_handler(
    cluster: Cluster, operator: Program, worker: Program, submit: Callable[..., str]
) -> None:
    name = submit("echo", suspend=True)
    trace = "0af7651916cd43dd8448eb211c80319c"
    cluster._api.patch_namespaced_custom_object(
        **cluster._where,
        name=name,
        body={
            "metadata": {"annotations": {"joblease.dev/traceparent": f"00-{trace}-b7ad6b7169203331-01"}},
            "spec": {"suspend": False},
        },
    )
    resource = await cluster.reaches(name, "Completed")
    assert resource["status"]["result"]["traceparent"].split("-")[1] == trace


async def test_the_metrics_of_operator_and_worker_are_sound(
    cluster: Cluster, operator: Program, worker: Program, submit: Callable[..., str]
) -> None:
    await cluster.reaches(submit(), "Completed")
    for running in (operator, worker):
        await check_metrics(running)


async def test_an_operator_that_is_there_before_the_custom_resource_waits_for_it(
    empty_api_server: ControlPlane, start_operator: Start, tmp_path: Path
) -> None:
    kubeconfig = empty_api_server.kubeconfig

    async def install() -> None:
        log = tmp_path / "operator.log"
        while not log.exists() or "JobRequests cannot be read yet: Not Found" not in log.read_text():
            await asyncio.sleep(0.1)
        await asyncio.to_thread(apply_file, kubeconfig, ROOT / "manifests" / "crd.yaml")

    installing = asyncio.create_task(install())
    everywhere = {"JOBLEASE_OPERATOR_NAMESPACES": "[]", "JOBLEASE_OPERATOR_LEASE_NAMESPACE": "default"}
    async with start_operator(KUBECONFIG=str(kubeconfig), **everywhere):
        await installing
        cluster = Cluster(kubeconfig, "default")
        await cluster.reaches(cluster.create(queue="nobody-serves-this"), "Queued")


@pytest.mark.timeout(180)
async def test_what_was_deleted_while_the_watch_was_down_for_too_long_ends(
    jobs: Jobs, empty_api_server: ControlPlane, start_operator: Start, start_worker: Start
) -> None:
    """410 Gone: the API server has forgotten where the watch was, and nobody tells of the deletions."""
    kubeconfig = empty_api_server.kubeconfig
    await asyncio.to_thread(apply_file, kubeconfig, ROOT / "manifests" / "crd.yaml")
    await asyncio.to_thread(wait_for_crd, kubeconfig)
    cluster = Cluster(kubeconfig, "default")
    namespace = {
        "JOBLEASE_OPERATOR_NAMESPACES": "[]",
        "KUBECONFIG": str(kubeconfig),
        "JOBLEASE_OPERATOR_LEASE_NAMESPACE": "default",
        "JOBLEASE_OPERATOR_LEASE_SECONDS": "60",  # it is stopped for a while, and still leads
        "JOBLEASE_OPERATOR_RENEW_DEADLINE_SECONDS": "59",
    }
    async with (
        start_operator(JOBLEASE_OPERATOR_RESYNC_SECONDS="1", **namespace) as operator,
        start_worker(JOBLEASE_WORKER_QUEUE="default"),
    ):
        running = cluster.create("hold")
        await cluster.reaches(running, "Running")
        waiting, other = cluster.create(), cluster.create()
        for name in (waiting, other):
            await cluster.reaches(name, "WaitingForGroup")
        uids = [cluster.get(name)["metadata"]["uid"] for name in (running, waiting)]
        operator.process.send_signal(signal.SIGSTOP)
        for name in (running, waiting):
            cluster.delete(name)
        await asyncio.to_thread(empty_api_server.forget_the_past)
        operator.process.send_signal(signal.SIGCONT)
        for uid in uids:
            assert (await jobs.outcome(uid, timeout=60))[0] is State.CANCELLED
        assert [event.status for event in await jobs.trail.history(uids[1])] == ["Submitted", "Cancelled"]
        await cluster.reaches(other, "Completed")


async def test_an_api_server_that_does_not_serve_the_kind_has_deleted_nothing(
    empty_api_server: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers 404 then, too: when it has just started, or while the custom resource is replaced."""
    monkeypatch.setenv("KUBECONFIG", str(empty_api_server.kubeconfig))
    requests = JobRequests(OperatorSettings())
    await requests.connect()
    try:
        job = Job("1", "default", "never-there", now())
        with pytest.raises(ApiException):
            await requests.exists(job.namespace, job.name, job.uid)
        for write in (requests.patch_status(job, {}), requests.delete(job)):
            with pytest.raises(TransientError):
                await write
        await asyncio.to_thread(apply_file, empty_api_server.kubeconfig, ROOT / "manifests" / "crd.yaml")
        await asyncio.to_thread(wait_for_crd, empty_api_server.kubeconfig)
        assert not await requests.exists(job.namespace, job.name, job.uid)
        for write in (requests.patch_status(job, {}), requests.delete(job)):
            with pytest.raises(Gone):
                await write
    finally:
        await requests.close()
