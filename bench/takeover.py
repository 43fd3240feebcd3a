"""Seconds until a job goes on after each kind of failure, with default settings: `make bench-takeover`.

A job runs (or is submitted in the moment of the fault), the fault is injected, and the audit trail tells when a run
started after it. Waiting for a lease of 60 s makes a round long, so the faults that have to are injected at the same
time, each into another worker with a job of another group. One worker reaches broker and storage through proxies that
can fall silent.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from azure.storage.blob.aio import BlobLeaseClient
from joblease_local.program import Program
from joblease_local.stack import Stack
from jobs import Jobs, open_jobs
from parts import BROKER, DASHBOARD_PORT, STORAGE, installation
from processes import BENCH, BIN, attempts, family
from report import Report, arguments, at_most, spread

sys.path.append(str(BENCH.parent / "tests"))
from support.tcp_proxy import TcpProxy, storage_through_proxies

WORKERS = 4
CUT = "worker-cut"
"""One more worker, behind proxies."""
LEASE_SECONDS = 60
PATIENCE_SECONDS = 180
JOB_SECONDS = 4
LONG_SECONDS = 25
"""Longer than a worker takes to learn that its lease was broken. Nobody else looks before: the message is its own."""
API_SECONDS = 30
"""How long the API server may be away."""

NONE = "none: submitted to started"
TERM, KILL, STOP, PARTITION = "worker SIGTERM", "worker kill -9", "worker SIGSTOP", "worker cut off"
LOST = "worker's node lost"
BROKEN = "lease broken by somebody, period 0"
OPERATOR, RABBITMQ, AZURITE = "operator kill -9", "RabbitMQ kill -9", "Azurite restarted"
SERVER, ETCD = "kube-apiserver kill -9", "etcd kill -9"
WAITS = {
    NONE: "",
    TERM: "the handler's end, two writes to the trail",
    KILL: "the end of all that it has started, the deferred message (1 s)",
    STOP: "two missed heartbeats of the broker, the lease, the deferred message (1 s)",
    LOST: "two missed heartbeats of the broker, the lease, the deferred message (1 s)",
    PARTITION: "two missed heartbeats of the broker, the lease, the deferred message (1 s)",
    BROKEN: "the next renewal (20 s), the deferred message (1 s)",
    OPERATOR: "the operator's start",
    RABBITMQ: "RabbitMQ's start, connections made anew",
    AZURITE: "Azurite's stop and start",
    SERVER: "the API server's start",
    ETCD: "etcd's start",
}
TARGETS = {KILL: 2, TERM: 1, LOST: LEASE_SECONDS + 2, PARTITION: LEASE_SECONDS + 2}
"""Seconds at most."""
NOTES = (
    "From the fault to the next `Started` in the audit trail. Where a part was ended, its own start is included.",
    (
        "SIGTERM was measured with `JOBLEASE_DRAIN_GRACE_SECONDS=0`. By default a job may go on for 30 s before it is "
        "handed over, which is its time to end and no part of the hand-over."
    ),
    (
        "A lease was renewed up to 20 s before its worker failed, so 40 to 60 s of it are left. Whoever gets the "
        "message meanwhile defers it for a second. Of a lost node, the worker and all that it has started is frozen."
    ),
)

Fault = Callable[[str, str], AbstractAsyncContextManager[None]]
"""Takes the running job's id and its worker; undone at the end."""


