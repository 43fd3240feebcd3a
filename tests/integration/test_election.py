"""Two operators, of which one leads, as processes with a real API server between them."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import pytest
from joblease_local.control_plane import ControlPlane
from joblease_operator.election import Election
from joblease_operator.lease import Found, Lease
from joblease_operator.settings import OperatorSettings
from kubernetes import client, config
from support.cluster import Cluster
from support.jobs import Jobs
from support.programs import Program
from support.tcp_proxy import TcpProxy, storage_through_proxies

Start = Callable[..., AbstractAsyncContextManager[Program]]

QUICK = {
    "JOBLEASE_OPERATOR_LEASE_SECONDS": "4",
    "JOBLEASE_OPERATOR_RENEW_DEADLINE_SECONDS": "2",
    "JOBLEASE_OPERATOR_RENEW_SECONDS": "0.5",
}
NAME = "joblease-operator"


class Leases:
    """The Lease as its administrator sees it."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self._api = client.CoordinationV1Api(config.new_client_from_config(str(kubeconfig)))
        self.namespace = namespace

    @property
    def spec(self) -> Any:
        return self._api.read_namespaced_lease(NAME, self.namespace, _request_timeout=10).spec

    @property
    def labels(self) -> Any:
        return self._api.read_namespaced_lease(NAME, self.namespace, _request_timeout=10).metadata.labels

    def create(self, **spec: Any) -> None:
        body = {"metadata": {"name": NAME}, "spec": spec}
        self._api.create_namespaced_lease(self.namespace, body, _request_timeout=10)

    def change(self, **body: Any) -> None:
        self._api.patch_namespaced_lease(NAME, self.namespace, body, _request_timeout=10)

    def delete(self) -> None:
        self._api.delete_namespaced_lease(NAME, self.namespace, _request_timeout=10)


@pytest.fixture
def leases(crd: Path, cluster: Cluster) -> Leases:
    return Leases(crd, cluster.namespace)


@pytest.fixture
def start(crd: Path, cluster: Cluster, start_operator: Start) -> Start:
    """An operator whose Lease is this test's own."""

    def named(name: str, **environment: str) -> AbstractAsyncContextManager[Program]:
        own = {"JOBLEASE_OPERATOR_NAME": name, "JOBLEASE_OPERATOR_LEASE_NAMESPACE": cluster.namespace}
        return start_operator(**{"KUBECONFIG": str(crd), **own, **environment})

    return named


async def until(condition: Callable[[], Any], timeout: float = 20) -> None:
    async with asyncio.timeout(timeout):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.05)


async def leads(program: Program, timeout: float = 20) -> None:
    await until(lambda: program.metric("joblease_operator_leader") == 1, timeout)


@asynccontextmanager
async def two(start: Start, **environment: str) -> AsyncIterator[tuple[Program, Program]]:
    """A leader and a standby."""
    async with start("a", **environment) as first:
        await leads(first)
        async with start("b", **QUICK if "JOBLEASE_OPERATOR_LEASE_SECONDS" in environment else {}) as second:
            assert second.metric("joblease_operator_leader") == 0
            yield first, second


async def admission(jobs: Jobs, cluster: Cluster, name: str, since: float) -> float:
    """Seconds from a moment to a job's admission, as its trail says."""
    await cluster.reaches(name, "Queued", "Running", "Completed")
    rows = await jobs.trail.history(cluster.get(name)["metadata"]["uid"])
    return next(row.timestamp for row in rows if row.status == "Queued").timestamp() - since


async def test_a_leader_that_is_asked_to_end_gives_the_lead_away_at_once(
    jobs: Jobs, cluster: Cluster, start: Start, leases: Leases, submit: Callable[..., str]
) -> None:
    async with two(start, JOBLEASE_OPERATOR_POD_UID="1") as (first, second):
        assert leases.spec.holder_identity == "a_1"
        await cluster.reaches(submit(concurrency={"group": "wide", "limit": 0}), "Queued")
        assert second.metric("joblease_jobs_published_total") == 0
        assert second.metric("joblease_events_consumed_total") == 0
        first.process.send_signal(signal.SIGTERM)
        submitted = {}
        while second.metric("joblease_jobs_published_total") == 0:
            submitted[submit(concurrency={"group": "wide", "limit": 0})] = time.time()
        waits = [await admission(jobs, cluster, name, since) for name, since in submitted.items()]
        print(f"\nof {len(waits)} jobs that came then, one waited {max(waits):.2f} s for its admission")
        assert max(waits) < 2  # 0.3 s on a machine that does nothing else
        assert await first.stop() == 0
        assert (leases.spec.holder_identity, leases.spec.lease_transitions) == ("b", 2)
        await second.stop()
        assert (leases.spec.holder_identity, leases.spec.lease_duration_seconds) == ("", 1)


