"""Celery as a contender: processes (prefork), late acknowledgement, no result backend."""

# mypy: disallow-untyped-decorators=False
import asyncio
import os
from collections.abc import Sequence
from typing import Any

from celery import Celery
from celery.signals import worker_process_init
from contenders.record import note
from contenders.storage_work import Work
from joblease.messages import JobMessage

QUEUE = "celery"
app = Celery("bench", broker=os.environ.get("JOBLEASE_AMQP_URL"))
app.conf.update(
    task_acks_late=True, task_ignore_result=True, broker_connection_retry_on_startup=True, worker_send_task_events=False
)
_work: list[Work] = []


@worker_process_init.connect
def prepare(**_: Any) -> None:
    """Each process has clients of its own, and makes them before the first task."""
    _work.append(Work())


@app.task(name="noop")
def noop(_: dict[str, Any]) -> None:
    """Nothing."""
    note()


@app.task(name="noop-under-lease")
def noop_under_lease(job: dict[str, Any]) -> None:
    _work[0].do(job)
    note()


async def publish(jobs: Sequence[JobMessage], *, storage: bool = True) -> None:
    task = noop_under_lease if storage else noop

    def submit() -> None:
        with app.producer_or_acquire() as producer:
            for job in jobs:
                task.apply_async((job.model_dump(mode="json", by_alias=True),), producer=producer)

    await asyncio.to_thread(submit)


def command(number: int, concurrency: int) -> tuple[list[str], dict[str, str]]:
    """How to start a worker; what only helps Celery's tools is off."""
    return [
        *("celery", "-A", "contenders.celery_tasks", "worker", "-n", f"worker-{number}", "-c", str(concurrency)),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    ], {}