class Bench:
    """A running installation, and the faults."""

    def __init__(self, stack: Stack, jobs: Jobs, network: list[TcpProxy]) -> None:
        self._stack = stack
        self._jobs = jobs
        self._network = network

    async def round(self) -> dict[str, float]:
        """Seconds that it took to go on, by fault."""
        plane, rabbitmq, azurite = (self._part(each.name) for each in self._stack.parts)
        operator = self._part("operator")
        taken = {
            NONE: await self._submitted(),
            TERM: await self._interrupted(self._terminated),
            BROKEN: await self._interrupted(self._broken, LONG_SECONDS),
            **await self._together({KILL: self._killed, STOP: self._stopped, LOST: self._lost, PARTITION: self._cut}),
        }
        for name, part, end in (
            (OPERATOR, operator, operator.process.kill),
            (RABBITMQ, rabbitmq, rabbitmq.process.kill),
            (AZURITE, azurite, azurite.process.stop),
            (SERVER, plane, plane.server.kill),
            (ETCD, plane, plane.etcd.kill),
        ):
            taken[name] = await self._submitted(part, end)
        return taken

    def _part(self, name: str) -> Any:
        return next(each for each in (*self._stack.parts, *self._stack.programs) if each.name == name)

    async def _settle(self) -> None:
        """Wait until everything works again."""
        for each in (*self._stack.parts, *self._stack.programs):
            await asyncio.to_thread(each.ready)

    async def _submitted(self, part: Any = None, end: Callable[[], None] = lambda: None) -> float:
        """From the end of a part to the start of a job that is submitted as soon as that is possible."""
        moment = datetime.now(UTC)
        await asyncio.to_thread(end)
        starting = asyncio.create_task(asyncio.to_thread(part.start)) if part else None
        job_id = await self._jobs.submit(0.1, patience=API_SECONDS)
        seconds = await self._next_start(job_id, moment)
        if starting:
            await starting
        await self._ended(job_id)
        await self._settle()
        return seconds

    async def _interrupted(self, fault: Fault, length: float = JOB_SECONDS) -> float:
        """From a fault that ends a run to the run that follows it. `length` of the job: seconds."""
        job_id = await self._jobs.submit(length)
        seconds = await self._go_on(job_id, await self._worker(job_id), fault)
        await self._settle()
        return seconds

    async def _together(self, faults: dict[str, Fault]) -> dict[str, float]:
        """The same, of faults into as many workers, the last one into the worker behind proxies.

        All workers are busy, each with a job of a group of its own.
        """
        groups = [{"group": f"takeover-{number}", "limit": 1} for number in range(WORKERS + 1)]
        ids = await asyncio.gather(*(self._jobs.submit(JOB_SECONDS, concurrency=group) for group in groups))
        running = {await self._worker(job_id): job_id for job_id in ids}
        if CUT not in running or len(running) < len(faults):
            raise SystemExit(f"the jobs did not run on all workers, but on {', '.join(sorted(running))}")
        victims = [*sorted(running.keys() - {CUT})[: len(faults) - 1], CUT]
        seconds = await asyncio.gather(
            *(
                self._go_on(running[worker], worker, fault)
                for worker, fault in zip(victims, faults.values(), strict=True)
            )
        )
        for job_id in ids:
            await self._ended(job_id)
        await self._settle()
        return dict(zip(faults, seconds, strict=True))

    async def _go_on(self, job_id: str, worker: str, fault: Fault) -> float:
        moment = datetime.now(UTC)
        async with fault(job_id, worker):
            seconds = await self._next_start(job_id, moment)
        await self._ended(job_id)
        return seconds

    async def _worker(self, job_id: str) -> str:
        started = await self._jobs.event(job_id, lambda event: event.status == "Started", PATIENCE_SECONDS)
        return str(started.worker)

    async def _next_start(self, job_id: str, moment: datetime) -> float:
        started = await self._jobs.event(
            job_id, lambda event: event.status == "Started" and event.timestamp > moment, PATIENCE_SECONDS
        )
        return (started.timestamp - moment).total_seconds()

    async def _ended(self, job_id: str) -> None:
        await self._jobs.event(job_id, lambda event: event.state.terminal, PATIENCE_SECONDS)

    @asynccontextmanager
    async def _terminated(self, _: str, worker: str) -> AsyncIterator[None]:
        part = self._part(worker)
        part.process.signal(signal.SIGTERM)
        yield
        await _start_again(part)

    @asynccontextmanager
    async def _killed(self, _: str, worker: str) -> AsyncIterator[None]:
        part = self._part(worker)
        part.process.signal(signal.SIGKILL)
        await _start_again(part)  # as a kubelet does
        yield

    @asynccontextmanager
    async def _stopped(self, _: str, worker: str) -> AsyncIterator[None]:
        process = self._part(worker).process
        process.signal(signal.SIGSTOP)
        yield
        process.signal(signal.SIGCONT)

    @asynccontextmanager
    async def _lost(self, _: str, worker: str) -> AsyncIterator[None]:
        """Nothing of it answers, and nothing is proven dead."""
        frozen = family(self._part(worker).process.pid)
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        yield
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)

    @asynccontextmanager
    async def _cut(self, _: str, __: str) -> AsyncIterator[None]:
        for proxy in self._network:
            proxy.block()
        yield
        for proxy in self._network:
            proxy.unblock()

    @asynccontextmanager
    async def _broken(self, job_id: str, _: str) -> AsyncIterator[None]:
        """As an administrator might."""
        head = await self._jobs.trail.head(job_id)
        blob = self._jobs.storage.locks().get_blob_client(head.claim_blob)
        await BlobLeaseClient(blob).break_lease(0)
        yield


