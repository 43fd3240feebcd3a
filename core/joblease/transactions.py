"""Entity group transactions: rows of one partition, all written or none.

The fence is such a transaction, so this is the request that JobLease makes most often. The SDK builds and reads its
multipart bodies with Python's mail package, which takes three quarters of the processor time of a write. So the bodies
are made and read here, and only they: signing, retries, timeouts and connections stay with the SDK (`pipeline`).

The format: https://learn.microsoft.com/rest/api/storageservices/performing-entity-group-transactions
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote
from uuid import uuid4

from azure.core.exceptions import HttpResponseError
from azure.core.rest import HttpRequest

from joblease.pipeline import send

if TYPE_CHECKING:
    from azure.data.tables.aio import TableClient

MAX_WRITES = 100
_ACCEPTED = 202
_METHODS = {"insert": "POST", "replace": "PUT", "merge": "PATCH", "delete": "DELETE"}
_HEADERS = {
    "Accept": "application/json;odata=nometadata",
    "DataServiceVersion": "3.0",
    "MaxDataServiceVersion": "3.0;NetFx",
    "x-ms-version": "2019-02-02",
}
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_ANSWER = re.compile(r"^HTTP/1\.1 (\d{3})[^\r\n]*\r?\n(.*?)\r?\n\r?\n", re.MULTILINE | re.DOTALL)
_ETAG = re.compile(r"^ETag:\s*(.*?)\s*$", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Write:
    """One row's part of a transaction.

    `replace` and `merge` write under If-Match when an `etag` is given, and whether or not the row exists when there is
    none. `delete` needs one; `*` stands for any. The row's values are strings, booleans, and integers of 32 bits.
    """

    kind: Literal["insert", "replace", "merge", "delete"]
    row: Mapping[str, Any]
    etag: str | None = None


async def submit(table: "TableClient", writes: Sequence[Write]) -> list[str]:
    """Do all writes or none; the new ETags in the same order.

    Raises `HttpResponseError` with the first refused row's `status_code`: 409 exists already, 404 is not there, 412 has
    another ETag. Raises other `AzureError`s when storage cannot be reached.
    """
    name = str(uuid4())
    request = HttpRequest(
        "POST",
        f"{table.url}/$batch",
        headers={**_HEADERS, "Content-Type": f"multipart/mixed; boundary=batch_{name}"},
        content=_body(table, writes, name).encode(),
    )
    response = await send(table, request)
    text = response.content.decode()
    answers = [(int(status), head) for status, head in _ANSWER.findall(text)]
    refused = next((status for status, _ in answers if status >= 300), None)
    if response.status_code != _ACCEPTED or refused or len(answers) != len(writes):
        error = HttpResponseError(_explanation(text) or response.reason, response=response)
        error.status_code = refused or response.status_code
        raise error
    return [found[1] if (found := _ETAG.search(head)) else "" for _, head in answers]


def _body(table: "TableClient", writes: Sequence[Write], name: str) -> str:
    boundary, changes = f"batch_{name}", f"changeset_{name}"
    parts = [f"--{boundary}\r\nContent-Type: multipart/mixed; boundary={changes}\r\n\r\n"]
    for write in writes:
        target = f"{table.url}/{table.table_name}"
        if write.kind != "insert":
            target += f"(PartitionKey='{_key(write.row['PartitionKey'])}',RowKey='{_key(write.row['RowKey'])}')"
        condition = f"If-Match: {write.etag}\r\n" if write.etag else ""
        parts.append(
            f"--{changes}\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
            f"{_METHODS[write.kind]} {target} HTTP/1.1\r\nContent-Type: application/json\r\n"
            f"Accept: application/json;odata=nometadata\r\nPrefer: return-no-content\r\nDataServiceVersion: 3.0\r\n"
            f"{condition}\r\n{_encode(write.row) if write.kind != 'delete' else ''}\r\n"
        )
    parts.append(f"--{changes}--\r\n--{boundary}--\r\n")
    # JSON may write JavaScript's line ends either way. Azurite splits the body at them, and answers 500 for ever.
    return "".join(parts).replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _key(value: str) -> str:
    return quote(value.replace("'", "''"), safe="")


def _explanation(text: str) -> str:
    """Storage's own words about what it refused."""
    try:
        error = json.loads(text[text.index("{") : text.rindex("}") + 1])["odata.error"]
        return f"{error['code']}: {error['message']['value']}"
    except (ValueError, LookupError, TypeError):
        return text.strip()[:500]
