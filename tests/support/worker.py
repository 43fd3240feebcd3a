"""A worker inside the test's own process, for tests that look into it or hold it at some point."""

import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from unittest.mock import patch

from joblease import topology
from joblease.broker import Broker
from joblease.leases import LeaseBlobs
from joblease.storage import TRAIL_TABLE, Storage
from joblease.trail import AuditTrail
from joblease_worker.consumer import Consumer
from joblease_worker.keeper import Keeper
from joblease_worker.main import _subscribe
from joblease_worker.pool import ProcessPool
from joblease_worker.session import Session
from joblease_worker.settings import WorkerSettings
from pydantic import SecretStr

from support.programs import TESTS


class Worker:
    """Its parts."""

    def __init__(self, settings: WorkerSettings, storage: Storage, broker: Broker, pool: ProcessPool) -> None:
        self.settings = settings
        self.broker = broker
        self.pool = pool
        self.trail = AuditTrail(storage.table(TRAIL_TABLE))
        blobs = LeaseBlobs(storage.locks())
        self.keeper = Keeper(settings, blobs)
        self.session = Session(settings, self.keeper, blobs)
        self.consumer = Consumer(settings, broker, self.trail, self.keeper, self.session, pool)

    async def stop(self, grace: float = 0) -> None:
        """As SIGTERM does."""
        await self.broker.stop_consuming()
        await self.consumer.drain(grace)


@asynccontextmanager
async def open_worker(amqp_url: str, storage: str, **changes: Any) -> AsyncIterator[Worker]:
    """A worker that serves a queue; `changes` are settings. Its handlers are those of `support.handlers`."""
    settings = WorkerSettings(
        amqp_url=SecretStr(amqp_url),
        storage_connection_string=SecretStr(storage),
        **{
            "worker_name": "worker-1", "lease_seconds": 15, "defer_seconds": 1, "cancel_grace_seconds": 1,
            "storage_timeout_seconds": 2, "amqp_timeout_seconds": 2, **changes,
        },
    )  # fmt: skip
    variables = {"JOBLEASE_HANDLERS": "support.handlers", "PYTHONPATH": str(TESTS)}
    async with AsyncExitStack() as stack:
        pool = ProcessPool(settings)
        stack.push_async_callback(pool.close)
        stack.enter_context(patch.dict(os.environ, variables))
        await pool.start()
        account = await stack.enter_async_context(Storage(settings))
        await account.create_tables(TRAIL_TABLE)
        broker = Broker(settings, settings.worker_name, topology.declare_exchanges)
        worker = Worker(settings, account, broker, pool)
        await worker.keeper.start()
        stack.push_async_callback(worker.keeper.close)
        stack.push_async_callback(worker.session.close)
        await worker.session.open()
        _subscribe(broker, worker.consumer, settings)
        await stack.enter_async_context(broker)
        await broker.connected()
        stack.push_async_callback(worker.stop)
        yield worker


@contextlib.contextmanager
def clock_ahead(seconds: float) -> Any:
    """Move the clock of deadlines, as a machine's sleep does."""
    from joblease.clock import boot_seconds
    from joblease_worker import keeper, locks, run, session

    with contextlib.ExitStack() as stack:
        for module in (keeper, locks, run, session):
            stack.enter_context(patch.object(module, "boot_seconds", lambda: boot_seconds() + seconds))
        yield
