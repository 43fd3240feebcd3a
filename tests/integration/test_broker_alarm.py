"""RabbitMQ runs out of memory: it takes no messages for a while, and jobs go on all the same."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from joblease import topology
from joblease.broker import Broker, PublishFailed, Subscription, acknowledge
from joblease.settings import BrokerSettings
from joblease.states import State
from joblease_local.ports import free_ports
from joblease_local.rabbitmq import RabbitMQ, require_rabbitmq
from pydantic import SecretStr
from support.jobs import open_jobs
from support.parts import need, say
from support.programs import program

TIMEOUT_SECONDS, WORKER_TIMEOUT_SECONDS = 1.0, 2.0


@pytest.fixture
def pool() -> str:
    return f"pool-{uuid4().hex[:6]}"


@pytest.fixture
def settings(alarming: RabbitMQ) -> BrokerSettings:
    return BrokerSettings(amqp_url=SecretStr(alarming.url), amqp_timeout_seconds=TIMEOUT_SECONDS, defer_seconds=1)


async def until(condition: Callable[[], object], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.05)


def _subscription(pool: str, settings: BrokerSettings, callback: Any) -> Subscription:
    async def declare(channel: Any) -> Any:
        return await topology.declare_pool(channel, pool, settings)

    return Subscription(declare, callback, prefetch=10)  # also what an impatient one has sent after all


async def _declared(broker: Broker, pool: str, settings: BrokerSettings) -> None:
    await asyncio.wait_for(broker.connected(), 20)
    await broker.declare(lambda channel: topology.declare_pool(channel, pool, settings))


@contextlib.asynccontextmanager
async def alarm(rabbitmq: RabbitMQ) -> AsyncIterator[None]:
    await asyncio.to_thread(rabbitmq.control, "set_vm_memory_high_watermark", "absolute", "1000")
    try:
        yield
    finally:
        await asyncio.to_thread(rabbitmq.control, "set_vm_memory_high_watermark", "0.4")


@pytest.fixture(scope="module")
def alarming(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """A broker that may run out of memory."""
    server = need(lambda: require_rabbitmq(say))
    amqp, distribution, epmd = free_ports(3)
    rabbitmq = RabbitMQ(server, tmp_path_factory.mktemp("alarming"), (amqp, distribution, epmd))
    try:
        rabbitmq.start()
        rabbitmq.ready()
        yield rabbitmq
    finally:
        rabbitmq.stop()


async def test_an_alarm_of_any_length_costs_nothing_but_time(
    alarming: RabbitMQ, settings: BrokerSettings, pool: str
) -> None:
    came: list[Any] = []

    async def receive(delivery: Any) -> None:
        came.append(delivery)

    patient = Broker(settings, "patient", topology.declare_exchanges, patient=True)
    patient.subscribe(_subscription(pool, settings, receive))
    impatient = Broker(settings, "impatient", topology.declare_exchanges)
    async with patient, impatient:
        await _declared(patient, pool, settings)
        await impatient.publish(topology.JOBS, pool, b"{}", message_id="1")
        await patient.publish(topology.JOBS, pool, b"{}", message_id="2")
        await until(lambda: len(came) == 2)
        made = [each.made for broker in (patient, impatient) for each in (broker._consumer, broker._publisher)]
        async with alarm(alarming):
            publishing = asyncio.create_task(patient.publish(topology.JOBS, pool, b"{}", message_id="held back"))
            for _ in range(3):  # one after the other, each as long as any publish may take without an alarm
                with pytest.raises(PublishFailed, match="alarm"):
                    await impatient.publish(topology.JOBS, pool, b"{}", message_id="refused")
            assert (publishing.done(), patient.blocked, impatient.blocked) == (False, True, True)
            assert await acknowledge(came[0])  # what ends meanwhile is done with
        await asyncio.wait_for(publishing, 20)
        await impatient.publish(topology.JOBS, pool, b"{}", message_id="taken again")
        await until(lambda: any(each.message_id == "held back" for each in came))
        assert [each.redelivered for each in came].count(True) == 0
        again = [each.made for broker in (patient, impatient) for each in (broker._consumer, broker._publisher)]
        assert again == made


async def test_a_program_that_ends_does_not_wait_for_the_end_of_an_alarm(
    alarming: RabbitMQ, settings: BrokerSettings, pool: str
) -> None:
    async with Broker(settings, "test", topology.declare_exchanges, patient=True) as broker:
        await _declared(broker, pool, settings)
        async with alarm(alarming):
            publishing = asyncio.create_task(broker.publish(topology.JOBS, pool, b"{}", message_id="1"))
            await until(lambda: broker.blocked)
            await broker.stop_consuming()
            with pytest.raises(PublishFailed, match="alarm"):
                await asyncio.wait_for(publishing, 10)


async def test_jobs_survive_an_alarm_of_any_length(
    alarming: RabbitMQ, storage: str, settings: BrokerSettings, tmp_path: Path
) -> None:
    """One runs and ends, one waits for it, while several publishes could have failed one after the other."""
    record = tmp_path / "record"
    variables = {
        "JOBLEASE_AMQP_URL": alarming.url,
        "JOBLEASE_AMQP_TIMEOUT_SECONDS": str(WORKER_TIMEOUT_SECONDS),
        "JOBLEASE_STORAGE_CONNECTION_STRING": storage,
        "JOBLEASE_HANDLERS": "support.handlers",
        "JOBLEASE_WORKER_NAME": "worker-1",
        "JOBLEASE_LEASE_SECONDS": "15",
        "JOBLEASE_DEFER_SECONDS": "1",
    }
    async with (
        open_jobs(alarming.url, storage) as jobs,
        program("joblease-worker", variables, tmp_path / "worker.log") as worker,
    ):
        first, second = [await jobs.submit("hold", parameters={"seconds": 2, "record": str(record)}) for _ in range(2)]
        await until(record.exists)
        async with alarm(alarming):
            assert (await jobs.outcome(first.job_id))[0] is State.COMPLETED
            await until(lambda: worker.metric("joblease_broker_blocked") == 1)
            await asyncio.sleep(4 * WORKER_TIMEOUT_SECONDS)  # the length of the alarm is what this is about
            assert worker.read("/readyz")[0] == 200
        state, events = await jobs.outcome(second.job_id)
        words = [event.status for event in events]
        assert (state, words.count("Started"), words.count("Completed")) == (State.COMPLETED, 1, 1)
        await until(lambda: worker.metric("joblease_broker_blocked") == 0)
        assert [line.split(":")[0] for line in record.read_text().splitlines()] == ["start", "end"] * 2
        assert "joblease-worker worker-1: the broker" not in worker.output  # no delivery has gone back to its queue
