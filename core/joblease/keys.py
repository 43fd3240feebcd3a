"""Idempotency keys: which job a key has submitted, for as long as the trail lives.

A key belongs to a namespace and a handler. Its row in the table `JobKeys` is there before the job: whoever writes it
first decides what the key stands for, and whichever job is named in it first is the one that runs. Everything is
written under If-Match, so that holds for any number of replicas, operators and repetitions. The API reserves a key
before it creates the `JobRequest` and notes the job afterwards; the operator claims it for a job before it begins that.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from joblease.content import Difference, content_of, differences
from joblease.messages import now, rfc3339
from joblease.rows import compact, join_text, split_text
from joblease.transactions import Write, submit

if TYPE_CHECKING:
    from azure.data.tables.aio import TableClient

    from joblease.jobrequest import JobRequestSpec

ROW = "key"
MAX_TRIES = 10
REFUSED = (404, 409, 412)
"""Somebody else was first, or an earlier try whose answer was lost."""


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """What a key stands for."""

    name: str
    """That the `JobRequest` has, or is to have."""
    content: Mapping[str, str]
    submitted_at: datetime
    job_id: str = ""
    """Empty until the `JobRequest` is known to be there."""
    expires_at: datetime | None = None
    etag: str = field(default="", compare=False)

    @property
    def expired(self) -> bool:
        """Whether the key may be used anew."""
        return self.expires_at is not None and self.expires_at <= now()

    def differences(self, content: Mapping[str, str]) -> list[Difference]:
        """What other content a job has than the one that the key stands for."""
        return differences(self.content, content)


class Keys:
    """The table `JobKeys`. Its methods raise `AzureError` when storage fails."""

    def __init__(self, table: "TableClient") -> None:
        self._table = table

    async def find(self, namespace: str, spec: "JobRequestSpec") -> KeyEntry | None:
        """What the spec's key stands for; None when nobody has used it, or it has expired. One request."""
        entry = await self._read(namespace, spec)
        return None if entry is None or entry.expired else entry

    async def claim(self, namespace: str, spec: "JobRequestSpec", name: str, job_id: str = "") -> KeyEntry:
        """Have the spec's key stand for this content, a `JobRequest` of this name and, once it is there, this job.

        Returns what the key stands for now: something else when somebody was first. Two requests for a new key, one for
        a known one. Without a job, a key that nobody has used is reserved; with one, a key that has no job yet becomes
        this job's.
        """
        refused: HttpResponseError | None = None
        for _ in range(MAX_TRIES):  # each refusal is somebody else's success
            before = await self._read(namespace, spec)
            if before and not before.expired and (before.job_id or not job_id):
                return before
            reserved = None if before is None or before.expired else before
            try:
                return await self._write(namespace, spec, _entry_for(spec, name, job_id, reserved), before)
            except HttpResponseError as error:
                if error.status_code not in REFUSED:
                    raise
                refused = error
        raise refused or AssertionError

    async def note(self, namespace: str, spec: "JobRequestSpec", entry: KeyEntry, job_id: str) -> None:
        """The `JobRequest` of a reserved key is there. What the operator has noted meanwhile stands. One request."""
        try:
            await self._write(namespace, spec, replace(entry, job_id=job_id), entry)
        except HttpResponseError as error:
            if error.status_code not in REFUSED:
                raise

    async def release(self, namespace: str, spec: "JobRequestSpec", entry: KeyEntry) -> None:
        """The `JobRequest` of a reserved key was refused: the key is free, if nobody has used it meanwhile."""
        row = {"PartitionKey": _partition(namespace, spec), "RowKey": ROW}
        try:
            await submit(self._table, [Write("delete", row, entry.etag)])
        except HttpResponseError as error:
            if error.status_code not in REFUSED:
                raise

    async def _read(self, namespace: str, spec: "JobRequestSpec") -> KeyEntry | None:
        try:
            return _entry(await self._table.get_entity(_partition(namespace, spec), ROW))
        except ResourceNotFoundError:
            return None

    async def _write(
        self, namespace: str, spec: "JobRequestSpec", entry: KeyEntry, before: KeyEntry | None
    ) -> KeyEntry:
        row = {
            "PartitionKey": _partition(namespace, spec), "RowKey": ROW, "namespace": namespace,
            "handler": spec.handler, "key": spec.key, "name": entry.name, "jobId": entry.job_id,
            "submittedAt": rfc3339(entry.submitted_at),
            "expiresAt": rfc3339(entry.expires_at) if entry.expires_at else "",
            **split_text("content", compact(entry.content)),
        }  # fmt: skip
        write = Write("replace", row, before.etag) if before else Write("insert", row)
        return replace(entry, etag=(await submit(self._table, [write]))[0])


def _partition(namespace: str, spec: "JobRequestSpec") -> str:
    """A partition of its own, of letters that a key of Azure Table storage may have."""
    return f"{namespace} {spec.handler} {hashlib.sha256((spec.key or '').encode()).hexdigest()}"


def _entry_for(spec: "JobRequestSpec", name: str, job_id: str, reserved: KeyEntry | None) -> KeyEntry:
    content = content_of(spec)
    if reserved:
        return replace(reserved, name=name, job_id=job_id, content=content)
    moment, seconds = now(), spec.key_ttl_seconds
    return KeyEntry(name, content, moment, job_id, moment + timedelta(seconds=seconds) if seconds else None)


def _entry(row: Mapping[str, Any]) -> KeyEntry:
    expires = row["expiresAt"]
    return KeyEntry(
        name=row["name"], content=json.loads(join_text("content", row) or "{}"), job_id=row["jobId"],
        submitted_at=datetime.fromisoformat(row["submittedAt"]),
        expires_at=datetime.fromisoformat(expires) if expires else None, etag=row.metadata["etag"],  # type: ignore[attr-defined]
    )  # fmt: skip
