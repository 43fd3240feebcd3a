"""A worker whose broker goes away, comes back, forgets it or falls silent."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from joblease import topology
from joblease.messages import JobEvent
from joblease.states import State
from joblease.topology import EVENTS
from joblease_local.ports import free_ports
from joblease_local.rabbitmq import RabbitMQ, require_rabbitmq
from support.jobs import Jobs, open_jobs
from support.parts import need, say
from support.programs import Program, program
from support.tcp_proxy import TcpProxy

CONSUMER_TIMEOUT_SECONDS = 4


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """A broker that may be restarted, and that has little patience with consumers."""
    server = need(lambda: require_rabbitmq(say))
    state = tmp_path_factory.mktemp("own-broker")
    amqp, distribution, epmd = free_ports(3)
    rabbitmq = RabbitMQ(server, state, (amqp, distribution, epmd))
    advanced = state / "advanced.config"
    milliseconds = CONSUMER_TIMEOUT_SECONDS * 1000
    advanced.write_text(f"[{{rabbit, [{{consumer_timeout, {milliseconds}}}, {{channel_tick_interval, 1000}}]}}].\n")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RABBITMQ_ADVANCED_CONFIG_FILE", str(advanced))
        try:
            rabbitmq.start()
            rabbitmq.ready()
            yield rabbitmq
        finally:
            rabbitmq.stop()


@pytest.fixture
async def proxy(own_broker: RabbitMQ) -> AsyncIterator[TcpProxy]:
    async with TcpProxy(int(own_broker.url.rstrip("/").rsplit(":", 1)[1])) as opened:
        yield opened


@pytest.fixture
async def jobs(own_broker: RabbitMQ, storage: str) -> AsyncIterator[Jobs]:
    async with open_jobs(own_broker.url, storage) as opened:
        yield opened


@pytest.fixture
async def worker(jobs: Jobs, proxy: TcpProxy, storage: str, tmp_path: Path) -> AsyncIterator[Program]:
    variables = {
        "JOBLEASE_AMQP_URL": f"amqp://guest:guest@127.0.0.1:{proxy.port}/",
        "JOBLEASE_AMQP_TIMEOUT_SECONDS": "2",
        "JOBLEASE_AMQP_HEARTBEAT_SECONDS": "2",
        "JOBLEASE_STORAGE_CONNECTION_STRING": storage,
        "JOBLEASE_HANDLERS": "support.handlers",
        "JOBLEASE_WORKER_NAME": "worker-1",
        "JOBLEASE_LEASE_SECONDS": "15",
        "JOBLEASE_DEFER_SECONDS": "1",
    }
    async with program("joblease-worker", variables, tmp_path / "worker.log") as running:
        yield running


async def until(condition: Callable[[], Any], timeout: float = 30) -> None:
    async with asyncio.timeout(timeout):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.05)


async def admin_channel(broker: RabbitMQ, stack: contextlib.AsyncExitStack) -> Any:
    return await (await stack.enter_async_context(await aio_pika.connect(broker.url))).channel()


def runs(record: Path) -> list[str]:
    return [line.split(":")[0] for line in record.read_text().splitlines()] if record.exists() else []


def once(events: list[JobEvent]) -> bool:
    words = [event.status for event in events]
    return words.count("Started") == 1 and words.count("Completed") == 1


async def completes(jobs: Jobs) -> None:
    assert (await jobs.outcome((await jobs.submit("noop")).job_id))[0] is State.COMPLETED


async def test_a_job_runs_once_across_a_restart_of_the_broker(
    jobs: Jobs, worker: Program, own_broker: RabbitMQ, tmp_path: Path
) -> None:
    record = tmp_path / "record"
    job = await jobs.submit("hold", parameters={"seconds": 3, "record": str(record)})
    await until(lambda: runs(record) == ["start"])
    await asyncio.to_thread(own_broker.stop)
    await until(lambda: worker.read("/readyz")[0] == 503)
    assert "broker" in worker.read("/readyz")[1]
    await asyncio.to_thread(own_broker.start)
    await asyncio.to_thread(own_broker.ready)
    await worker.ready()
    state, events = await jobs.outcome(job.job_id)
    assert (state, once(events), runs(record)) == (State.COMPLETED, True, ["start", "end"])
    await asyncio.wait_for(jobs.broker.connected(), 20)
    await completes(jobs)


@pytest.mark.parametrize("times", [1, 3])
async def test_a_job_runs_once_across_cut_connections(
    jobs: Jobs, worker: Program, proxy: TcpProxy, tmp_path: Path, times: int
) -> None:
    record = tmp_path / "record"
    job = await jobs.submit("hold", parameters={"seconds": 3, "record": str(record)})
    await until(lambda: runs(record) == ["start"])
    for number in range(1, times + 1):
        proxy.cut()
        await until(lambda number=number: worker.output.count("building it anew") >= 2 * number)  # type: ignore[misc]
        await worker.ready()
    state, events = await jobs.outcome(job.job_id)
    assert (state, once(events), runs(record)) == (State.COMPLETED, True, ["start", "end"])
    await completes(jobs)


async def test_a_deleted_queue_is_declared_anew(jobs: Jobs, worker: Program, own_broker: RabbitMQ) -> None:
    async with contextlib.AsyncExitStack() as stack:
        channel = await admin_channel(own_broker, stack)
        await channel.queue_delete(topology.jobs_queue("default"))
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(aio_pika.exceptions.ChannelNotFoundEntity):
                    queue = await (await admin_channel(own_broker, stack)).get_queue(topology.jobs_queue("default"))
                    if queue.declaration_result.consumer_count:
                        break
                await asyncio.sleep(0.05)
    await worker.ready()
    await completes(jobs)


async def test_a_job_beyond_the_consumer_timeout_completes_once(jobs: Jobs, worker: Program, tmp_path: Path) -> None:
    record = tmp_path / "record"
    seconds = CONSUMER_TIMEOUT_SECONDS * 3
    job = await jobs.submit("hold", parameters={"seconds": seconds, "record": str(record)})
    state, events = await jobs.outcome(job.job_id, timeout=seconds + 20)
    assert (state, once(events), runs(record)) == (State.COMPLETED, True, ["start", "end"])
    assert "PRECONDITION_FAILED" in worker.output or "consumer was lost" in worker.output
    await completes(jobs)
    assert runs(record) == ["start", "end"]


async def test_what_a_silent_broker_did_not_confirm_is_published_again(
    jobs: Jobs, worker: Program, proxy: TcpProxy, own_broker: RabbitMQ, tmp_path: Path
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        channel = await admin_channel(own_broker, stack)
        tap = await channel.declare_queue(exclusive=True)
        await tap.bind(EVENTS, "#")
        record = tmp_path / "record"
        job = await jobs.submit("hold", parameters={"seconds": 1, "record": str(record)})
        await until(lambda: runs(record) == ["start"])
        proxy.block()
        state, events = await jobs.outcome(job.job_id)
        assert (state, once(events)) == (State.COMPLETED, True)
        await until(lambda: worker.read("/readyz")[0] == 503)
        proxy.cut()
        proxy.unblock()
        await worker.ready()
        await completes(jobs)
        heard: set[int] = set()
        async with asyncio.timeout(20):
            while heard != {event.sequence for event in events if event.worker}:
                message = await tap.get(no_ack=True, fail=False)
                event = JobEvent.model_validate_json(message.body) if message else None
                if event and event.job_id == job.job_id and event.worker:
                    heard.add(event.sequence)
                elif not event:
                    await asyncio.sleep(0.05)
    assert runs(record) == ["start", "end"]
