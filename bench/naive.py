"""The naive way to run one job at a time, to compare with: try the lease, and on a conflict try again after 10 s.

Workers take messages from the same broker, one at a time, and compete for the same kind of blob lease with the same
client libraries. Whoever gets the lease runs the job and gives the lease back. Whoever does not puts the message into a
queue out of which it returns after 10 s, as `retry(countdown=10)` of a task library does, and takes the next one. So
nobody decides who runs next: a job whose pause is not over stays away, also when the lease has long been free.

There is no trail, no fence and no renewal here: nothing that could make it slower than it has to be.
"""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import aio_pika
import pika
from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from joblease.leases import LeaseBlobs, LeaseHeld, slot_blob
from joblease.settings import BrokerSettings, StorageSettings
from joblease.storage import Storage
from parts import channel, consumers, delete_queues
from processes import attempts

RETRY_SECONDS = 10
LEASE_SECONDS = 60
JOBS, WAITING = "naive.jobs", "naive.waiting"
START_SECONDS = 60


def hand_overs(
    folder: Path, workers: int, jobs: int, job_seconds: float, *, within: float, runs: int, patience: float
) -> list[float]:
    """Seconds from the end of each job to the start of the next one, until so many have run.

    The jobs arrive at random moments within `within` seconds; 0 is all at once. The environment says where broker and
    storage are.
    """
    record = folder / f"naive-{uuid4().hex[:8]}"
    record.touch()
    with record.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, __file__, str(workers), str(record)], stdout=log, stderr=log, start_new_session=True
        )

    def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
        for _ in attempts(seconds, f"{what}; see {record.with_suffix('.log')}"):
            if condition():
                return
            if process.poll() is not None:
                raise SystemExit(f"naive workers have ended; see {record.with_suffix('.log')}")
            time.sleep(0.1)

    try:
        until(lambda: consumers(JOBS) == workers, START_SECONDS, f"{workers} naive workers consume")
        _publish(jobs, job_seconds, within)
        until(lambda: len(_lines(record)) >= runs, patience, f"{runs} naive jobs have run")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        delete_queues(JOBS, WAITING)
    times = sorted((float(start), float(end)) for start, end in map(str.split, _lines(record)))
    return [after[0] - before[1] for before, after in pairwise(times)]


def _lines(record: Path) -> list[str]:
    return record.read_text().splitlines()


def _publish(jobs: int, job_seconds: float, within: float) -> None:
    moments = sorted(random.uniform(0, within) for _ in range(jobs))
    began = time.monotonic()
    with channel() as broker:
        for moment in moments:
            broker.connection.sleep(max(0.0, began + moment - time.monotonic()))
            broker.basic_publish("", JOBS, str(job_seconds).encode(), pika.BasicProperties(delivery_mode=2))


class Worker:
    """One worker."""

    def __init__(self, channel: AbstractChannel, slots: LeaseBlobs, slot: str, record: Path) -> None:
        self._channel = channel
        self._slots = slots
        self._slot = slot
        self._record = record

    async def serve(self) -> None:
        """Take one message after the other."""
        await self._channel.set_qos(prefetch_count=1)
        quorum: dict[str, Any] = {"x-queue-type": "quorum"}
        back: dict[str, Any] = {
            "x-message-ttl": RETRY_SECONDS * 1000,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": JOBS,
        }
        await self._channel.declare_queue(WAITING, durable=True, arguments=quorum | back)
        queue = await self._channel.declare_queue(JOBS, durable=True, arguments=quorum)
        async with queue.iterator() as messages:
            async for message in messages:
                await self._handle(message)

    async def _handle(self, message: AbstractIncomingMessage) -> None:
        try:
            grant = await self._slots.acquire(self._slot, LEASE_SECONDS)
        except LeaseHeld:
            again = Message(message.body, delivery_mode=DeliveryMode.PERSISTENT)
            await self._channel.default_exchange.publish(again, WAITING)
        else:
            started = time.time()
            await asyncio.sleep(float(message.body))
            ended = time.time()
            await self._slots.release(grant)
            with self._record.open("a") as record:
                record.write(f"{started} {ended}\n")
        await message.ack()


async def work(slot: str, record: Path) -> None:
    """One worker process, until it is killed."""
    async with Storage(StorageSettings()) as storage:
        connection = await aio_pika.connect(BrokerSettings().amqp_url.get_secret_value())
        slots = LeaseBlobs(storage.locks())
        await slots.create(slot, {})
        await Worker(await connection.channel(), slots, slot, record).serve()


def main() -> None:
    """Some worker processes: `naive.py WORKERS RECORD`.

    They are forked from one that has imported everything, since on a small machine 50 would take a minute to do so.
    """
    record = Path(sys.argv[2])
    slot = slot_blob(record.name, 0)
    for _ in range(int(sys.argv[1]) - 1):
        if os.fork() == 0:
            break
    asyncio.run(work(slot, record))


if __name__ == "__main__":
    main()
