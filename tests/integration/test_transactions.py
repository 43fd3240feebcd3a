"""Entity group transactions, on a real storage emulator."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from azure.core.exceptions import HttpResponseError
from azure.data.tables.aio import TableClient
from joblease.settings import StorageSettings
from joblease.storage import TRAIL_TABLE, Storage
from joblease.transactions import MAX_WRITES, Write, submit
from pydantic import SecretStr

HARD = "quotes ' \" and \\, 50 % of a path/with?marks#and, lines\r\nHTTP/1.1 412 inside\r\nETag: no\r\n\r\n, é 漢 🙂"


@pytest.fixture
async def table(storage: str) -> AsyncIterator[TableClient]:
    async with Storage(StorageSettings(storage_connection_string=SecretStr(storage))) as opened:
        await opened.create_tables(TRAIL_TABLE)
        yield opened.table(TRAIL_TABLE)


@pytest.fixture
def key() -> str:
    return str(uuid4())


async def test_rows_come_back_as_they_were_written(table: TableClient, key: str) -> None:
    values = {"text": HARD, "number": -(2**31), "yes": True, "no": False, "empty": ""}
    etags = await submit(table, [Write("insert", {"PartitionKey": key, "RowKey": f"r{n}", **values}) for n in range(3)])
    for number, etag in enumerate(etags):
        row = await table.get_entity(key, f"r{number}")
        assert {name: row[name] for name in values} == values
        assert row.metadata["etag"] == etag


async def test_a_full_transaction_and_one_too_large(table: TableClient, key: str) -> None:
    writes = [Write("insert", {"PartitionKey": key, "RowKey": f"r{n:03d}"}) for n in range(MAX_WRITES + 1)]
    with pytest.raises(HttpResponseError):
        await submit(table, writes)
    assert len(await submit(table, writes[:-1])) == MAX_WRITES


@pytest.mark.parametrize(
    ("write", "status"),
    [
        (Write("insert", {"RowKey": "there"}), 409),
        (Write("replace", {"RowKey": "there"}, "W/\"datetime'2020-01-01T00%3A00%3A00.0000000Z'\""), 412),
        (Write("merge", {"RowKey": "away"}, "W/\"datetime'2020-01-01T00%3A00%3A00.0000000Z'\""), 404),
    ],
)
async def test_one_refused_row_refuses_all(table: TableClient, key: str, write: Write, status: int) -> None:
    await submit(table, [Write("insert", {"PartitionKey": key, "RowKey": "there", "value": 1})])
    refused = Write(write.kind, {"PartitionKey": key, **write.row}, write.etag)
    with pytest.raises(HttpResponseError) as error:
        await submit(table, [Write("insert", {"PartitionKey": key, "RowKey": "new"}), refused])
    assert error.value.status_code == status
    assert ":" in str(error.value)
    assert [row["RowKey"] async for row in table.query_entities(f"PartitionKey eq '{key}'")] == ["there"]


async def test_replacing_and_merging_with_and_without_a_condition(table: TableClient, key: str) -> None:
    row = {"PartitionKey": key, "RowKey": "it's", "a": 1}
    [etag] = await submit(table, [Write("replace", row)])
    [etag] = await submit(table, [Write("merge", {**row, "b": 2}, etag)])
    assert (await table.get_entity(key, "it's"))["a"] == 1
    await submit(table, [Write("replace", {"PartitionKey": key, "RowKey": "it's", "c": 3}, etag)])
    found = await table.get_entity(key, "it's")
    assert {name for name in found if name not in ("PartitionKey", "RowKey")} == {"c"}
