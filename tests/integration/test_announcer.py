"""A run's events and a broker that fails."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aio_pika
import pytest
from joblease import topology, tracing
from joblease.broker import Broker, PublishFailed
from joblease.messages import JobEvent, Status
from joblease.settings import BrokerSettings
from joblease.states import State
from joblease.topology import EVENTS
from joblease.trail import NewEvent
from joblease_worker import announcer as announcing
from joblease_worker.announcer import MAX_WAITING, Announcer
from pydantic import SecretStr
from support.jobs import Jobs
from support.tcp_proxy import TcpProxy
from support.worker import open_worker


@pytest.fixture
def proxied_url(amqp_url: str, proxy: TcpProxy) -> str:
    return amqp_url.replace(f":{urlsplit(amqp_url).port}/", f":{proxy.port}/")


@pytest.fixture
async def tap(amqp_url: str) -> AsyncIterator[Any]:
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await topology.declare_exchanges(channel)
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(EVENTS, "#")
        yield queue


@pytest.fixture
async def proxied(proxied_url: str) -> AsyncIterator[Broker]:
    settings = BrokerSettings(amqp_url=SecretStr(proxied_url), amqp_timeout_seconds=1)
    async with Broker(settings, "tests", topology.declare_exchanges) as opened:
        await asyncio.wait_for(opened.connected(), 20)
        yield opened


async def hear(tap: Any, count: int, job_id: str = "1") -> list[int]:
    """The next events of a job. Those of the test before may come once more: nobody had confirmed them."""
    heard: list[int] = []
    async with asyncio.timeout(20):
        while len(heard) < count:
            if message := await tap.get(no_ack=True, fail=False):
                event = JobEvent.model_validate_json(message.body)
                heard += [event.sequence] if event.job_id == job_id else []
            else:
                await asyncio.sleep(0.02)
    return heard


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


def event(sequence: int, message: str = "") -> JobEvent:
    moment = datetime.now(UTC)
    return JobEvent.model_construct(
        version=1, event_id=f"1.{sequence}", job_id="1", namespace="n", name="n", handler="h", queue="q", group="g",
        submitted_at=moment, sequence=sequence, status=f"Step {sequence}", state=State.RUNNING, message=message,
        timestamp=moment, attempt=1, epoch=1, worker=None, progress=None, data=None,
    )  # fmt: skip


async def test_what_could_not_be_said_is_said_while_the_run_goes_on(
    jobs: Jobs, proxied_url: str, proxy: TcpProxy, tap: Any, storage: str, tmp_path: Path
) -> None:
    async with open_worker(proxied_url, storage, amqp_timeout_seconds=1) as worker:
        job = await jobs.submit("paced", parameters={"folder": str(tmp_path), "count": 4})
        (tmp_path / "1").touch()
        assert await hear(tap, 2, job.job_id) == [3, 4]  # Started, Step 1
        proxy.block()
        for number in (2, 3):
            (tmp_path / str(number)).touch()
        await until(lambda: worker.broker.problem)
        proxy.cut()
        proxy.unblock()
        assert await hear(tap, 2, job.job_id) == [5, 6]
        assert not (await jobs.trail.head(job.job_id)).state.terminal
        (tmp_path / "4").touch()
        assert (await jobs.outcome(job.job_id))[0] is State.COMPLETED
        assert await hear(tap, 2, job.job_id) == [7, 8]


async def test_what_was_announced_is_noted_with_the_next_step(
    jobs: Jobs, proxied_url: str, tap: Any, storage: str, tmp_path: Path
) -> None:
    async with open_worker(proxied_url, storage):
        job = await jobs.submit("paced", parameters={"folder": str(tmp_path), "count": 3})
        (tmp_path / "1").touch()
        await hear(tap, 2, job.job_id)  # Started, Step 1
        (tmp_path / "2").touch()
        await hear(tap, 1, job.job_id)
        assert (await jobs.trail.head(job.job_id)).announced in (3, 4)
        (tmp_path / "3").touch()
        await jobs.outcome(job.job_id)
        assert (await jobs.trail.head(job.job_id)).announced >= 5


async def test_a_history_that_cannot_be_read_for_a_reason_nobody_foresaw_ends_no_run(
    jobs: Jobs, proxied_url: str, tap: Any, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await jobs.submit("noop", publish=False)
    head = await jobs.trail.head(job.job_id)
    await jobs.trail.append(head, [NewEvent(Status.STARTED)], state=State.RUNNING, attempt=1, epoch=1)
    async with open_worker(proxied_url, storage) as worker:
        trail = worker.consumer._work._trail
        history = trail.history

        async def fails_once(*_: Any, **__: Any) -> Any:
            monkeypatch.setattr(trail, "history", history)
            raise KeyError("sequence")

        monkeypatch.setattr(trail, "history", fails_once)
        await jobs.publish(job)
        assert await hear(tap, 3, job.job_id) == [4, 5, 6]  # Interrupted, Started, Completed
        assert (await jobs.outcome(job.job_id))[0] is State.COMPLETED


async def test_an_event_that_cannot_be_encoded_holds_up_nobody(proxied: Broker, tap: Any) -> None:
    async with Announcer(proxied, tracing.child_of(None)) as announcer:
        await announcer.announce([event(1), event(2, "\udce9"), event(3)])
        assert await asyncio.wait_for(announcer.finish([event(4)]), 10)
    assert await hear(tap, 3) == [1, 3, 4]


async def test_a_broker_that_stays_away_holds_up_neither_a_run_nor_its_end(
    proxied: Broker, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcing, "FINISH_SECONDS", 0.5)
    proxy.block()
    proxy.cut()
    await until(lambda: proxied.problem)
    async with Announcer(proxied, tracing.child_of(None)) as announcer:
        async with asyncio.timeout(5):
            for number in range(MAX_WAITING + 100):
                await announcer.announce([event(number)])
        assert not await announcer.finish([event(MAX_WAITING + 100)])
    proxy.unblock()


async def test_an_announcer_that_fails_ends_what_waits_for_it(proxied: Broker) -> None:
    async def fails() -> list[JobEvent]:
        raise PublishFailed("as if")

    async with Announcer(proxied, tracing.child_of(None)) as announcer:
        await announcer.announce([fails])
        with pytest.raises(PublishFailed):
            await asyncio.wait_for(announcer.finish([event(1)]), 5)
