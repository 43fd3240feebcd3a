"""What `admission.py` does and counts: requests with and without an operator, on empty stores each time."""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from joblease import topology
from joblease.broker import Broker
from joblease.head import Head
from joblease.messages import JobEvent, now
from joblease.states import State
from joblease.storage import OPEN_TABLE, TRAIL_TABLE
from joblease.topology import EVENTS
from joblease_local.processes import recorded
from joblease_local.stack import Stack
from joblease_operator.job import Job
from joblease_operator.open_jobs import OpenJobs
from jobs import Jobs, each
from noops import ADMITTED, message
from parts import PORTS, program
from processes import attempts, cpu_seconds, memory, metrics

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel

PATIENCE_SECONDS = 240
SETTLED_SECONDS = 7
"""kopf keeps what it needs to work on an object for 5 s; what is measured after that is what stays."""
POLL_SECONDS = 0.25
QUEUES = [topology.jobs_queue("default"), *(f"{EVENTS}.{reader}" for reader in topology.READERS)]
GROUP = "bench"
WRITES = "joblease_api_writes_total"


@dataclass(frozen=True, slots=True)
class Run:
    """One contender's round."""

    rate: float
    """Jobs per second."""
    busy: float
    """Share of all processors' time that these processes had."""
    cpu: Mapping[str, float]
    """Milliseconds of processor time per job, by process."""
    memory: float = 0
    """MiB for each job, by which the operator has grown."""


class Rounds:
    """An installation's parts, and the clients' connections to them."""

    def __init__(self, stack: Stack, folder: Path, jobs: Jobs, broker: Broker) -> None:
        self._stack, self._folder, self._jobs, self._broker = stack, folder, jobs, broker
        self._open_jobs = OpenJobs(jobs.storage.table(OPEN_TABLE))

    async def created(self, count: int) -> Run:
        """Create them, and nothing else."""
        await self._empty()
        return await self._measured(count, lambda name: self._jobs.create(name, _spec(0)))

    async def with_status(self, count: int, reason: str = "Queued", status: str = "Unknown") -> Run:
        """Create each, then write its status."""

        async def one(name: str) -> None:
            uid = await self._jobs.create(name, _spec(0))
            await self._jobs.write_status(name, uid, reason, status)

        await self._empty()
        return await self._measured(count, one)

    async def stored(self, count: int) -> Run:
        """The storage requests of an admission: the blob to be leased, and the trail's first transaction."""
        await self._empty()
        return await self._measured(count, lambda name: self._store(name, str(uuid4())))

    async def all_requests(self, count: int) -> Run:
        """All that an admission consists of, one request after the other for each job."""

        async def one(name: str) -> None:
            uid = await self._jobs.create(name, _spec(0))
            head, events = await self._store(name, uid)
            job = message(head)
            await self._broker.publish(topology.JOBS, job.queue, job.encode(), message_id=job.message_id(1))
            for event in events:
                await self._broker.publish(EVENTS, event.routing_key, event.encode(), message_id=event.event_id)
            await self._jobs.write_status(name, uid, "Queued", "Unknown")

        await self._empty()
        return await self._measured(count, one)

    async def operated(self, count: int, limit: int) -> Run:
        """Create them beside a running operator, until each is admitted, or waits, and its status says so.

        Raises `SystemExit` when trail or queue do not have what the statuses say.
        """
        await self._empty()
        admitted = limit or count
        wanted = Counter({"Queued": admitted, "WaitingForGroup": count - admitted})

        async def reflected() -> bool:
            return metrics(PORTS["operator"])[WRITES] >= count and await self._jobs.reasons() == wanted

        with self._operator() as pid:
            idle = memory([pid])["Rss"]
            run = await self._measured(count, lambda name: self._jobs.create(name, _spec(limit)), reflected)
            states = Counter([head.state async for head, _ in self._jobs.trail.everything()])
            found = (await self._messages(), states[State.QUEUED], states[State.SUBMITTED])
            if found != (admitted, admitted, count - admitted):
                raise SystemExit(f"{count} jobs, limit {limit}: messages, queued and waiting jobs are {found}")
            await asyncio.sleep(SETTLED_SECONDS)
            return replace(run, memory=(memory([pid])["Rss"] - idle) / count)

    async def restart(self) -> tuple[float, float]:
        """Seconds until an operator is ready, with the resources that there are, and its memory in MiB."""
        began = time.monotonic()
        with self._operator() as pid:
            return time.monotonic() - began, memory([pid])["Rss"]

    async def _measured(
        self,
        count: int,
        work: Callable[[str], Awaitable[object]],
        reached: Callable[[], Awaitable[bool]] | None = None,
    ) -> Run:
        """Do something for so many new names, and wait until something is reached. Raises `SystemExit`."""
        prefix = uuid4().hex[:8]
        before, began = self._processor_seconds(), time.monotonic()
        await each(count, lambda number: work(f"{prefix}-{number}"))
        for _ in attempts(PATIENCE_SECONDS, f"{count} jobs are where they should be"):
            if not reached or await reached():
                break
            await asyncio.sleep(POLL_SECONDS)
        seconds, after = time.monotonic() - began, self._processor_seconds()
        spent = {name: used - before.get(name, 0) for name, used in after.items()}
        busy = sum(spent.values()) / seconds / (os.cpu_count() or 1)
        return Run(count / seconds, busy, {name: used / count * 1000 for name, used in spent.items()})

    async def _store(self, name: str, uid: str) -> tuple[Head, list[JobEvent]]:
        await self._open_jobs.add(Job(uid, "default", name, now()))
        head = Head(uid, "default", name, "noop", "default", GROUP, now())
        return await self._jobs.trail.append(head, ADMITTED, state=State.QUEUED)

    def _processor_seconds(self) -> dict[str, float]:
        used = {name: cpu_seconds(pid) for name, pid in recorded(self._folder).items()}
        return {"clients": time.process_time(), **used}

    async def _messages(self) -> int:
        async def count(channel: "AbstractChannel") -> int:
            queue = await channel.declare_queue(QUEUES[0], passive=True)
            return queue.declaration_result.message_count or 0

        return await self._broker.ask(count)

    async def _empty(self) -> None:
        """Empty all stores, while no program uses them."""

        async def purge(channel: "AbstractChannel") -> None:
            for name in QUEUES:
                await (await channel.declare_queue(name, passive=True)).purge()

        await self._jobs.delete_all()
        await self._broker.ask(purge)
        await self._jobs.storage.table(TRAIL_TABLE).delete_table()
        await self._jobs.storage.locks().delete_container()
        await self._jobs.storage.create_tables(TRAIL_TABLE, OPEN_TABLE)
        await self._jobs.storage.create_locks()

    @contextmanager
    def _operator(self) -> Iterator[int]:
        probes = {"JOBLEASE_METRICS_HOST": "127.0.0.1", "JOBLEASE_METRICS_PORT": str(PORTS["operator"])}
        with program("operator", self._folder, {**self._stack.environment, **probes}) as pid:
            yield pid


def _spec(limit: int) -> dict[str, Any]:
    return {"handler": "noop", "concurrency": {"group": GROUP, "limit": limit}}
