"""Azure Blob leases: which workers live, and who has a slot of a concurrency group.

A lease expires by itself when its holder dies, which is why the lock lives in storage and not in any program's
memory. This module makes single requests and says what an answer *means* (held by another, lost, unknown); the
worker's keeper decides what to do about it and when.

Each job takes a lease and gives it back. The SDK makes a client for each blob and reads every header of each answer,
which takes more than a third of such a request's processor time. So these requests are made here, and only they:
signing, timeouts and connections stay with the SDK (`pipeline`).

Their format: https://learn.microsoft.com/rest/api/storageservices/lease-blob
"""

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import uuid4

from azure.core.exceptions import (
    AzureError,
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.core.rest import HttpRequest

from joblease.errors import ErrorClass, TransientError, classify
from joblease.pipeline import send

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Mapping

    from azure.storage.blob.aio import ContainerClient


JOBS_PAGE = 200
"""Blobs of one answer: the SDK reads its XML in one go, 0.2 ms a blob, and nothing else runs meanwhile."""


class LeaseHeld(Exception):
    """Somebody else holds the lease."""


class LeaseMissing(Exception):
    """There is no such blob."""


class LeaseLost(Exception):
    """Storage says that this lease is no longer ours."""


class LeaseUnknown(TransientError):
    """Storage did not answer, or failed: the lease may or may not be ours."""


def session_blob(session: str) -> str:
    """Name of the blob whose lease a worker holds as long as it may run jobs."""
    return f"session/{session}"


def job_blob(job_id: str) -> str:
    """Name of the blob that a job had in releases up to 0.1, whose worker leased it."""
    return f"job/{job_id}"


def slot_blob(group: str, slot: int) -> str:
    """Name of the blob whose lease is one of a group's slots."""
    return f"group/{group}/{slot}"


@dataclass(frozen=True, slots=True)
class Grant:
    """A lease as storage gave it to us."""

    blob: str
    """The blob's name."""
    lease_id: str


def session_grant(session: str) -> Grant:
    """A session's lease. Its id is known, so that whoever knows the session dead can give it back."""
    return Grant(session_blob(session), session.rpartition("/")[2])


class LeaseBlobs:
    """Requests on the container `job-locks`. None is retried here."""

    def __init__(self, container: "ContainerClient") -> None:
        self._container = container

    async def create(self, blob: str, metadata: "Mapping[str, str]") -> bool:
        """Create the blob that will be leased. False when it was there already.

        Raises `LeaseUnknown` when the container was missing, which is there for the next try, and storage's errors.
        """
        try:
            await self._container.get_blob_client(blob).upload_blob(
                b"", overwrite=False, metadata=dict(metadata), validate_content=False
            )
        except (ResourceExistsError, ResourceModifiedError):
            return False
        except ResourceNotFoundError:  # somebody has deleted it, which is no job's fault
            with contextlib.suppress(ResourceExistsError):  # Azure takes half a minute to delete one
                await self._container.create_container()
            raise LeaseUnknown(f"{blob}: the container of the leases was missing") from None
        return True

    async def acquire(self, blob: str, seconds: int, lease_id: str = "") -> Grant:
        """Take the lease. Raises `LeaseHeld`, `LeaseMissing`, `LeaseUnknown`, or the error itself when it is permanent.

        `lease_id` is that of a try whose answer was lost: storage grants a lease to the same id again, for its whole
        length. https://learn.microsoft.com/rest/api/storageservices/lease-blob#outcomes-of-lease-operations-on-blobs-by-lease-state
        """
        grant = Grant(blob, lease_id or str(uuid4()))
        wanted = {"x-ms-lease-duration": str(seconds), "x-ms-proposed-lease-id": grant.lease_id}
        try:
            await self._lease(blob, "acquire", wanted)
        except HttpResponseError as error:
            if error.status_code == 404:
                raise LeaseMissing(blob) from None
            if error.status_code in (409, 412):
                raise LeaseHeld(blob) from None
            if classify(error) is ErrorClass.PERMANENT:
                raise
            raise LeaseUnknown(f"{blob}: {_reason(error)}") from error
        except AzureError as error:
            raise LeaseUnknown(f"{blob}: {_reason(error)}") from error
        return grant

    async def renew(self, grant: Grant) -> None:
        """Extend the lease by its duration. Raises `LeaseLost` or `LeaseUnknown`."""
        await self._as_holder(grant, self._lease(grant.blob, "renew", {"x-ms-lease-id": grant.lease_id}))

    async def describe(self, grant: Grant, metadata: "Mapping[str, str]") -> None:
        """Write into the blob who holds it. Raises `LeaseLost` or `LeaseUnknown`."""
        client = self._container.get_blob_client(grant.blob)
        await self._as_holder(grant, client.set_blob_metadata(dict(metadata), lease=grant.lease_id))

    async def release(self, grant: Grant, *, delete: bool = False) -> None:
        """Give the lease back, or delete the blob with it. Raises `LeaseLost` or `LeaseUnknown`.

        Nobody has to: the lease ends by itself.
        """
        held = {"x-ms-lease-id": grant.lease_id}
        request = self._send("DELETE", grant.blob, held) if delete else self._lease(grant.blob, "release", held)
        await self._as_holder(grant, request)

    async def give_back(self, slot: Grant | None) -> None:
        """Release what a dead run held, if it held a slot. What storage does not take now ends by itself."""
        if slot:
            with contextlib.suppress(LeaseLost, LeaseUnknown):
                await self.release(slot)

    async def holder(self, blob: str) -> "Mapping[str, str] | None":
        """What the present holder wrote about itself, or None when nobody holds the lease."""
        try:
            properties = await self._container.get_blob_client(blob).get_blob_properties()
        except ResourceNotFoundError:
            return None
        return properties.metadata if properties.lease.state == "leased" else None

    async def jobs(self) -> "AsyncIterator[tuple[str, Mapping[str, str]]]":
        """Each job that has a blob, of releases up to 0.1: its id, and what the blob says."""
        async for blob in self._container.list_blobs(
            name_starts_with=job_blob(""), include=["metadata"], results_per_page=JOBS_PAGE
        ):
            yield blob.name.removeprefix(job_blob("")), blob.metadata or {}

    async def sessions(self, identity: str = "") -> "AsyncIterator[tuple[str, bool]]":
        """The sessions that workers have, or have left: each one's name, and whether somebody holds its lease.

        Those of one identity, or all.
        """
        prefix = session_blob(f"{identity}/" if identity else "")
        async for blob in self._container.list_blobs(name_starts_with=prefix, results_per_page=JOBS_PAGE):
            yield blob.name.removeprefix(session_blob("")), blob.lease.state == "leased"

    async def close_sessions(self, identity: str) -> list[str]:
        """Close all sessions of an identity, whose workers are dead: their jobs can be taken over. The sessions' names.

        Raises `LeaseUnknown` when one cannot be closed yet, and what goes wrong with storage.
        """
        closed = []
        async for name, _ in self.sessions(identity):
            try:
                await self.release(session_grant(name), delete=True)
            except (LeaseLost, LeaseUnknown):  # its lease has expired, or the answer was lost
                if not await self.discard(session_blob(name)):
                    raise LeaseUnknown(f"session {name} of a dead worker cannot be closed yet") from None
            closed.append(name)
        return closed

    async def slots(self, group: str = "") -> "AsyncIterator[tuple[str, str]]":
        """The blobs of a group's slots, or of all: each with its group."""
        prefix = slot_blob(group, 0).removesuffix("0") if group else "group/"
        async for name in self._container.list_blob_names(name_starts_with=prefix, results_per_page=JOBS_PAGE):
            yield name.split("/")[1], name

    async def discard(self, blob: str) -> bool:
        """Delete a blob unless somebody leases it. True when it has gone: then its lease can never be renewed again.

        (Storage renews a lease that has expired as long as the blob is there and nobody else has taken it.)
        """
        try:
            await self._container.delete_blob(blob)
        except HttpResponseError as error:  # the SDK has no class of its own for 412 here
            if error.status_code not in (404, 409, 412):
                raise
            return error.status_code == 404
        return True

    def _lease(self, blob: str, action: str, headers: "Mapping[str, str]") -> "Awaitable[None]":
        return self._send("PUT", blob, {"x-ms-lease-action": action, **headers}, "comp=lease")

    async def _send(self, method: str, blob: str, headers: "Mapping[str, str]", query: str = "") -> None:
        """One request about a blob. Raises `HttpResponseError` when storage refuses it, `AzureError` without answer."""
        container = self._container
        url, _, token = container.url.partition("?")  # with a shared access signature, if the connection string has one
        request = HttpRequest(
            method,
            f"{url}/{quote(blob)}?{'&'.join(filter(None, (query, token)))}",
            headers={"x-ms-version": container.api_version, "Accept": "application/xml", **headers},
        )
        response = await send(container, request)
        if response.status_code >= 300:
            raise HttpResponseError(response.headers.get("x-ms-error-code") or response.reason, response=response)

    async def _as_holder(self, grant: Grant, request: Any) -> None:
        try:
            await request
        except HttpResponseError as error:
            if error.status_code in (404, 409, 412):
                raise LeaseLost(f"{grant.blob}: {_reason(error)}") from None
            raise LeaseUnknown(f"{grant.blob}: {_reason(error)}") from error
        except AzureError as error:
            raise LeaseUnknown(f"{grant.blob}: {_reason(error)}") from error


def _reason(error: AzureError) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