async def test_one_that_starts_again_under_its_name_leads_at_once(
    jobs: Jobs, cluster: Cluster, start: Start, submit: Callable[..., str]
) -> None:
    async with start("a") as killed:
        await leads(killed)
        await killed.stop(signal.SIGKILL)
    async with start("a") as again:
        await leads(again, timeout=2)


@pytest.mark.timeout(90)
async def test_a_leader_that_stands_still_is_replaced_and_does_nothing_when_it_wakes(
    jobs: Jobs, cluster: Cluster, start: Start, amqp_url: str, storage: str, worker: Program, submit: Callable[..., str]
) -> None:
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(TcpProxy(urlsplit(amqp_url).port or 0))
        through, proxies = await storage_through_proxies(storage, stack)
        ways = {
            "JOBLEASE_AMQP_URL": amqp_url.replace(f":{urlsplit(amqp_url).port}/", f":{broker.port}/"),
            "JOBLEASE_STORAGE_CONNECTION_STRING": through,
            "JOBLEASE_OPERATOR_RESYNC_SECONDS": "1",  # so that much is due when it wakes
        }
        first, second = await stack.enter_async_context(two(start, **ways))
        holder = submit("hold", parameters={"seconds": 2})
        await cluster.reaches(holder, "Running")
        began = time.time()
        first.process.send_signal(signal.SIGSTOP)
        name = submit()
        await leads(second)
        took = await admission(jobs, cluster, name, began)
        print(f"\nadmitted {took:.2f} s after SIGSTOP")
        assert took < 15

        done = []

        def watch(kind: str, block: bytes) -> bool:
            if kind == "request":
                done.append(block)
            return True

        for proxy in (broker, *proxies):
            proxy.observer = watch
        assert await first.stop(signal.SIGCONT) == 1
        assert done == []
        await cluster.reaches(name, "Completed")
        words = [event.status for event in await jobs.trail.history(cluster.get(name)["metadata"]["uid"])]
        assert words == ["Submitted", "Queued", "Started", "Completed"]


@pytest.fixture
async def api(api_server: ControlPlane, crd: Path, tmp_path: Path) -> AsyncIterator[tuple[TcpProxy, Path]]:
    """A proxy before the API server, and a kubeconfig that leads through it."""
    text = await asyncio.to_thread(crd.read_text)
    port = urlsplit(next(line.split("server:")[1].strip() for line in text.splitlines() if "server:" in line)).port
    async with TcpProxy(port or 0) as proxy:
        kubeconfig = tmp_path / "proxied.kubeconfig"
        await asyncio.to_thread(kubeconfig.write_text, text.replace(f":{port}", f":{proxy.port}"))
        yield proxy, kubeconfig


@pytest.mark.parametrize("fault", ["silence", "refusal"])
async def test_a_leader_that_does_not_reach_the_api_server_ends_before_another_one_leads(
    cluster: Cluster, start: Start, api: tuple[TcpProxy, Path], fault: str, submit: Callable[..., str]
) -> None:
    proxy, kubeconfig = api
    async with two(start, **QUICK, KUBECONFIG=str(kubeconfig)) as (first, second):
        if fault == "silence":
            proxy.block()
        else:
            proxy.refusal = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
            proxy.cut()
        # Of a server that refuses, kopf's watch may be the first to despair, which ends the program, too.
        assert await asyncio.wait_for(first.process.wait(), 5) in ((1,) if fault == "silence" else (0, 1))
        assert second.metric("joblease_operator_leader") == 0
        await leads(second, timeout=5)
        await cluster.reaches(submit(), "Queued")


