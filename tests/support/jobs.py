"""The operator's side of a job, for tests of the worker alone: written with the same trail, blobs and broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from azure.storage.blob.aio import BlobLeaseClient
from joblease import topology
from joblease.broker import Broker
from joblease.head import Head, hint_of
from joblease.keys import Keys
from joblease.leases import Grant, LeaseBlobs, job_blob
from joblease.messages import ControlMessage, JobEvent, JobMessage, Status, now
from joblease.settings import BrokerSettings, StorageSettings
from joblease.states import State
from joblease.storage import KEYS_TABLE, OPEN_TABLE, TRAIL_TABLE, Storage
from joblease.topology import CONTROL
from joblease.trail import AuditTrail, NewEvent
from joblease_operator.open_jobs import OpenJobs
from pydantic import SecretStr


class Jobs:
    """Submits jobs and watches their trail."""

    def __init__(self, storage: Storage, broker: Broker) -> None:
        self.storage = storage
        self.broker = broker
        self.trail = AuditTrail(storage.table(TRAIL_TABLE))
        self.blobs = LeaseBlobs(storage.locks())
        self.open_jobs = OpenJobs(storage.table(OPEN_TABLE))
        self.keys = Keys(storage.table(KEYS_TABLE))

    async def submit(self, handler: str, *, publish: bool = True, queue: str = "default", **fields: Any) -> JobMessage:
        """Submit a job as the operator does; `fields` are those of `JobMessage`, in snake case."""
        job_id = str(uuid4())
        fields = {"name": f"{handler}-{job_id[:5]}", "group": "default", "limit": 1, "slot": 0, **fields}
        head = Head(job_id, "default", str(fields["name"]), handler, queue, str(fields["group"]), now())
        head, _ = await self.trail.append(
            head, [NewEvent(Status.SUBMITTED, state=State.SUBMITTED), NewEvent(Status.QUEUED)], state=State.QUEUED
        )
        hint = hint_of(head)
        message = JobMessage(job_id=job_id, namespace="default", handler=handler, queue=queue, head=hint, **fields)
        if publish:
            await self.publish(message)
        return message

    async def publish(self, message: JobMessage, **headers: Any) -> None:
        await self.broker.publish(
            topology.JOBS, message.queue, message.encode(), message_id=message.message_id(1), headers=headers
        )

    async def cancel(self, job_id: str) -> None:
        """Order the workers to stop a job."""
        order = ControlMessage(order="cancel", job_id=job_id)
        await self.broker.publish(CONTROL, "", order.encode(), message_id=job_id)

    async def break_session(self, job_id: str) -> None:
        """Take the lease away from the worker that runs a job, as an administrator can."""
        await self.break_lease((await self.trail.head(job_id)).claim_blob)

    async def break_lease(self, blob: str) -> None:
        """Take a lease away from its holder, as an administrator can."""
        client = BlobLeaseClient(self.storage.locks().get_blob_client(blob))
        await client.break_lease(lease_break_period=0)

    async def hold(self, job_id: str) -> Grant:
        """Lease a job as a worker of release 0.1 does."""
        await self.blobs.create(job_blob(job_id), {})
        return await self.blobs.acquire(job_blob(job_id), 60)

    async def is_held(self, job_id: str) -> bool:
        """Whether a worker holds what a job was claimed under."""
        return await self.blobs.holder((await self.trail.head(job_id)).claim_blob) is not None

    async def is_listed(self, job_id: str) -> bool:
        """Whether the operator's list of open jobs has it."""
        return job_id in [listed async for listed, _, _ in self.open_jobs.everything()]

    async def reaches(self, job_id: str, *states: State, timeout: float = 30) -> Head:
        """Wait until the job is in one of the states."""
        async with asyncio.timeout(timeout):
            while (head := await self.trail.head(job_id)).state not in states:
                await asyncio.sleep(0.05)
        return head

    async def outcome(self, job_id: str, timeout: float = 30) -> tuple[State, list[JobEvent]]:
        """Wait for the job's end; its state and whole history."""
        head = await self.reaches(job_id, *(state for state in State if state.terminal), timeout=timeout)
        return head.state, await self.trail.history(job_id)


@asynccontextmanager
async def open_jobs(amqp_url: str, connection_string: str) -> AsyncIterator[Jobs]:
    """Jobs on this broker and this storage account."""
    settings = BrokerSettings(amqp_url=SecretStr(amqp_url))

    async def prepare(channel: Any) -> None:
        await topology.declare_exchanges(channel)
        await topology.declare_pool(channel, "default", settings.model_copy(update={"defer_seconds": 1}))

    async with (
        Storage(StorageSettings(storage_connection_string=SecretStr(connection_string))) as storage,
        Broker(settings, "tests", prepare) as broker,
    ):
        await storage.create_tables(TRAIL_TABLE, OPEN_TABLE, KEYS_TABLE)
        await storage.create_locks()
        await asyncio.wait_for(broker.connected(), 20)
        yield Jobs(storage, broker)
