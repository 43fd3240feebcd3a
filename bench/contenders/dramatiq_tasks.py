"""Dramatiq as a contender: threads in one process; it always acknowledges late."""

# mypy: disallow-untyped-decorators=False
import asyncio
import os
import threading
from collections.abc import Sequence
from typing import Any

import dramatiq
from contenders.record import note
from contenders.storage_work import Work
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from joblease.messages import JobMessage

QUEUE = "default"
dramatiq.set_broker(RabbitmqBroker(url=os.environ.get("JOBLEASE_AMQP_URL")))
_thread = threading.local()


@dramatiq.actor
def noop(_: dict[str, Any]) -> None:
    """Nothing."""
    note()


@dramatiq.actor
def noop_under_lease(job: dict[str, Any]) -> None:
    if not hasattr(_thread, "work"):
        _thread.work = Work()
    _thread.work.do(job)
    note()


async def publish(jobs: Sequence[JobMessage], *, storage: bool = True) -> None:
    actor = noop_under_lease if storage else noop

    def submit() -> None:
        for job in jobs:
            actor.send(job.model_dump(mode="json", by_alias=True))

    await asyncio.to_thread(submit)


def command(_: int, concurrency: int) -> tuple[list[str], dict[str, str]]:
    return ["dramatiq", "contenders.dramatiq_tasks", "--processes", "1", "--threads", str(concurrency)], {}
