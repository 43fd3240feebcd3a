"""`joblease-worker`: starts the parts in order, and stops them in the reverse order."""

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from joblease import logs, topology
from joblease.broker import Broker, Subscription
from joblease.leases import LeaseBlobs
from joblease.metrics import set_build_info
from joblease.probes import Probes
from joblease.settings import argument_parser, load
from joblease.storage import TRAIL_TABLE, Storage, once_storage_works
from joblease.topology import CONTROL
from joblease.trail import AuditTrail

from joblease_worker import linux
from joblease_worker.commands import BadCommands, read
from joblease_worker.consumer import Consumer
from joblease_worker.keeper import Keeper
from joblease_worker.pool import ProcessPool, StartFailed
from joblease_worker.reporter import Reporter
from joblease_worker.session import Session
from joblease_worker.settings import WorkerSettings

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractQueue

log = logging.getLogger(__name__)


async def work(settings: WorkerSettings) -> None:
    """Serve the queue until SIGTERM or SIGINT. Raises `StartFailed` when the handlers cannot be imported."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        problems = ["starting"]
        broker = Broker(settings, f"joblease-worker {settings.worker_name}", topology.declare_exchanges, patient=True)
        watched: list[Broker | Keeper] = [broker]
        probes = Probes(
            settings, lambda: [*problems, *filter(None, (each.problem for each in watched))], dead=broker.dead
        )
        stack.callback(probes.close)
        pool = ProcessPool(settings)
        stack.push_async_callback(pool.close)
        await pool.start()
        log.info("handlers: %s", ", ".join(pool.handlers) or "none")
        storage = await stack.enter_async_context(Storage(settings))
        blobs = LeaseBlobs(storage.locks())
        keeper = Keeper(settings, blobs)
        session = Session(settings, keeper, blobs)

        async def prepare() -> None:
            await storage.create_tables(TRAIL_TABLE)
            await keeper.start()

        if not await _until(stop, once_storage_works(prepare)):
            return
        stack.push_async_callback(keeper.close)
        stack.push_async_callback(session.close)
        if not await _until(stop, once_storage_works(session.open)):
            return
        watched.append(keeper)
        consumer = Consumer(settings, broker, AuditTrail(storage.table(TRAIL_TABLE)), keeper, session, pool)
        _subscribe(broker, consumer, settings)
        await stack.enter_async_context(broker)
        problems.clear()
        await _until(stop, broker.connected())
        log.info("serving queue %s", settings.worker_queue)
        reporter = Reporter(settings, broker, consumer, pool)
        reporting = asyncio.create_task(reporter.run(), name="reporter")
        await stop.wait()
        reporting.cancel()
        problems.append("shutting down")
        await broker.stop_consuming()
        if broker.problem is None:
            await reporter.report("draining")
        await consumer.drain(settings.drain_grace_seconds)
        if broker.problem is None:
            await reporter.report("stopped")


def _subscribe(broker: Broker, consumer: Consumer, settings: WorkerSettings) -> None:
    async def jobs(channel: "AbstractChannel") -> "AbstractQueue":
        return await topology.declare_pool(channel, settings.worker_queue, settings)

    async def control(channel: "AbstractChannel") -> "AbstractQueue":
        return await topology.declare_private(channel, CONTROL)

    broker.subscribe(Subscription(control, consumer.on_control, prefetch=100, keep=True))
    broker.subscribe(Subscription(jobs, consumer.on_job, prefetch=settings.worker_concurrency))


async def _until(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do the work unless it is time to stop. True when the work was done."""
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    done, pending = await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.wait(pending)
    if working not in done:
        return False
    working.result()
    return True


def main() -> None:
    """Entry point of `joblease-worker`."""
    argument_parser(WorkerSettings, "joblease-worker", "Run the jobs of one queue, each under a lease.").parse_args()
    settings = load(WorkerSettings)
    logs.configure(settings, "worker")
    set_build_info("worker")
    if settings.commands:
        try:
            read(
                settings.commands
            )  # here, where it can be said as a program's last word; handler processes read it, too
        except BadCommands as error:
            sys.exit(f"joblease-worker: {error}")
    linux.adopt_orphans()  # what handler processes leave when they die
    linux.hide_memory()  # it holds the keys to broker and storage, and handlers are of the same user
    gc.collect()
    gc.freeze()  # what was imported stays: the collector would hold up everybody with it, once in a thousand jobs
    try:
        asyncio.run(work(settings))
    except StartFailed as error:
        sys.exit(f"joblease-worker: {error}")
