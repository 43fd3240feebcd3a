"""A worker of `make up` that is killed: its jobs go on at once when it is proven dead, and else after its lease."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from signal import SIGKILL
from uuid import uuid4

import pytest
from joblease.messages import RetryPolicy
from joblease.states import State
from joblease_local.ports import free_ports
from joblease_local.worker import Worker
from support.jobs import Jobs
from support.programs import BIN, TESTS, alive

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def queue() -> str:
    """Of this test's own: its job does not end, and is nobody else's."""
    return f"killed-{uuid4().hex[:8]}"


@pytest.fixture
async def killed(jobs: Jobs, amqp_url: str, storage: str, tmp_path: Path, queue: str) -> AsyncIterator[Worker]:
    """A worker."""
    (port,) = free_ports(1)
    environment = {
        "JOBLEASE_AMQP_URL": amqp_url,
        "JOBLEASE_STORAGE_CONNECTION_STRING": storage,
        "JOBLEASE_WORKER_NAME": "worker-1",
        "JOBLEASE_WORKER_QUEUE": queue,
        "JOBLEASE_METRICS_HOST": "127.0.0.1",
        "JOBLEASE_METRICS_PORT": str(port),
        "JOBLEASE_HANDLERS": "support.handlers",
        "JOBLEASE_DRAIN_GRACE_SECONDS": "0",
        "JOBLEASE_DEFER_SECONDS": "1",
        "PYTHONPATH": str(TESTS),
    }
    worker = Worker(BIN / "joblease-worker", "worker-1", tmp_path, port, environment)
    try:
        yield worker
    finally:
        await asyncio.to_thread(worker.stop)


async def run_of(jobs: Jobs, worker: Worker, queue: str, record: Path) -> str:
    """The id of a job that runs on a worker that is started here."""
    await asyncio.to_thread(worker.start)
    await asyncio.to_thread(worker.ready)
    parameters = {"seconds": 300, "record": str(record)}
    retry = RetryPolicy(max_attempts=3)
    job = await jobs.submit("hold", queue=queue, parameters=parameters, group=f"g{uuid4().hex[:8]}", retry=retry)
    await jobs.reaches(job.job_id, State.RUNNING, timeout=60)
    async with asyncio.timeout(30):
        while not await asyncio.to_thread(record.exists):
            await asyncio.sleep(0.05)
    return job.job_id


async def ended(worker: Worker) -> None:
    async with asyncio.timeout(20):
        while worker.running:
            await asyncio.sleep(0.01)


async def test_its_job_goes_on_long_before_its_lease_ends(
    jobs: Jobs, killed: Worker, queue: str, tmp_path: Path
) -> None:
    job_id = await run_of(jobs, killed, queue, tmp_path / "record")
    first = killed.process.pid
    moment = time.monotonic()
    killed.process.signal(SIGKILL)
    await ended(killed)
    assert not alive(first)
    await asyncio.to_thread(killed.ended)
    assert not await jobs.is_held(job_id)
    await asyncio.to_thread(killed.start)
    async with asyncio.timeout(45):
        while (await jobs.trail.head(job_id)).epoch < 2:
            await asyncio.sleep(0.05)
    assert time.monotonic() - moment < 45  # and not the minute of its lease


async def test_without_the_proof_its_session_is_left_to_its_lease(
    jobs: Jobs, killed: Worker, queue: str, tmp_path: Path
) -> None:
    job_id = await run_of(jobs, killed, queue, tmp_path / "record")
    assert killed.process._child
    killed.process._child.kill()  # the warden, and the worker with it
    await ended(killed)
    await asyncio.to_thread(killed.start)
    await asyncio.to_thread(killed.ready)
    assert await jobs.is_held(job_id)
    assert (await jobs.trail.head(job_id)).epoch == 1
