"""A table service with the one index that Azure's has: by partition and row. `python indexed_tables.py FILE` serves it.

Azurite looks at every row of a table to answer any query, so how long it takes says nothing about Azure. Here the rows
are in SQLite, whose primary key finds where a range begins and reads on from there, as Azure does. The rest is alike:
filters are applied to the rows of the range, an answer has 1,000 rows at most, and a continuation token leads on.

It speaks as much of the protocol as a dashboard that only reads. Rows are put in with `Rows`, which takes the place of
the SDK's table client for the code that makes them, since two million of them by HTTP would take half an hour.
"""

import asyncio
import base64
import json
import re
import sqlite3
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from aiohttp import web
from azure.core.rest import HttpRequest

MAX_ROWS = 1_000
ETAG = "W/\"datetime'2026-01-01T00%3A00%3A00.0000000Z'\""
_KEYS = {"PartitionKey": "partition", "RowKey": "row"}
_OPERATORS = {"eq": "=", "ne": "<>", "ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
_WORDS = re.compile(r"'(?:[^']|'')*'|[()]|[^\s()]+")
_EXTRA = {"odata.etag": ETAG, "Timestamp": "2026-01-01T00:00:00.0000000Z"}
_ROW = re.compile(r"^\{.*\}(?=\r$)", re.MULTILINE)
_ENTITY = re.compile(r"(\w+)\(PartitionKey='([^']*)',RowKey='([^']*)'\)")


class Rows:
    """A table to be written, a stand-in for `TableClient`. Nothing is checked: a row is new, or merged into another."""

    def __init__(self, database: sqlite3.Connection, table: str) -> None:
        self._database = database
        self.table_name, self.url = table, ""
        self._client = self
        self._pipeline = SimpleNamespace(_impl_policies=(), _transport=self)  # for `joblease.pipeline`
        database.execute(
            f"create table if not exists {table} (partition text, row text, fields text, primary key (partition, row))"
            " without rowid"
        )

    async def send(self, request: HttpRequest, **_: Any) -> "Answer":
        content: Any = request.content
        rows = [json.loads(body) for body in _ROW.findall(content.decode())]
        self._write(rows)
        return Answer(f"HTTP/1.1 204 No Content\r\nETag: {ETAG}\r\n\r\n".encode() * len(rows))

    async def upsert_entity(self, row: dict[str, Any], **_: Any) -> None:
        self._write([row])

    def _write(self, rows: Sequence[dict[str, Any]]) -> None:
        values = [(row["PartitionKey"], row["RowKey"], json.dumps(_EXTRA | row)) for row in rows]
        self._database.executemany(
            f"insert into {self.table_name} values (?, ?, ?)"  # noqa: S608
            " on conflict do update set fields = json_patch(fields, excluded.fields)",
            values,
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """To a transaction, as the SDK gives it."""

    content: bytes
    status_code: int = 202
    reason: str = ""


def condition(text: str) -> tuple[str, list[str]]:
    """An OData filter as SQL, with its values. Only comparisons of text, which is all that the dashboard asks for."""
    words: list[str] = []
    values: list[str] = []
    for word in _WORDS.findall(text):
        if word.startswith("'"):
            words.append("?")
            values.append(word[1:-1].replace("''", "'"))
        elif word in _OPERATORS or word in ("and", "or", "(", ")"):
            words.append(_OPERATORS.get(word, word))
        elif word.isidentifier():
            words.append(_KEYS.get(word, f"json_extract(fields, '$.{word}')"))
        else:
            raise web.HTTPNotImplemented(text=f"not understood: {word}")
    return " ".join(words) or "1", values


class Service:
    """Answers."""

    def __init__(self, file: Path, most: int = MAX_ROWS) -> None:
        """`most` is how many rows an answer has at most; Azure stops early where its servers' shares of a table end."""
        self._database = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
        self._most = most

    async def start(self) -> int:
        """Serve on a free port, which is returned."""
        application = web.Application()
        application.router.add_post("/{account}/Tables", _exists)
        application.router.add_get("/{account}/{path:.*}", self._get)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        port: int = self._runner.addresses[0][1]
        return port

    async def stop(self) -> None:
        await self._runner.cleanup()
        self._database.close()

    async def _get(self, request: web.Request) -> web.Response:
        """Rows, or one of them."""
        path = request.match_info["path"]
        if found := _ENTITY.fullmatch(path):
            rows = self._database.execute(
                f"select fields from {found[1]} where partition = ? and row = ?",  # noqa: S608
                found.groups()[1:],
            ).fetchall()
            return _answer(rows[0][0]) if rows else web.Response(status=404)
        return self._query(path.removesuffix("()"), request.query)

    def _query(self, table: str, query: Any) -> web.Response:
        where, values = condition(query.get("$filter", ""))
        top = min(int(query.get("$top", self._most)), self._most)
        if "NextPartitionKey" in query:
            where = f"(partition, row) >= (?, ?) and ({where})"
            values = [_decode(query["NextPartitionKey"]), _decode(query.get("NextRowKey", "")), *values]
        rows = self._database.execute(
            f"select partition, row, fields from {table} where {where} order by partition, row limit ?",  # noqa: S608
            (*values, top + 1),
        ).fetchall()
        headers = {}
        if len(rows) > top:
            headers = {
                f"x-ms-continuation-Next{name}": _encode(key) for name, key in zip(_KEYS, rows[top], strict=False)
            }
        return _answer('{"value":[' + ",".join(fields for *_, fields in rows[:top]) + "]}", headers)


def _answer(text: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(text=text, content_type="application/json", headers={"ETag": ETAG, **(headers or {})})


def _encode(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


def _decode(text: str) -> str:
    return base64.urlsafe_b64decode(text).decode()


async def _exists(_: web.Request) -> web.Response:
    """Every table that is asked for is there."""
    error = {"odata.error": {"code": "TableAlreadyExists", "message": {"lang": "en-US", "value": "it is there"}}}
    return web.json_response(error, status=409)


async def main(file: Path) -> None:
    """Serve a file on a free port, which is printed, until killed."""
    print(await Service(file).start(), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
