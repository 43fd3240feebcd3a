"""Azure storage, as far as JobLease uses it: rows of tables with ETags, blobs with leases on storage's own clock.

`tests/integration/test_simulated_services.py` holds it to Azurite with the same table of requests and answers.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from azure.core.exceptions import (
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
    ServiceResponseError,
)
from joblease.leases import Grant, LeaseBlobs, LeaseHeld, LeaseLost, LeaseMissing, LeaseUnknown
from joblease.storage import TRAIL_TABLE
from joblease.transactions import Write

from simulation.loop import Program, VirtualLoop
from simulation.network import Network, NoAnswer, Refused

T = TypeVar("T")
Rows = dict[str, dict[str, tuple[dict[str, Any], str]]]
"""Values and ETag, by partition and key."""
SERVICE = "storage"
RETRIES = 2
"""Of the SDK's pipeline, for tables; leases are asked for once."""


class Row(dict[str, Any]):
    """A row as the SDK gives it."""

    metadata: dict[str, Any]


@dataclass(slots=True)
class Blob:
    """A blob without content, and its lease."""

    metadata: dict[str, str]
    lease_id: str = ""
    duration: float = 0
    until: float = 0


def _error(status: int) -> HttpResponseError:
    kind = {404: ResourceNotFoundError, 409: ResourceExistsError}.get(status, HttpResponseError)
    error = kind(f"simulated {status}")
    error.status_code = status
    return error


class Storage:
    """What an account holds. Each method is one request, done at one moment."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._etags = 0
        self.tables: dict[str, Rows] = defaultdict(lambda: defaultdict(dict))
        self.written_at: dict[tuple[str, str], float] = {}
        """When each row of the trail was there, by the one true clock."""
        self.blobs: dict[str, Blob] = {}
        self.on_write: Callable[[Program, Sequence[Write]], None] = lambda _writer, _writes: None
        """Told of each transaction of the trail, when it has taken effect."""
        self.on_answer: Callable[[Program, Sequence[Write]], None] = lambda _writer, _writes: None
        """Told of it when its writer knows."""

    @property
    def rows(self) -> "Rows":
        """The trail's."""
        return self.tables[TRAIL_TABLE]

    # Tables

    def submit(self, writes: Sequence[Write], table: str = TRAIL_TABLE) -> list[str]:
        """All or none; the new ETags."""
        rows = self.tables[table]
        changed: dict[tuple[str, str], tuple[dict[str, Any], str]] = {}
        gone: list[tuple[str, str]] = []
        for write in writes:
            place = write.row["PartitionKey"], write.row["RowKey"]
            present = rows[place[0]].get(place[1])
            if write.kind == "insert" and present:
                raise _error(409)
            if write.etag and not present:
                raise _error(404)
            if write.etag not in (None, "*", "") and present and present[1] != write.etag:
                raise _error(412)
            if write.kind == "delete":
                if not present:
                    raise _error(404)
                gone.append(place)
                continue
            self._etags += 1
            row = {**present[0], **write.row} if write.kind == "merge" and present else dict(write.row)
            changed[place] = row, f'W/"{self._etags}"'
        for partition, key in gone:
            del rows[partition][key]
        for (partition, key), value in changed.items():
            rows[partition][key] = value
            if table == TRAIL_TABLE:
                self.written_at[partition, key] = self._loop.real
        return [etag for _, etag in changed.values()]

    def get(self, partition: str, key: str, table: str = TRAIL_TABLE) -> Row:
        """One row."""
        found = self.tables[table][partition].get(key)
        if not found:
            raise _error(404)
        return _row(found)

    def query(self, partition: str, after: str = "", table: str = TRAIL_TABLE) -> list[Row]:
        """The rows of a partition with a greater key."""
        return [_row(value) for key, value in sorted(self.tables[table][partition].items()) if key > after]

    # Blobs

    def leased(self, blob: Blob) -> bool:
        """Whether somebody holds it."""
        return bool(blob.lease_id) and blob.until > self._loop.real

    def create(self, name: str, metadata: Mapping[str, str]) -> None:
        """A new blob."""
        if blob := self.blobs.get(name):
            raise _error(412 if self.leased(blob) else 409)
        self.blobs[name] = Blob(dict(metadata))

    def acquire(self, name: str, seconds: float, lease_id: str) -> None:
        """The lease, or again the one of this id."""
        blob = self._blob(name)
        if self.leased(blob) and blob.lease_id != lease_id:
            raise _error(409)
        blob.lease_id, blob.duration, blob.until = lease_id, seconds, self._loop.real + seconds

    def renew(self, name: str, lease_id: str) -> None:
        """Also one that has expired, as long as nobody else took it."""
        blob = self._held(name, lease_id)
        blob.until = self._loop.real + blob.duration

    def describe(self, name: str, lease_id: str, metadata: Mapping[str, str]) -> None:
        """Set the metadata."""
        blob = self._held(name, lease_id)
        if not self.leased(blob):
            raise _error(412)
        blob.metadata = dict(metadata)

    def release(self, name: str, lease_id: str) -> None:
        """Give it back."""
        blob = self._held(name, lease_id)
        blob.lease_id = ""

    def break_lease(self, name: str) -> None:
        """Its holder cannot renew it, and others cannot take it, until its time is over."""
        self._blob(name).lease_id = "broken"

    def delete(self, name: str, lease_id: str = "") -> None:
        """With the lease, or when nobody has it."""
        blob = self._blob(name)
        if self.leased(blob) and blob.lease_id != lease_id:
            raise _error(412)
        if lease_id and not self.leased(blob):
            raise _error(412)
        del self.blobs[name]

    def holder(self, name: str) -> dict[str, str] | None:
        """What is written in a leased blob."""
        blob = self._blob(name)
        return dict(blob.metadata) if self.leased(blob) else None

    def listing(self, prefix: str) -> list[tuple[str, dict[str, str], bool]]:
        """Names, metadata, and whether leased."""
        found = sorted((name, blob) for name, blob in self.blobs.items() if name.startswith(prefix))
        return [(name, dict(blob.metadata), self.leased(blob)) for name, blob in found]

    def _blob(self, name: str) -> Blob:
        if name not in self.blobs:
            raise _error(404)
        return self.blobs[name]

    def _held(self, name: str, lease_id: str) -> Blob:
        blob = self._blob(name)
        if blob.lease_id != lease_id:
            raise _error(409)
        return blob


