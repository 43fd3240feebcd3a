"""A storage account that answers at once, so that what a worker itself costs can be measured.

It speaks as much of the blob and table protocols, over HTTP on a loopback port, as a worker needs for jobs without
trouble: a lease that is always free, a transaction that always goes through, an ETag that is new each time. It stores
nothing, but it counts what was asked of it. It runs in a process of its own: `with storage_double() as double`.
"""

import asyncio
import json
import os
import re
import urllib.request
from collections import Counter
from contextlib import AbstractContextManager
from typing import ClassVar

from parts import STORAGE, account_at, fields

COUNTS = b"/counts"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_LEASE = re.compile(rb"\r\nx-ms-proposed-lease-id: *([^\r]+)", re.IGNORECASE)
_OPERATIONS = re.compile(rb"^(?:POST|PUT|PATCH|MERGE|DELETE) \S+ HTTP/1\.1\r?$", re.MULTILINE)
_DATE = b"Date: Thu, 01 Jan 2026 00:00:00 GMT\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n"


class Double(asyncio.Protocol):
    """One connection."""

    counts: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - TCP
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each request that has come completely."""
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end]
            found = _LENGTH.search(head)
            whole = end + 4 + (int(found[1]) if found else 0)
            if len(self._received) < whole:
                return
            body, self._received = self._received[end + 4 : whole], self._received[whole:]
            self._transport.write(self._answer(head, body))

    def _answer(self, head: bytes, body: bytes) -> bytes:
        method, target, _ = head.split(b"\r\n", 1)[0].split(b" ")
        etag = b'"0x%X"' % (self.counts.total() + 1)
        if target == COUNTS:
            return _http(b"200 OK", b"Content-Type: application/json\r\n", json.dumps(self.counts).encode())
        if target.endswith(b"$batch"):
            self.counts["batch"] += 1
            return _batch(len(_OPERATIONS.findall(body)), etag)
        if b"comp=lease" in target:
            self.counts["lease"] += 1
            proposed = _LEASE.search(head)
            fields = b"ETag: %b\r\nx-ms-lease-id: %b\r\n" % (etag, proposed[1] if proposed else b"")
            return _http(b"201 Created" if proposed else b"200 OK", fields)
        self.counts[method.decode().lower()] += 1
        if method == b"DELETE":
            return _http(b"202 Accepted", b"x-ms-delete-type-permanent: true\r\n")
        if method == b"PUT":
            return _http(b"201 Created", b"ETag: %b\r\n" % etag)
        if method == b"POST":  # a table is created
            return _http(b"204 No Content", b"Preference-Applied: return-no-content\r\n")
        return _http(b"501 Not Implemented")


def _http(status: bytes, fields: bytes = b"", body: bytes = b"") -> bytes:
    return b"HTTP/1.1 %b\r\n%b%bContent-Length: %d\r\n\r\n%b" % (status, _DATE, fields, len(body), body)


def _batch(operations: int, etag: bytes) -> bytes:
    part = (
        b"--changesetresponse_1\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        b"HTTP/1.1 204 No Content\r\nDataServiceVersion: 3.0;\r\nETag: W/%b\r\n\r\n\r\n" % etag
    )
    body = (
        b"--batchresponse_1\r\nContent-Type: multipart/mixed; boundary=changesetresponse_1\r\n\r\n"
        + part * operations
        + b"--changesetresponse_1--\r\n--batchresponse_1--\r\n"
    )
    return _http(b"202 Accepted", b"Content-Type: multipart/mixed; boundary=batchresponse_1\r\n", body)


def storage_double() -> AbstractContextManager[int]:
    """Run one; the environment names it as the storage account. Gives its process id."""
    return account_at(__file__, services=("Blob", "Table"))


def counts() -> Counter[str]:
    """How many requests of each kind it has had."""
    url = fields(os.environ[STORAGE])["BlobEndpoint"].rsplit("/", 1)[0] + COUNTS.decode()
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - ours
        return Counter(json.load(answer))


async def serve() -> None:
    """Serve on a free port, which is printed, until killed."""
    server = await asyncio.get_running_loop().create_server(Double, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve())
