"""Both clients on a real dashboard, with an operator and a worker: from the submission to the result."""

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from joblease import JobContext, handler
from joblease.client import (
    AsyncClient,
    AsyncJob,
    Client,
    Event,
    Job,
    JobFailed,
    JobNotFound,
    JobWasCancelled,
    KeyConflict,
    NotConfigured,
    NotYet,
    Outcome,
    Refused,
    Unreachable,
    submission,
)
from joblease.states import State
from support.attack import Dashboard
from support.certificates import certificate
from support.cluster import Cluster
from support.programs import Program, program
from support.tcp_proxy import TcpProxy


@handler("steps")
def steps(job: JobContext, count: int = 3, rest: float = 0) -> None:
    """Of the worker's handler: its name and its parameters."""


@pytest.fixture
async def client(dashboard: Dashboard, kube_namespace: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(
        dashboard.url, token=dashboard.admin, namespace=kube_namespace, queue=kube_namespace
    ) as opened:
        yield opened


@pytest.fixture
async def front(dashboard: Dashboard) -> AsyncIterator[TcpProxy]:
    """Between a client and the dashboard."""
    async with TcpProxy(urlsplit(dashboard.url).port or 0) as opened:
        yield opened


@pytest.fixture
async def by_front(front: TcpProxy, dashboard: Dashboard, kube_namespace: str) -> AsyncIterator[AsyncClient]:
    url = f"http://127.0.0.1:{front.port}"
    async with AsyncClient(
        url, token=dashboard.admin, timeout=15, namespace=kube_namespace, queue=kube_namespace
    ) as opened:
        yield opened


async def test_a_job_from_its_submission_to_its_result(
    client: AsyncClient, operator: Program, worker: Program, cluster: Cluster
) -> None:
    job = await client.submit("echo", {"width": 3, "more": [1]}, key="order-17", priority=2, labels={"a": "b"})
    assert (job.created, job.key, job.namespace) == (True, "order-17", cluster.namespace)
    assert cluster.get(job.name)["metadata"]["labels"] == {"a": "b"}
    result = await job.result(60)
    assert (result["width"], result["others"]) == (3, {"more": [1]})
    assert job.state is State.COMPLETED
    again = await client.submit("echo", {"width": 3, "more": [1]}, key="order-17")
    assert (again.job_id, again.created) == (job.job_id, False)
    with pytest.raises(KeyConflict, match=r"parameters.width: first 3, now 4") as conflict:
        await client.submit("echo", {"width": 4, "more": [1]}, key="order-17")
    assert conflict.value.job_id == job.job_id
    assert [each["field"] for each in conflict.value.differences] == ["parameters.width"]


async def test_events_are_told_once_and_in_order_also_over_connections_that_break(
    by_front: AsyncClient, front: TcpProxy, operator: Program, worker: Program
) -> None:
    job = await by_front.submit(steps, count=30, rest=1)
    told: list[Event] = []
    async for event in job.events(data=True, timeout=60):
        told.append(event)
        if event.sequence % 7 == 0:
            front.cut()
    assert [each.sequence for each in told] == list(range(1, len(told) + 1))
    assert (told[0].status, told[-1].status, told[-1].state) == ("Submitted", "Completed", State.COMPLETED)
    assert [each.data["number"] for each in told if each.status.startswith("Step")] == list(range(1, 31))
    last = [event async for event in job.events(after=told[-2].sequence)]
    assert [each.status for each in last] == ["Completed"]


async def test_events_come_while_the_job_runs(client: AsyncClient, operator: Program, worker: Program) -> None:
    job = await client.submit("hold", {"seconds": 60})
    told = []
    async for event in job.events(timeout=60):
        told.append(event.status)
        if event.message == "holding":
            assert (event.progress, (await job.refresh()).state) == (50, State.RUNNING)
            with pytest.raises(NotYet, match=f"job {job.name} .* has not ended"):
                await job.wait(0.5)
            await job.cancel()
    assert told[-1] == "Cancelled"
    with pytest.raises(JobWasCancelled):
        await job.result(5)
    with pytest.raises(Refused, match="cancel of job") as late:
        await job.cancel()
    assert late.value.status == 409


async def test_a_dashboard_without_access_control_takes_jobs(
    dashboard: Dashboard, crd: Path, kube_namespace: str, cluster: Cluster, tmp_path: Path
) -> None:
    """That of `make up`, which acts as whoever has started it."""
    variables = {**dashboard.variables, "KUBECONFIG": str(crd), "JOBLEASE_DASHBOARD_ACCESS": "none"}
    async with program("joblease-dashboard", variables, tmp_path / "log") as running:
        await running.ready()
        async with AsyncClient(f"http://127.0.0.1:{running.port}", namespace=kube_namespace) as client:
            job = await client.submit("echo", {"width": 3}, suspend=True)
    assert cluster.get(job.name)["metadata"]["uid"] == job.job_id


async def test_a_failure_is_raised_and_the_job_can_be_retried(
    client: AsyncClient, operator: Program, worker: Program
) -> None:
    job = await client.submit("fail-for-good", max_attempts=1)
    with pytest.raises(JobFailed, match="the input is broken") as failed:
        await job.result(60)
    assert (failed.value.job_id, failed.value.state) == (job.job_id, State.FAILED)
    other = await job.retry()
    assert other.job_id != job.job_id
    assert (await other.wait(60)).error
    async with asyncio.timeout(20):  # the lists follow the trail
        while {each.job_id async for each in client.jobs(namespace=job.namespace, state="Failed")} != {
            job.job_id,
            other.job_id,
        }:
            await asyncio.sleep(0.1)
    assert (await client.job(job.job_id)).name == job.name
    with pytest.raises(JobNotFound, match="job 0000"):
        await client.job("0000-there-is-none")


async def test_a_job_that_no_operator_has_noticed_can_be_seen_and_changed(
    client: AsyncClient, cluster: Cluster
) -> None:
    job = await client.submit("noop", suspend=True)
    assert (await job.refresh()).state is State.SUBMITTED
    await job.change(priority=7, ttl=60)
    await job.resume()
    spec = cluster.get(job.name)["spec"]
    assert (spec["priority"], spec["ttlSecondsAfterFinished"], spec["suspend"]) == (7, 60, False)
    with pytest.raises(NotYet):
        await job.wait(1)


async def test_a_lost_answer_submits_nothing_twice(by_front: AsyncClient, front: TcpProxy, cluster: Cluster) -> None:
    lost = 0

    def loses(kind: str, _: bytes) -> bool:
        nonlocal lost
        if kind == "answer" and lost < 2:
            lost += 1
            return False
        return True

    front.observer = loses
    job = await by_front.submit("noop")
    assert lost == 2
    assert [each["metadata"]["uid"] for each in cluster.all()] == [job.job_id]
    lost = 0
    many = await by_front.submit_many([submission("noop"), submission("noop")])
    assert (lost, len(cluster.all())) == (2, 3)
    assert {each.job_id for each in many if isinstance(each, AsyncJob)} | {job.job_id} == {
        each["metadata"]["uid"] for each in cluster.all()
    }


async def test_a_dashboard_that_does_not_answer_is_an_error_in_time(
    by_front: AsyncClient, front: TcpProxy, dashboard: Dashboard, cluster: Cluster
) -> None:
    front.block()
    async with AsyncClient(by_front.url, token=dashboard.admin, timeout=2) as hasty:
        async with asyncio.timeout(5):
            with pytest.raises(Unreachable, match="a job of noop: the dashboard gave no answer in 2 s"):
                await hasty.submit("noop", namespace=cluster.namespace)
    front.unblock()
    front.refusal = b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    submitting = asyncio.create_task(by_front.submit("noop", key="one"))
    await asyncio.sleep(0.5)
    front.refusal = None
    assert (await submitting).created


async def test_of_many_each_has_its_own_answer(client: AsyncClient, cluster: Cluster) -> None:
    wanted = [submission("noop", {"n": n}).options(key=f"n-{n}") for n in range(1_200)]
    wanted[3] = submission("noop", priority=99)
    wanted[1_100] = submission("noop", namespace="Not A Namespace")
    found = await client.submit_many(wanted)
    bad = {place: each for place, each in enumerate(found) if not isinstance(each, AsyncJob)}
    assert {place: str(each) for place, each in bad.items()}.keys() == {3, 1_100}
    assert "spec.priority" in str(bad[3])
    assert len(cluster.all()) == 1_198
    again = await client.submit_many(wanted[:3])
    assert [each.job_id for each in again if isinstance(each, AsyncJob)] == [
        each.job_id for each in found[:3] if isinstance(each, AsyncJob)
    ]


async def test_what_a_selector_selects_is_done_to_all(
    client: AsyncClient, dashboard: Dashboard, cluster: Cluster
) -> None:
    for number in range(4):
        await client.submit("noop", labels={"team": "a" if number else "b"}, suspend=True)
    team = client.select(labels={"team": "a"}, handler="noop", state="Submitted")
    assert await team.cancel(dry_run=True) == Outcome(3, 0, [], 0)
    assert await team.change(priority=4) == Outcome(3, 3, [], 0)
    assert await team.cancel() == Outcome(3, 3, [], 0)
    assert sorted(each["spec"].get("cancel", False) for each in cluster.all()) == [False, True, True, True]
    assert sorted(each["spec"]["priority"] for each in cluster.all()) == [0, 4, 4, 4]

    def without_asyncio() -> Outcome:
        with Client(dashboard.url, token=dashboard.admin) as blocking:
            return blocking.select(namespace=cluster.namespace, labels="team!=a").cancel()

    assert await asyncio.to_thread(without_asyncio) == Outcome(1, 1, [], 0)
    with pytest.raises(Refused, match=r"selector\.state"):
        await client.select(state="Nonsense").retry()


async def test_a_handler_that_no_worker_knows_yet_is_taken_unchecked(
    client: AsyncClient, worker: Program, cluster: Cluster
) -> None:
    async with asyncio.timeout(30):  # until the worker has told what it knows
        while True:
            try:
                await client.submit("of-tomorrow", suspend=True)
            except Refused:
                break
            await asyncio.sleep(0.2)
    one, other = await client.submit_many([submission("of-tomorrow"), submission("of-tomorrow", unchecked=True)])
    assert (type(one), type(other)) == (Refused, AsyncJob)
    assert (await client.submit("of-tomorrow", unchecked=True)).created


async def test_a_certificate_of_a_private_authority(dashboard: Dashboard, tmp_path: Path) -> None:
    authority, key = certificate(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(authority, key)
    async with TcpProxy(urlsplit(dashboard.url).port or 0, tls) as front:
        url = f"https://127.0.0.1:{front.port}"
        async with AsyncClient(url, token=dashboard.admin, ca=authority) as trusting:
            assert (await trusting.job(dashboard.mine)).job_id == dashboard.mine
        async with AsyncClient(url, token=dashboard.admin, timeout=1) as careful:
            with pytest.raises(Unreachable, match="certificate verify failed"):
                await careful.job(dashboard.mine)

        def without_asyncio() -> str:
            with Client(url, token=dashboard.admin, ca=authority) as blocking:
                return blocking.job(dashboard.mine).job_id

        assert await asyncio.to_thread(without_asyncio) == dashboard.mine
    with pytest.raises(NotConfigured, match="no certificates can be read there"):
        AsyncClient(url, token="t", ca=tmp_path / "none")


async def test_tokens_that_are_refused(dashboard: Dashboard) -> None:
    async with AsyncClient(dashboard.url, token="nobody") as stranger:
        with pytest.raises(Refused, match=r"was refused \(401\).*token is missing, wrong or expired"):
            await stranger.submit("noop")
    tokens = iter(["expired", dashboard.citizen])
    async with AsyncClient(dashboard.url, token=lambda: next(tokens), namespace=dashboard.own) as renewing:
        assert (await renewing.submit("noop")).created
    async with AsyncClient(dashboard.url, token=dashboard.citizen) as citizen:
        with pytest.raises(Refused, match=r"\(403\).*RBAC"):
            await citizen.submit("noop", namespace=dashboard.other)


async def test_the_client_without_asyncio(
    dashboard: Dashboard, kube_namespace: str, operator: Program, worker: Program
) -> None:
    def use() -> None:
        with Client(dashboard.url, token=dashboard.admin, namespace=kube_namespace, queue=kube_namespace) as client:
            job = client.submit(steps, count=5)
            told = list(job.events(timeout=60, data=True))
            assert [each.sequence for each in told] == list(range(1, len(told) + 1))
            assert [each.data["number"] for each in told if each.status.startswith("Step")] == [1, 2, 3, 4, 5]
            assert job.result(5) is None
            assert [each.job_id for each in client.jobs(namespace=kube_namespace)] == [job.job_id]
            assert client.job(job.job_id).refresh().state is State.COMPLETED
            held = client.submit("hold", {"seconds": 60})
            for event in held.events(timeout=60):
                if event.message == "holding":
                    break
            with pytest.raises(NotYet):
                held.wait(1)
            held.cancel()
            with pytest.raises(JobWasCancelled):
                held.result(60)
            failed, bad = client.submit_many([submission("fail-for-good"), submission("noop", priority=99)])
            assert isinstance(failed, Job)
            assert isinstance(bad, Refused)
            with pytest.raises(JobFailed, match="the input is broken"):
                failed.result(60)

    before = threading.active_count()
    await asyncio.to_thread(use)
    assert threading.active_count() <= before + 1  # the one of `to_thread`, which stays