async def test_the_leader_survives_what_people_do_to_its_lease_and_gives_way_to_who_takes_it(
    start: Start, leases: Leases
) -> None:
    async with start("a", **QUICK) as leader:
        await leads(leader)
        leases.change(metadata={"labels": {"team": "x"}})
        before = leases.spec.renew_time
        await until(lambda: leases.spec.renew_time > before)
        assert leases.labels == {"team": "x"}
        leases.delete()
        await until(lambda: _held_by(leases) == "a")
        leases.change(spec={"holderIdentity": "", "leaseDurationSeconds": 1})
        await until(lambda: _held_by(leases) == "a")
        leases.change(spec={"holderIdentity": "somebody"})
        assert await asyncio.wait_for(leader.process.wait(), 5) == 1
        assert leases.spec.holder_identity == "somebody"


def _held_by(leases: Leases) -> str | None:
    try:
        holder: str | None = leases.spec.holder_identity
    except client.ApiException as error:
        if error.status != 404:
            raise
        return None
    return holder


@pytest.fixture
async def candidate(
    crd: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[[], Awaitable[float]]]:
    """Stands for election; seconds until it leads."""
    monkeypatch.setenv("KUBECONFIG", str(crd))
    settings = OperatorSettings(
        operator_name="c", operator_lease_namespace=cluster.namespace, operator_lease_seconds=3,
        operator_renew_deadline_seconds=2, operator_renew_seconds=1,
    )  # fmt: skip

    def lost(why: str) -> NoReturn:
        raise AssertionError(why)

    lease = Lease(settings)
    election = Election(settings, lease, lost)

    async def stand() -> float:
        began = time.monotonic()
        async with asyncio.timeout(20):
            await election.win()
        return time.monotonic() - began

    await lease.connect()
    yield stand
    await election.release()
    await lease.close()


@pytest.mark.parametrize("moment", [datetime(2000, 1, 1, 0, 0, 0, 1, UTC), datetime(2999, 1, 1, 0, 0, 0, 1, UTC)])
async def test_clocks_are_not_compared(
    leases: Leases, candidate: Callable[[], Awaitable[float]], moment: datetime
) -> None:
    """Of a holder whose clock is wrong, each renewal counts from when it was seen."""

    def text(moment: datetime) -> str:
        return moment.isoformat(timespec="microseconds")

    leases.create(holderIdentity="x", leaseDurationSeconds=2, renewTime=text(moment), leaseTransitions=7)
    standing = asyncio.ensure_future(candidate())
    for second in range(1, 5):
        await asyncio.sleep(1)
        assert not standing.done()
        await asyncio.to_thread(leases.change, spec={"renewTime": text(moment + timedelta(seconds=second))})
    assert 6 <= await standing < 8
    assert (leases.spec.holder_identity, leases.spec.lease_transitions) == ("c", 8)


@pytest.mark.parametrize(
    ("spec", "seconds"),
    [
        ({}, 0),
        ({"holderIdentity": ""}, 0),
        ({"leaseTransitions": 3, "renewTime": "2000-01-01T00:00:00.000001Z"}, 0),
        ({"holderIdentity": "c"}, 0),
        ({"holderIdentity": "somebody's tool"}, 3),
        ({"holderIdentity": "x", "leaseDurationSeconds": 1}, 1),
        ({"holderIdentity": "x", "leaseDurationSeconds": 1, "leaseTransitions": 2**31 - 1}, 1),
    ],
)
async def test_whatever_the_lease_says_somebody_leads(
    leases: Leases, candidate: Callable[[], Awaitable[float]], spec: dict[str, Any], seconds: float
) -> None:
    leases.create(**spec)
    assert seconds <= await candidate() < seconds + 2
    assert leases.spec.holder_identity == "c"


async def test_an_edit_of_labels_does_not_keep_a_dead_holder_alive(
    leases: Leases, candidate: Callable[[], Awaitable[float]]
) -> None:
    leases.create(holderIdentity="x", leaseDurationSeconds=2)
    standing = asyncio.ensure_future(candidate())
    for number in range(1, 10):
        if standing.done():
            break
        await asyncio.to_thread(leases.change, metadata={"labels": {"n": str(number)}})
        await asyncio.sleep(0.5)
    assert 2 <= await standing < 4


def test_a_holder_that_wants_it_for_a_year_gets_a_minute() -> None:
    assert Found({"spec": {"leaseDurationSeconds": 31_536_000}}).seconds == 60
