"""Taskiq as a contender: asyncio tasks in one process, acknowledged when they have ended."""

# mypy: disallow-untyped-decorators=False
import asyncio
import os
from collections.abc import Sequence
from typing import Any

from contenders.record import note
from contenders.storage_work import AsyncWork
from joblease.messages import JobMessage
from taskiq import TaskiqEvents
from taskiq_aio_pika import AioPikaBroker

QUEUE = "taskiq"
PREFETCH = "JOBLEASE_BENCH_PREFETCH"
broker = AioPikaBroker(os.environ.get("JOBLEASE_AMQP_URL"), qos=int(os.environ.get(PREFETCH, "16")))
_work: list[AsyncWork] = []


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def prepare(_: Any) -> None:
    _work.append(AsyncWork())


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def close(_: Any) -> None:
    await _work[0].close()


@broker.task("noop")
async def noop(_: dict[str, Any]) -> None:
    """Nothing."""
    note()


@broker.task("noop-under-lease")
async def noop_under_lease(job: dict[str, Any]) -> None:
    await _work[0].do(job)
    note()


async def publish(jobs: Sequence[JobMessage], *, storage: bool = True) -> None:
    task = noop_under_lease if storage else noop
    await broker.startup()
    try:
        await asyncio.gather(*(task.kiq(job.model_dump(mode="json", by_alias=True)) for job in jobs))
    finally:
        await broker.shutdown()


def command(_: int, concurrency: int) -> tuple[list[str], dict[str, str]]:
    """How to start a worker. As many messages again as tasks wait in the process, as with Dramatiq."""
    return [
        *("taskiq", "worker", "contenders.taskiq_tasks:broker", "--workers", "1"),
        *("--max-async-tasks", str(concurrency), "--max-prefetch", str(concurrency)),
        *("--ack-type", "when_executed"),
    ], {PREFETCH: str(2 * concurrency)}
