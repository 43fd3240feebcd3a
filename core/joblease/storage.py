"""Connections to Azure Blob and Table storage.

One place decides credentials, timeouts and retries, and counts every request: requests are what a job costs, so each
program exports them and the tests hold them to a budget.
"""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Self
from urllib.request import getproxies

from azure.core.exceptions import AzureError, ResourceExistsError, ServiceRequestError
from azure.core.pipeline.transport import AioHttpTransport
from azure.data.tables.aio import TableServiceClient
from azure.storage.blob.aio import BlobServiceClient

from joblease.errors import TransientError, log_level
from joblease.metrics import STORAGE_REQUESTS

if TYPE_CHECKING:
    from azure.core.pipeline.transport import AsyncHttpTransport
    from azure.data.tables.aio import TableClient
    from azure.identity.aio import DefaultAzureCredential
    from azure.storage.blob.aio import ContainerClient

    from joblease.settings import StorageSettings

TRAIL_TABLE = "JobAuditTrail"
OPEN_TABLE = "JobOpen"
KEYS_TABLE = "JobKeys"
INDEX_TABLE = "JobIndex"
FEED_TABLE = "JobFeed"
STATS_TABLE = "JobStats"
ACTIONS_TABLE, ACTION_FEED_TABLE = "JobActions", "JobActionFeed"
SESSIONS_TABLE = "JobSessions"
LOCKS_CONTAINER = "job-locks"
RETRY_SECONDS = 2.0
log = logging.getLogger(__name__)

# The SDK gives each request a uuid1. libuuid makes those with nine system calls, under a file lock of the whole
# machine: a process that is stopped in that moment stops the event loops of all others. A random id needs neither.
uuid.uuid1 = lambda node=None, clock_seq=None: uuid.uuid4()  # noqa: ARG005


class CountingTransport(AioHttpTransport):  # type: ignore[misc] # azure-core loads it lazily, so mypy sees Any
    """Counts what is really sent, the SDK's own retries included."""

    def __init__(self, service: str, timeout: float) -> None:
        """`timeout`, in seconds, bounds connecting and each wait for an answer: clients hand theirs to no transport."""
        # Without proxies there is nothing to learn from the environment, and aiohttp reads ~/.netrc for each request.
        super().__init__(connection_timeout=timeout, read_timeout=timeout, use_env_settings=bool(getproxies()))
        self._service = service

    async def send(self, request: Any, **config: Any) -> Any:
        """Send one HTTP request."""
        operation = "batch" if request.url.endswith("$batch") else request.method.lower()
        STORAGE_REQUESTS.labels(self._service, operation).inc()
        try:
            return await super().send(request, **config)
        except AssertionError as error:  # aiohttp's word for a kept connection that was cut in this very moment
            raise ServiceRequestError("the connection to storage was lost") from error


async def once_storage_works(prepare: Callable[[], Awaitable[None]]) -> None:
    """Prepare what a program needs, as soon as storage answers: until then the program is not ready, and goes on."""
    while True:
        try:
            await prepare()
        except (AzureError, TransientError) as error:
            log.log(log_level(error), "storage cannot be used yet, next try in %.0f s: %s", RETRY_SECONDS, error)
            await asyncio.sleep(RETRY_SECONDS)
        else:
            return


class Storage:
    """The account's clients, for one event loop. Use as an async context manager."""

    def __init__(self, settings: "StorageSettings") -> None:
        timeout = settings.storage_timeout_seconds
        urls = settings.account_urls()
        self._credential = _identity() if urls else None
        # A blob request is never retried by the SDK: the keeper of a lease must know at once and decides itself.
        blob_options: dict[str, Any] = _options("blob", timeout, retries=0)
        table_options: dict[str, Any] = _options("table", timeout, retries=3)
        if urls and self._credential:
            self.blobs = BlobServiceClient(urls[0], credential=self._credential, **blob_options)
            self._tables = TableServiceClient(endpoint=urls[1], credential=self._credential, **table_options)
        else:
            text = settings.connection_string()
            self.blobs = BlobServiceClient.from_connection_string(text, **blob_options)
            self._tables = TableServiceClient.from_connection_string(text, **table_options)

    def table(self, name: str) -> "TableClient":
        """A client for one table."""
        return self._tables.get_table_client(name)

    def locks(self) -> "ContainerClient":
        """A client for the container that holds the lease blobs."""
        return self.blobs.get_container_client(LOCKS_CONTAINER)

    async def create_tables(self, *names: str) -> None:
        """Create the tables that are missing."""
        for name in names:
            await self._tables.create_table_if_not_exists(name)

    async def delete_tables(self, *names: str) -> None:
        """Delete tables. Azure takes about a minute; until then they cannot be created."""
        for name in names:
            await self._tables.delete_table(name)

    async def create_locks(self) -> None:
        """Create the container of the lease blobs if it is missing."""
        try:
            await self.locks().create_container()
        except ResourceExistsError:
            return

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self.blobs.close()
        await self._tables.close()
        if self._credential:
            await self._credential.close()


def _identity() -> "DefaultAzureCredential":
    from azure.identity.aio import DefaultAzureCredential  # megabytes, for those only who use identities

    return DefaultAzureCredential()


def _options(service: str, timeout: float, retries: int) -> dict[str, Any]:
    transport: AsyncHttpTransport[Any, Any] = CountingTransport(service, timeout)
    return {
        "transport": transport,
        "retry_total": retries,
        "retry_backoff_factor": 0.2,
        "logging_enable": False,
    }
