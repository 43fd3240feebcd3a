"""JobLease as a contender: `joblease-worker` loads this module."""

import asyncio
import os
from collections.abc import Sequence
from typing import Any

from contenders.record import note
from joblease import JobContext, handler, topology
from joblease.broker import Broker
from joblease.messages import JobMessage
from joblease.settings import BrokerSettings

QUEUE = topology.jobs_queue("default")


@handler("noop")
def noop(_: JobContext) -> None:
    """Nothing."""
    note()


async def publish(jobs: Sequence[JobMessage]) -> None:
    """As the operator does, but all at once."""
    settings = BrokerSettings()

    async def prepare(channel: Any) -> None:
        await topology.declare_readers(channel)  # events are stored, as they are where an operator and a dashboard run
        await topology.declare_pool(channel, "default", settings)

    async with Broker(settings, "bench", prepare) as broker:
        await asyncio.wait_for(broker.connected(), 20)
        await asyncio.gather(
            *(broker.publish(topology.JOBS, "default", job.encode(), message_id=job.message_id(1)) for job in jobs)
        )


def command(number: int, concurrency: int) -> tuple[list[str], dict[str, str]]:
    return ["joblease-worker"], {
        "JOBLEASE_HANDLERS": "contenders.joblease_tasks",
        "JOBLEASE_WORKER_NAME": f"worker-{number}",
        "JOBLEASE_WORKER_CONCURRENCY": str(concurrency),
        "JOBLEASE_METRICS_HOST": "127.0.0.1",
        "JOBLEASE_METRICS_PORT": "0",
        "JOBLEASE_LOG_FORMAT": os.environ.get("JOBLEASE_LOG_FORMAT", "json"),
    }
