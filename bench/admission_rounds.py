"""What `admission.py` does and counts: requests with and without an operator, on empty stores each time."""

import asyncio
import os
import re
import time
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from api_server import ApiServer, each
from fleet import BIN, cpu_seconds
from joblease import topology
from joblease.broker import Broker
from joblease.head import Head
from joblease.leases import LeaseBlobs, job_blob
from joblease.messages import JobEvent, now
from joblease.states import State
from joblease.storage import TRAIL_TABLE, Storage
from joblease.topology import EVENTS
from joblease.trail import AuditTrail
from joblease_local.processes import recorded
from joblease_local.program import Program
from joblease_local.stack import Stack
from noops import ADMITTED, message
from parts import FIRST_PORT

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel

PATIENCE_SECONDS = 240
SETTLED_SECONDS = 7
"""kopf keeps what it needs to work on an object for 5 s; what is measured after that is what stays."""
POLL_SECONDS = 0.25
QUEUES = [topology.jobs_queue("default"), *(f"{EVENTS}.{reader}" for reader in topology.READERS)]
PORTS = {"operator": FIRST_PORT + 9, "worker-1": FIRST_PORT + 10}
GROUP = "bench"
WRITES = "joblease_api_writes_total"
_SAMPLE = re.compile(r"^(\w+)(\{.*\})? (\S+)$", re.MULTILINE)


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
    """KiB for each job, by which the operator has grown."""


class Rounds:
    """An installation's parts, and the clients' connections to them."""

    def __init__(self, stack: Stack, folder: Path, api: ApiServer, storage: Storage, broker: Broker) -> None:
        self._stack = stack
        self._folder = folder
        self._api = api
        self._storage = storage
        self._broker = broker
        self._trail = AuditTrail(storage.table(TRAIL_TABLE))
        self._blobs = LeaseBlobs(storage.locks())

    async def created(self, count: int) -> Run:
        """Create them, and nothing else."""
        await self._empty()
        return await self._measured(count, lambda name: self._api.create(name, _spec(0)))

    async def with_status(self, count: int, reason: str = "Queued", status: str = "Unknown") -> Run:
        """Create each, then write its status."""

        async def one(name: str) -> None:
            uid = await self._api.create(name, _spec(0))
            await self._api.write_status(name, uid, reason, status)

        await self._empty()
        return await self._measured(count, one)

    async def stored(self, count: int) -> Run:
        """The storage requests of an admission: the blob to be leased, and the trail's first transaction."""
        await self._empty()
        return await self._measured(count, lambda name: self._store(name, str(uuid4())))

    async def all_requests(self, count: int) -> Run:
        """All that an admission consists of, one request after the other for each job."""

        async def one(name: str) -> None:
            uid = await self._api.create(name, _spec(0))
            head, events = await self._store(name, uid)
            job = message(head)
            await self._broker.publish(topology.JOBS, job.queue, job.encode(), message_id=job.message_id(1))
            for event in events:
                await self._broker.publish(EVENTS, event.routing_key, event.encode(), message_id=event.event_id)
            await self._api.write_status(name, uid, "Queued", "Unknown")

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
            return counter("operator", WRITES) >= count and await self._api.reasons() == wanted

        with self._program("joblease-operator", "operator"):
            idle = self._memory()
            run = await self._measured(count, lambda name: self._api.create(name, _spec(limit)), reflected)
            states = Counter([head.state async for head, _ in self._trail.everything()])
            found = (await self._messages(), states[State.QUEUED], states[State.SUBMITTED])
            if found != (admitted, admitted, count - admitted):
                raise SystemExit(f"{count} jobs, limit {limit}: messages, queued and waiting jobs are {found}")
            await asyncio.sleep(SETTLED_SECONDS)
            return replace(run, memory=(self._memory() - idle) / count)

    async def life(self, batches: int, size: int, limit: int) -> tuple[float, float]:
        """Writes of a job's status, and its deletion: what the API server gets to do after it was created.

        Each batch is created when the jobs of the one before it have gone; a job of a batch of its own starts at once.
        """
        wanted = {
            **_spec(limit),
            "handler": "demo",
            "parameters": {"steps": 1, "seconds": 0.2},
            "ttlSecondsAfterFinished": 0,
        }
        count = batches * size

        async def gone() -> bool:
            return not await self._api.reasons()

        await self._empty()
        with self._program("joblease-operator", "operator"), self._program("joblease-worker", "worker-1"):
            before = await self._api.writes()
            for _ in range(batches):
                await self._measured(size, lambda name: self._api.create(name, wanted), gone)
            written = await self._api.writes() - before - count
            status, deletions = (counter("operator", WRITES, kind=kind) for kind in ("status", "delete"))
            if written != status + deletions:
                raise SystemExit(f"the operator tells of {status + deletions:.0f} writes, the API server {written}")
        return status / count, deletions / count

    async def restart(self) -> tuple[float, float]:
        """Seconds until an operator is ready, with the resources that there are, and its memory in MiB."""
        began = time.monotonic()
        with self._program("joblease-operator", "operator"):
            return time.monotonic() - began, self._memory() / 1024

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
        while reached and not await reached():
            if time.monotonic() - began > PATIENCE_SECONDS:
                raise SystemExit(f"after {PATIENCE_SECONDS} s: {dict(await self._api.reasons())} of {count} jobs")
            await asyncio.sleep(POLL_SECONDS)
        seconds, after = time.monotonic() - began, self._processor_seconds()
        spent = {name: used - before.get(name, 0) for name, used in after.items()}
        busy = sum(spent.values()) / seconds / (os.cpu_count() or 1)
        return Run(count / seconds, busy, {name: used / count * 1000 for name, used in spent.items()})

    async def _store(self, name: str, uid: str) -> tuple[Head, list[JobEvent]]:
        await self._blobs.create(job_blob(uid), {"jobId": uid, "namespace": "default"})
        head = Head(uid, "default", name, "noop", "default", GROUP, now())
        return await self._trail.append(head, ADMITTED, state=State.QUEUED)

    def _processor_seconds(self) -> dict[str, float]:
        used = {name: cpu_seconds([pid]) for name, pid in recorded(self._folder).items()}
        return {"clients": time.process_time(), **used}

    def _memory(self) -> float:
        """Resident memory of the operator, in KiB."""
        status = Path(f"/proc/{recorded(self._folder)['operator']}/status").read_text()
        return float(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))

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

        await self._api.delete_all()
        await self._broker.ask(purge)
        await self._storage.table(TRAIL_TABLE).delete_table()
        await self._storage.locks().delete_container()
        await self._storage.create_tables(TRAIL_TABLE)
        await self._storage.create_locks()

    @contextmanager
    def _program(self, script: str, name: str) -> Iterator[None]:
        environment = {
            **self._stack.environment,
            "JOBLEASE_METRICS_HOST": "127.0.0.1",
            "JOBLEASE_METRICS_PORT": str(PORTS[name]),
            "JOBLEASE_WORKER_NAME": name,
        }
        program = Program(BIN / script, name, self._folder, PORTS[name], environment)
        try:
            program.start()
            program.ready()
            yield
        finally:
            program.stop()


def _spec(limit: int) -> dict[str, Any]:
    return {"handler": "noop", "concurrency": {"group": GROUP, "limit": limit}}


def counter(program: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{PORTS[program]}/metrics", timeout=5) as answer:
        samples = _SAMPLE.findall(answer.read().decode())
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return sum(float(value) for found, told, value in samples if found == name and all(each in told for each in wanted))