def _row(found: tuple[dict[str, Any], str]) -> Row:
    row = Row(found[0])
    row.metadata = {"etag": found[1]}
    return row


class Account:
    """Storage as one program reaches it: raises what the SDK raises."""

    def __init__(self, storage: Storage, network: Network, program: Program, timeout: float) -> None:
        self._storage = storage
        self._network = network
        self.program = program
        self._timeout = timeout

    async def ask(self, what: str, act: Callable[[], T], retries: int = 0) -> T:
        """One request, with the retries of the SDK's pipeline."""
        for attempt in range(retries + 1):
            try:
                return await self._network.ask(self.program, SERVICE, what, act, self._timeout)
            except NoAnswer as error:
                if attempt == retries:
                    raise ServiceResponseError(str(error)) from None
            except Refused as refused:
                if attempt == retries:
                    raise _error(refused.status) from None
            await asyncio.sleep(0.2 * 2**attempt)
        raise AssertionError

    def table(self, name: str = TRAIL_TABLE) -> "Table":
        """A `TableClient`."""
        return Table(self, self._storage, name)

    def blobs(self) -> "Blobs":
        """A `LeaseBlobs`."""
        return Blobs(self, self._storage)


class Table:
    """What the audit trail and the read model's writers use of `TableClient`, and `submit`."""

    def __init__(self, account: Account, storage: Storage, name: str) -> None:
        self._account = account
        self._storage = storage
        self._name = name

    async def submit(self, writes: Sequence[Write]) -> list[str]:
        """As `joblease.transactions.submit`."""
        if self._name == TRAIL_TABLE:
            what = (
                f"write {writes[0].row['PartitionKey']} {' '.join(each.row.get('status', 'head') for each in writes)}"
            )
        else:
            what = f"write {self._name} {' '.join(each.kind + ' ' + each.row['RowKey'][-40:] for each in writes)}"

        def act() -> list[str]:
            etags = self._storage.submit(writes, self._name)
            if self._name == TRAIL_TABLE:
                self._storage.on_write(self._account.program, writes)
            return etags

        etags = await self._account.ask(what, act, RETRIES)
        if self._name == TRAIL_TABLE:
            self._storage.on_answer(self._account.program, writes)
        return etags

    async def get_entity(self, partition_key: str, row_key: str, **_: Any) -> Row:
        """One row."""
        what = f"read {partition_key} {row_key}"
        return await self._account.ask(what, lambda: self._storage.get(partition_key, row_key, self._name), RETRIES)

    async def query_entities(self, _query: str, *, parameters: Mapping[str, str], **_: Any) -> AsyncIterator[Row]:
        """The trail's queries, and that of the open jobs."""
        partition, after = parameters.get("job") or parameters["partition"], parameters.get("after", "")
        last = parameters.get("last", "~")
        what = f"query {self._name} {partition} {after}"
        for row in await self._account.ask(what, lambda: self._storage.query(partition, after, self._name), RETRIES):
            if row["RowKey"] <= last:
                yield row


