"""A storage account that takes connections and says nothing holds up nobody for longer than the setting says."""

import asyncio

import pytest
from azure.core.exceptions import AzureError
from joblease.leases import LeaseBlobs, LeaseUnknown
from joblease.settings import AZURITE_CONNECTION_STRING, StorageSettings
from joblease.storage import Storage
from joblease.transactions import Write, submit
from pydantic import SecretStr

TIMEOUT, PATIENCE = 0.2, 5.0


class Silence(asyncio.Protocol):
    """Reads, and never answers."""


async def test_each_request_is_bounded() -> None:
    server = await asyncio.get_running_loop().create_server(Silence, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    text = AZURITE_CONNECTION_STRING.replace("10000", str(port)).replace("10002", str(port))
    settings = StorageSettings(storage_connection_string=SecretStr(text), storage_timeout_seconds=TIMEOUT)
    async with server, Storage(settings) as storage, asyncio.timeout(PATIENCE):
        with pytest.raises(LeaseUnknown):
            await LeaseBlobs(storage.locks()).acquire("session/x", 15)
        row = {"PartitionKey": "job", "RowKey": "head"}
        with pytest.raises(AzureError):
            await submit(storage.table("x"), [Write("insert", row)])
        with pytest.raises(AzureError):
            await storage.table("x").get_entity("job", "head")
