"""Programs that are killed at every point of a job's path: before and after each word to storage and broker.

Proxies see what is said and kill the program at the chosen point, either before the other side gets it or before the
program gets the answer. The points are tried side by side, since a worker's costs the length of a lease.
"""

import asyncio
import os
import signal
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from joblease.leases import slot_blob
from joblease.messages import JobEvent
from joblease.states import State
from joblease_local.manifests import apply
from support.cluster import Cluster
from support.jobs import Jobs
from support.programs import program
from support.tcp_proxy import TcpProxy, storage_through_proxies

REQUESTS = 6
"""Of a job in a new group: take the slot (missing), create it, take it; claim; outcome; release."""
CLAIM, OUTCOME = 4, 5
QUEUE = "operators"
METHODS = (b"PUT ", b"POST ", b"DELETE ")
OPERATOR_POINTS = [
    ("storage", 1),  # the list of open jobs
    ("storage", 2),  # the first rows
    ("broker", 1),  # the job
    ("broker", 2),  # its first event
    ("broker", 3),  # its second one
]


class Killer:
    """Kills a process at its n-th request, or at the first answer after it (the next request may be on its way)."""

    def __init__(self, number: int, kind: str) -> None:
        self._left = number
        self._kind = kind
        self.pid = 0
        self.word = b""
        """Counts only what contains it."""
        self.done = asyncio.Event()

    def see(self, kind: str, block: bytes) -> bool:
        if not self.pid:
            return True
        if kind == "request" and (self.word in block if self.word else block.startswith(METHODS)):
            self._left -= 1
        if self._left <= 0 and kind == self._kind and not self.done.is_set():
            os.kill(self.pid, signal.SIGKILL)
            self.done.set()
        return not self.done.is_set()


async def through_proxies(storage: str, killer: Killer, stack: AsyncExitStack) -> str:
    """A connection string by which the killer sees every request."""
    connection, proxies = await storage_through_proxies(storage, stack)
    for proxy in proxies:
        proxy.observer = killer.see
    return connection


async def kill_at(
    number: int, kind: str, jobs: Jobs, amqp_url: str, storage: str, folder: Path
) -> tuple[list[JobEvent], list[str]]:
    """Run a job whose worker dies there, and then a worker that lives; the job's history and its handlers' runs."""
    queue = f"{kind}-{number}"
    record = folder / f"{queue}.record"
    settings = {
        "JOBLEASE_AMQP_URL": amqp_url,
        "JOBLEASE_STORAGE_CONNECTION_STRING": storage,
        "JOBLEASE_HANDLERS": "support.handlers",
        "JOBLEASE_WORKER_QUEUE": queue,
        "JOBLEASE_LEASE_SECONDS": "15",
        "JOBLEASE_DEFER_SECONDS": "1",
    }
    killer = Killer(number, kind)
    async with AsyncExitStack() as stack:
        connection = await through_proxies(storage, killer, stack)
        victim_settings = {
            **settings,
            "JOBLEASE_STORAGE_CONNECTION_STRING": connection,
            "JOBLEASE_WORKER_NAME": "victim",
        }
        async with program("joblease-worker", victim_settings, folder / f"{queue}.victim.log") as victim:
            killer.pid = victim.process.pid
            job = await jobs.submit("noop", queue=queue, group=queue, parameters={"record": str(record)})
            await asyncio.wait_for(killer.done.wait(), 30)
            assert await victim.process.wait() == -signal.SIGKILL
    async with program("joblease-worker", settings, folder / f"{queue}.rescuer.log"):
        state, events = await jobs.outcome(job.job_id, timeout=60)
        assert state is State.COMPLETED
        async with asyncio.timeout(30):
            while await jobs.blobs.holder(slot_blob(queue, 0)) is not None:
                await asyncio.sleep(0.1)
    return events, record.read_text().splitlines()


