"""No contender but the measure: a job's storage requests as JobLease's own clients make them, and nothing else.

A program without a broker: it gets its jobs from files, a line of JSON each, whose paths come on standard input.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from contenders.record import note
from joblease.head import Head
from joblease.messages import JobMessage, Status
from joblease.settings import StorageSettings
from joblease.states import State
from joblease.storage import TRAIL_TABLE, Storage
from joblease.trail import AuditTrail, NewEvent

Do = Callable[[JobMessage], Awaitable[None]]


async def serve(concurrency: int, do: Do) -> None:
    """Do so many jobs at once, until the input ends."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async for path in reader:
        lines = iter(Path(path.decode().strip()).read_bytes().splitlines())  # noqa: ASYNC240 - before the work
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(_one_by_one(do, lines))


async def _one_by_one(do: Do, lines: Iterator[bytes]) -> None:
    for line in lines:  # the others take theirs from the same
        await do(JobMessage.model_validate_json(line))


class Raw:
    """The clients of one process."""

    def __init__(self, storage: Storage) -> None:
        self._trail = AuditTrail(storage.table(TRAIL_TABLE))
        self._worker = str(os.getpid())

    async def do(self, job: JobMessage) -> None:
        assert job.head  # noqa: S101 - the benchmark's own
        head = Head(
            *(job.job_id, job.namespace, job.name, job.handler, job.queue, job.group, job.head.submitted_at),
            state=State.QUEUED,
            sequence=job.head.sequence,
            etag=job.head.etag,
        )
        started = NewEvent(Status.STARTED, "attempt 1 of 3")
        head, _ = await self._trail.append(
            head, [started], state=State.RUNNING, epoch=1, attempt=1, worker=self._worker
        )
        completed = NewEvent(Status.COMPLETED, "attempt 1 completed", 100)
        await self._trail.append(head, [completed], state=State.COMPLETED)
        note()


async def work(concurrency: int) -> None:
    async with Storage(StorageSettings()) as storage:
        await serve(concurrency, Raw(storage).do)


def command(_: int, concurrency: int) -> tuple[list[str], dict[str, str]]:
    return ["python", "-m", "contenders.raw_tasks", str(concurrency)], {}


if __name__ == "__main__":
    asyncio.run(work(int(sys.argv[1])))