class Blobs:
    """As `joblease.leases.LeaseBlobs`."""

    def __init__(self, account: Account, storage: Storage) -> None:
        self._account = account
        self._storage = storage

    async def create(self, blob: str, metadata: Mapping[str, str]) -> bool:
        """See `LeaseBlobs`."""
        try:
            await self._account.ask(f"create {blob}", lambda: self._storage.create(blob, metadata), RETRIES)
        except HttpResponseError as error:
            if error.status_code in (409, 412):
                return False
            raise
        return True

    async def acquire(self, blob: str, seconds: int, lease_id: str = "") -> Grant:
        """See `LeaseBlobs`."""
        try:
            await self._account.ask(f"acquire {blob}", lambda: self._storage.acquire(blob, seconds, lease_id))
        except HttpResponseError as error:
            if error.status_code == 404:
                raise LeaseMissing(blob) from None
            if error.status_code in (409, 412):
                raise LeaseHeld(blob) from None
            raise LeaseUnknown(blob) from error
        except ServiceResponseError as error:
            raise LeaseUnknown(blob) from error
        return Grant(blob, lease_id)

    async def renew(self, grant: Grant) -> None:
        """See `LeaseBlobs`."""
        await self._as_holder(grant, f"renew {grant.blob}", lambda: self._storage.renew(grant.blob, grant.lease_id))

    async def describe(self, grant: Grant, metadata: Mapping[str, str]) -> None:
        """See `LeaseBlobs`."""
        blob, lease_id = grant.blob, grant.lease_id
        await self._as_holder(grant, f"describe {blob}", lambda: self._storage.describe(blob, lease_id, metadata))

    async def release(self, grant: Grant, *, delete: bool = False) -> None:
        """See `LeaseBlobs`."""
        act = self._storage.delete if delete else self._storage.release
        what = f"{'delete' if delete else 'release'} {grant.blob}"
        await self._as_holder(grant, what, lambda: act(grant.blob, grant.lease_id))

    async def holder(self, blob: str) -> Mapping[str, str] | None:
        """See `LeaseBlobs`."""
        try:
            return await self._account.ask(f"holder {blob}", lambda: self._storage.holder(blob), RETRIES)
        except ResourceNotFoundError:
            return None

    async def jobs(self) -> AsyncIterator[tuple[str, Mapping[str, str]]]:
        """See `LeaseBlobs`."""
        for name, metadata, _ in await self._account.ask("list", lambda: self._storage.listing("job/"), RETRIES):
            yield name.removeprefix("job/"), metadata

    give_back = LeaseBlobs.give_back
    close_sessions = LeaseBlobs.close_sessions

    async def sessions(self, identity: str = "") -> AsyncIterator[tuple[str, bool]]:
        """See `LeaseBlobs`."""
        prefix = f"session/{identity}/" if identity else "session/"
        for name, _, leased in await self._account.ask("list", lambda: self._storage.listing(prefix), RETRIES):
            yield name.removeprefix("session/"), leased

    async def slots(self, group: str = "") -> AsyncIterator[tuple[str, str]]:
        """See `LeaseBlobs`."""
        prefix = f"group/{group}/" if group else "group/"
        for name, _, _ in await self._account.ask("list", lambda: self._storage.listing(prefix), RETRIES):
            yield name.split("/")[1], name

    async def discard(self, blob: str) -> bool:
        """See `LeaseBlobs`."""
        try:
            await self._account.ask(f"discard {blob}", lambda: self._storage.delete(blob), RETRIES)
        except HttpResponseError as error:
            if error.status_code not in (404, 409, 412):
                raise
            return error.status_code == 404
        return True

    async def _as_holder(self, grant: Grant, what: str, act: Callable[[], None]) -> None:
        try:
            await self._account.ask(what, act)
        except HttpResponseError as error:
            if error.status_code in (404, 409, 412):
                raise LeaseLost(grant.blob) from None
            raise LeaseUnknown(grant.blob) from error
        except ServiceResponseError as error:
            raise LeaseUnknown(grant.blob) from error