@pytest.mark.timeout(400)
async def test_a_worker_killed_at_any_point_leaves_one_outcome(
    jobs: Jobs, amqp_url: str, storage: str, tmp_path: Path
) -> None:
    points = [(number, kind) for number in range(1, REQUESTS + 1) for kind in ("request", "answer")]
    starting = asyncio.Semaphore(8)

    async def at(number: int, kind: str) -> tuple[list[JobEvent], list[str]]:
        async with starting:
            return await kill_at(number, kind, jobs, amqp_url, storage, tmp_path)

    found = await asyncio.gather(*(at(*point) for point in points))
    runs = {}
    lost = []
    for point, (events, record) in zip(points, found, strict=True):
        words = Counter(event.status for event in events)
        assert [event.sequence for event in events] == list(range(1, len(events) + 1)), point
        assert words["Completed"] == 1, point
        assert events[-1].status == "Completed", point
        assert words["Started"] - words["Interrupted"] == 1, point
        runs[point] = len(record)
        lost += [point] * words["Interrupted"]
    # It runs twice only if it had run and could not say so.
    assert runs == {point: 2 if point == (OUTCOME, "request") else 1 for point in points}
    assert lost == [(CLAIM, "answer"), (OUTCOME, "request")]


async def kill_operator_at(
    point: tuple[str, int], kind: str, jobs: Jobs, amqp_url: str, storage: str, kubeconfig: Path, folder: Path
) -> list[JobEvent]:
    """Submit a job to an operator that dies there, and start another one; the job's history."""
    where, number = point
    namespace = f"crash-{where}-{number}-{kind}"
    await asyncio.to_thread(
        apply, kubeconfig, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    )
    cluster = Cluster(kubeconfig, namespace)
    killer = Killer(number, kind)
    settings = {
        "KUBECONFIG": str(kubeconfig),
        "JOBLEASE_AMQP_URL": amqp_url,
        "JOBLEASE_STORAGE_CONNECTION_STRING": storage,
        "JOBLEASE_OPERATOR_NAMESPACES": f'["{namespace}"]',
        "JOBLEASE_OPERATOR_LEASE_NAMESPACE": namespace,
        "JOBLEASE_OPERATOR_RESYNC_SECONDS": "2",  # the operators of this test take events from each other
    }
    async with AsyncExitStack() as stack:
        victim_settings = dict(settings)
        if where == "storage":
            victim_settings["JOBLEASE_STORAGE_CONNECTION_STRING"] = await through_proxies(storage, killer, stack)
        else:
            port = urlsplit(amqp_url).port or 0
            proxy = await stack.enter_async_context(TcpProxy(port))
            proxy.observer = killer.see
            killer.word = b"application/json"  # a message's properties
            victim_settings["JOBLEASE_AMQP_URL"] = amqp_url.replace(f":{port}/", f":{proxy.port}/")
        async with program("joblease-operator", victim_settings, folder / f"{namespace}.victim.log") as victim:
            killer.pid = victim.process.pid
            name = await asyncio.to_thread(
                cluster.create, "noop", concurrency={"group": namespace, "limit": 1}, queue=QUEUE
            )
            await asyncio.wait_for(killer.done.wait(), 30)
            assert await victim.process.wait() == -signal.SIGKILL
    async with program("joblease-operator", settings, folder / f"{namespace}.rescuer.log"):
        body = await cluster.reaches(name, "Completed")
    return await jobs.trail.history(body["metadata"]["uid"])


@pytest.mark.timeout(400)
async def test_an_operator_killed_at_any_point_loses_nothing_and_runs_nothing_twice(
    jobs: Jobs, amqp_url: str, storage: str, crd: Path, tmp_path: Path
) -> None:
    worker = {
        "JOBLEASE_AMQP_URL": amqp_url,
        "JOBLEASE_STORAGE_CONNECTION_STRING": storage,
        "JOBLEASE_HANDLERS": "support.handlers",
        "JOBLEASE_WORKER_QUEUE": QUEUE,
        "JOBLEASE_DEFER_SECONDS": "1",
    }
    points = [(point, kind) for point in OPERATOR_POINTS for kind in ("request", "answer")]
    starting = asyncio.Semaphore(5)

    async def at(point: tuple[str, int], kind: str) -> list[JobEvent]:
        async with starting:
            return await kill_operator_at(point, kind, jobs, amqp_url, storage, crd, tmp_path)

    async with program("joblease-worker", worker, tmp_path / "worker.log"):
        found = await asyncio.gather(*(at(*point) for point in points))
    for where, events in zip(points, found, strict=True):
        assert [event.status for event in events] == ["Submitted", "Queued", "Started", "Completed"], where
