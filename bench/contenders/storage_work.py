"""A job's lease and trail by the Azure SDK alone: what a task of another library does to have what JobLease gives.

The same requests as a JobLease worker makes for a job without steps and without a group's limit: take the blob's lease,
two transactions on the trail (each an event row, and the head under If-Match), delete the blob with its lease. The rows
have the same properties, so that JobLease's own reader takes them for its own. What is left out is in favour of the
others: no renewals, no answers told apart, no retries of our own, no events.
"""

import os
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from azure.core import MatchConditions
from azure.data.tables import TableServiceClient, UpdateMode
from azure.data.tables.aio import TableServiceClient as AsyncTableServiceClient
from azure.storage.blob import BlobLeaseClient, BlobServiceClient
from azure.storage.blob.aio import BlobLeaseClient as AsyncBlobLeaseClient
from azure.storage.blob.aio import BlobServiceClient as AsyncBlobServiceClient
from joblease.storage import LOCKS_CONTAINER, TRAIL_TABLE

CONNECTION_STRING = "JOBLEASE_STORAGE_CONNECTION_STRING"
LEASE_SECONDS = 60

Job = Mapping[str, Any]
"""A `JobMessage` as it is sent."""


class Work:
    """With blocking clients; one for each thread or process."""

    def __init__(self) -> None:
        text = os.environ[CONNECTION_STRING]
        self._locks = BlobServiceClient.from_connection_string(text).get_container_client(LOCKS_CONTAINER)
        self._trail = TableServiceClient.from_connection_string(text).get_table_client(TRAIL_TABLE)

    def do(self, job: Job) -> None:
        blob = self._locks.get_blob_client(f"job/{job['jobId']}")
        lease = BlobLeaseClient(blob, lease_id=str(uuid4()))
        lease.acquire(lease_duration=LEASE_SECONDS)
        etag = self._trail.submit_transaction(started(job))[-1]["etag"]
        self._trail.submit_transaction(completed(job, etag))
        blob.delete_blob(lease=lease)


class AsyncWork:
    """With clients for one event loop."""

    def __init__(self) -> None:
        text = os.environ[CONNECTION_STRING]
        self._blobs = AsyncBlobServiceClient.from_connection_string(text)
        self._tables = AsyncTableServiceClient.from_connection_string(text)
        self._locks = self._blobs.get_container_client(LOCKS_CONTAINER)
        self._trail = self._tables.get_table_client(TRAIL_TABLE)

    async def do(self, job: Job) -> None:
        blob = self._locks.get_blob_client(f"job/{job['jobId']}")
        lease = AsyncBlobLeaseClient(blob, lease_id=str(uuid4()))
        await lease.acquire(lease_duration=LEASE_SECONDS)
        etag = (await self._trail.submit_transaction(started(job)))[-1]["etag"]
        await self._trail.submit_transaction(completed(job, etag))
        await blob.delete_blob(lease=lease)

    async def close(self) -> None:
        await self._blobs.close()
        await self._tables.close()


def started(job: Job) -> list[Any]:
    """The transaction of a claim."""
    return _transaction(job, 1, "Started", "Running", "attempt 1 of 3", job["head"]["etag"])


def completed(job: Job, etag: str) -> list[Any]:
    """The transaction of an end; `etag` is the head's after `started`."""
    return _transaction(job, 2, "Completed", "Completed", "attempt 1 completed", etag, progress=100)


def _transaction(job: Job, nth: int, status: str, state: str, message: str, etag: str, **more: Any) -> list[Any]:
    moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    sequence = job["head"]["sequence"] + nth
    worker = str(os.getpid())
    event = {
        "PartitionKey": job["jobId"],
        "RowKey": f"{sequence:010d}",
        "eventId": f"{job['jobId']}.{sequence:010d}",
        "status": status,
        "state": state,
        "timestamp": moment,
        "attempt": 1,
        "epoch": 1,
        "message": message,
        "worker": worker,
        **more,
    }
    head = {
        "PartitionKey": job["jobId"],
        "RowKey": "head",
        "namespace": job["namespace"],
        "name": job["name"],
        "handler": job["handler"],
        "queue": job["queue"],
        "group": job["group"],
        "submittedAt": job["head"]["submittedAt"],
        "state": state,
        "epoch": 1,
        "attempt": 1,
        "sequence": sequence,
        "worker": worker,
        "cancelRequested": False,
        "updatedAt": moment,
        "write": secrets.token_hex(8),
    }
    condition = {"mode": UpdateMode.REPLACE, "etag": etag, "match_condition": MatchConditions.IfNotModified}
    return [("create", event), ("update", head, condition)]
