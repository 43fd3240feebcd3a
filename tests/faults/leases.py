"""What happens to leases without JobLease's doing: an administrator breaks one, storage restarts and must keep one."""

import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress

from azure.core.exceptions import AzureError, ResourceExistsError
from azure.storage.blob.aio import BlobLeaseClient, BlobServiceClient
from joblease.settings import StorageSettings
from joblease.storage import Storage
from pydantic import SecretStr

CANARIES = "canaries"
CANARY_SECONDS = 60


async def break_one(connection_string: str) -> bool:
    """Break a lease that somebody holds, as an administrator might: for others it is free when its time is over.

    A break period of 0 frees it at once, under a living handler: docs/guarantee.md excepts that.
    """
    async with _storage(connection_string) as storage:
        with suppress(AzureError):
            async for blob in storage.locks().list_blobs():
                if blob.lease.state == "leased" and blob.name.startswith(("session/", "group/")):
                    client = storage.locks().get_blob_client(blob.name)
                    await BlobLeaseClient(client).break_lease()
                    return True
    return False


async def outlives(connection_string: str, restart: Callable[[], Awaitable[object]]) -> bool:
    """Whether a lease that was granted just before the restart holds after it."""
    async with BlobServiceClient.from_connection_string(connection_string) as account:
        canaries = account.get_container_client(CANARIES)
        with suppress(ResourceExistsError):
            await canaries.create_container()
        canary = canaries.get_blob_client(secrets.token_hex(8))
        await canary.upload_blob(b"")
        await BlobLeaseClient(canary).acquire(CANARY_SECONDS)
        await restart()
        return (await canary.get_blob_properties()).lease.state == "leased"


def _storage(connection_string: str) -> Storage:
    return Storage(StorageSettings(storage_connection_string=SecretStr(connection_string)))