async def _start_again(part: Any) -> None:
    """Start a part that is about to end."""
    for _ in attempts(PATIENCE_SECONDS, f"{part.name} ends"):
        if not part.running:
            break
        await asyncio.sleep(0.05)
    await asyncio.to_thread(part.ended)
    await asyncio.to_thread(part.start)


@asynccontextmanager
async def worker_behind_proxies(stack: Stack, folder: Path) -> AsyncIterator[list[TcpProxy]]:
    """Add a worker to an installation that can be cut off: its ways to broker and storage."""
    async with AsyncExitStack() as proxies:
        broker_port = urlsplit(os.environ[BROKER]).port or 0
        broker = await proxies.enter_async_context(TcpProxy(broker_port))
        connection, storage = await storage_through_proxies(os.environ[STORAGE], proxies)
        port = DASHBOARD_PORT - 1
        environment = {
            BROKER: os.environ[BROKER].replace(f":{broker_port}/", f":{broker.port}/"),
            STORAGE: connection,
            "JOBLEASE_WORKER_NAME": CUT,
            "JOBLEASE_METRICS_HOST": "127.0.0.1",
            "JOBLEASE_METRICS_PORT": str(port),
        }
        worker = Program(BIN / "joblease-worker", CUT, folder, port, environment)
        stack.programs.append(worker)
        try:
            worker.start()
            await asyncio.to_thread(worker.ready)
            yield [broker, *storage]
        finally:
            await asyncio.to_thread(worker.stop)  # while it can still say goodbye


async def measure(stack: Stack, folder: Path, rounds: int) -> dict[str, list[float]]:
    """All faults, so many times."""
    taken: dict[str, list[float]] = {}
    async with open_jobs(folder) as jobs, worker_behind_proxies(stack, folder) as network:
        bench = Bench(stack, jobs, network)
        for number in range(1, rounds + 1):
            for fault, seconds in (await bench.round()).items():
                print(f"  round {number}: {fault:36}{seconds:8.2f} s", flush=True)
                taken.setdefault(fault, []).append(seconds)
    return taken


def main() -> None:
    options = arguments(__doc__, rounds=3)
    variables = {"JOBLEASE_DRAIN_GRACE_SECONDS": "0"}
    if options.quick:
        variables["JOBLEASE_LEASE_SECONDS"] = "15"
    with installation("takeover", workers=WORKERS, variables=variables) as (stack, folder):
        taken = asyncio.run(measure(stack, folder, options.rounds))
    Report(
        "takeover",
        "How long is it from a failure until the job, or the next one, runs?",
        options.rounds,
        [
            {"fault": fault, "seconds": spread(taken[fault]), "what it waits for": waits}
            for fault, waits in WAITS.items()
        ],
        [at_most(f"{fault}, the longest", wanted, max(taken[fault]), "s") for fault, wanted in TARGETS.items()],
        NOTES,
    ).publish(options.write)


if __name__ == "__main__":
    main()
