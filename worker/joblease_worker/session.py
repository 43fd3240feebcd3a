"""The worker's session: one lease of its own, under which it claims jobs, and which proves that they are over.

A claim in a job's head names the session. As long as that is held, its worker may run the job; when it is not, whoever
finds the claim deletes the session's blob, so that the lease can never be renewed again, and takes the job over. A
session that was lost is never taken again: the next claim is made under a new one.
"""

import asyncio
import logging
from typing import TYPE_CHECKING
from uuid import uuid4

from joblease.clock import boot_seconds
from joblease.leases import LeaseBlobs, session_grant

if TYPE_CHECKING:
    from joblease.head import Head

    from joblease_worker.keeper import Keeper, Lease
    from joblease_worker.settings import WorkerSettings

log = logging.getLogger(__name__)


class Session:
    """`open` it before the first job, `close` it after the last."""

    def __init__(self, settings: "WorkerSettings", keeper: "Keeper", blobs: LeaseBlobs) -> None:
        self._identity = settings.worker_identity
        self._worker = settings.worker_name
        self._seconds = settings.storage_timeout_seconds
        self._keeper = keeper
        self._blobs = blobs
        self._lease: Lease | None = None
        self._name = ""
        self._taking = asyncio.Lock()

    async def open(self) -> None:
        """Close what predecessors of the same identity have left, who are dead, and take the first lease.

        Raises what goes wrong with storage.
        """
        if self._identity:
            for name in await self._blobs.close_sessions(self._identity):
                log.warning("session %s of this worker's predecessor is closed: its jobs can be taken over", name)
        await self.lease()

    async def close(self) -> None:
        """Give the lease back. Raises nothing; ends after the storage timeout."""
        if self._lease:
            await self._keeper.release(self._lease, delete=True)

    async def lease(self) -> "tuple[str, Lease]":
        """The session's name and lease; those of a new one when it was lost. Raises `LeaseUnknown`."""
        async with self._taking:
            if self._lease is None or not self._lease.ours or self._lease.deadline <= boot_seconds():
                name = f"{self._identity}/{uuid4()}" if self._identity else str(uuid4())
                grant = session_grant(name)
                self._lease = await self._keeper.acquire(grant.blob, {"worker": self._worker}, lease_id=grant.lease_id)
                self._name = name
            return self._name, self._lease

    async def is_over(self, head: "Head") -> bool:
        """Whether nobody runs a job under the claim in its head, nor ever will again; gives back the slot of that run.

        For jobs that this worker has not in hand: then a claim of its own session is over, too. Raises `AzureError`,
        `TimeoutError`.
        """
        async with asyncio.timeout(self._seconds):
            ours = bool(head.session) and head.session == self._name
            if not ours and not await self._blobs.discard(head.claim_blob):
                return False
            await self._blobs.give_back(head.slot)
            return True
