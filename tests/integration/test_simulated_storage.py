"""The simulated storage gives the answers of the real one: one table of requests, asked of both."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

from azure.core.exceptions import HttpResponseError
from joblease import transactions
from joblease.leases import Grant, LeaseBlobs
from joblease.settings import StorageSettings
from joblease.storage import TRAIL_TABLE, Storage
from joblease.transactions import Write
from pydantic import SecretStr
from simulation import storage as simulated
from simulation.loop import Program, VirtualLoop
from simulation.network import Network

LEASE = 15
JOB, OTHER = "partition", "another"
A, B = str(uuid4()), str(uuid4())
Ask = Callable[..., Awaitable[Any]]


def row(key: str, **values: Any) -> dict[str, Any]:
    return {"PartitionKey": JOB, "RowKey": key, **values}


ROWS: list[tuple[str, list[Write], Any]] = [
    ("a new row", [Write("insert", row("1", x=1))], "written"),
    ("the same row again", [Write("insert", row("1", x=2))], 409),
    ("a row and one that exists: none is written", [Write("insert", row("2")), Write("insert", row("1"))], 409),
    ("the one before was not written", [Write("insert", row("2", x=1))], "written"),
    ("an ETag of long ago", [Write("replace", row("1", x=3), "old")], 412),
    ("an ETag of a row that is not there", [Write("replace", row("9"), "old")], 404),
    ("the present ETag", [Write("replace", row("1", y=4), "1")], "written"),
    ("whatever is there", [Write("replace", row("1", z=5))], "written"),
    ("whatever is there, though nothing is", [Write("replace", row("3", x=1))], "written"),
    ("some values of a row", [Write("merge", row("1", x=6))], "written"),
    ("the head with its events", [Write("insert", row("4")), Write("replace", row("2", x=7), "2")], "written"),
    ("the head has changed: no event", [Write("insert", row("5")), Write("replace", row("2"), "old")], 412),
]
CONTENT = {"1": {"z": 5, "x": 6}, "2": {"x": 7}, "3": {"x": 1}, "4": {}}

BLOBS: list[tuple[str, str, tuple[Any, ...], Any]] = [
    ("take what is not there", "acquire", ("b", LEASE, A), "LeaseMissing"),
    ("renew what is not there", "renew", (Grant("b", A),), "LeaseLost"),
    ("who holds what is not there", "holder", ("b",), None),
    ("make it", "create", ("b", {"k": "v"}), True),
    ("make it again", "create", ("b", {"k": "w"}), False),
    ("nobody holds it", "holder", ("b",), None),
    ("release what nobody has taken", "release", (Grant("b", A),), "LeaseLost"),
    ("take it", "acquire", ("b", LEASE, A), Grant("b", A)),
    ("somebody else does", "acquire", ("b", LEASE, B), "LeaseHeld"),
    ("the same id is granted again", "acquire", ("b", LEASE, A), Grant("b", A)),
    ("make what is leased", "create", ("b", {}), False),
    ("somebody holds it", "holder", ("b",), {"k": "v"}),
    ("renew it", "renew", (Grant("b", A),), None),
    ("renew with a wrong id", "renew", (Grant("b", B),), "LeaseLost"),
    ("describe it", "describe", (Grant("b", A), {"who": "me"}), None),
    ("describe it with a wrong id", "describe", (Grant("b", B), {"who": "you"}), "LeaseLost"),
    ("it is described", "holder", ("b",), {"who": "me"}),
    ("discard what is leased", "discard", ("b",), False),
    ("it is still there", "holder", ("b",), {"who": "me"}),
    ("release with a wrong id", "release", (Grant("b", B),), "LeaseLost"),
    ("release it", "release", (Grant("b", A),), None),
    ("release it again", "release", (Grant("b", A),), "LeaseLost"),
    ("renew what was released", "renew", (Grant("b", A),), "LeaseLost"),
    ("the next one takes it", "acquire", ("b", LEASE, B), Grant("b", B)),
    ("an old id releases nothing", "release", (Grant("b", A),), "LeaseLost"),
    ("until it expires", "wait", (), None),
    ("an expired lease that nobody took is renewed", "renew", (Grant("b", B),), None),
    ("and is held", "holder", ("b",), {"who": "me"}),
    ("until it expires again", "wait", (), None),
    ("somebody else takes it", "acquire", ("b", LEASE, A), Grant("b", A)),
    ("now it is not renewed", "renew", (Grant("b", B),), "LeaseLost"),
    ("delete with a wrong id", "delete", (Grant("b", B),), "LeaseLost"),
    ("delete it", "delete", (Grant("b", A),), None),
    ("discard what is not there", "discard", ("b",), True),
]


async def answers(table: Any, submit: Ask, blobs: Any, wait: Ask) -> list[tuple[str, Any]]:
    """What each request was answered, by its name."""
    said: list[tuple[str, Any]] = []
    etags = {"old": "W/\"datetime'2000-01-01T00%3A00%3A00.0000000Z'\""}
    for what, writes, _ in ROWS:
        real = [Write(each.kind, each.row, each.etag and etags[each.etag]) for each in writes]
        try:
            for write, etag in zip(writes, await submit(table, real), strict=True):
                etags[write.row["RowKey"]] = etag
            said.append((what, "written"))
        except HttpResponseError as error:
            said.append((what, error.status_code))
    parameters = {"job": JOB, "after": "0"}
    query = "PartitionKey eq @job and RowKey gt @after"
    found = [each async for each in table.query_entities(query, parameters=parameters, results_per_page=1000)]
    assert [each["RowKey"] for each in found] == [*CONTENT]
    assert {each["RowKey"]: {k: v for k, v in each.items() if not k.endswith("Key")} for each in found} == CONTENT
    assert [each.metadata["etag"] for each in found] == [etags[key] for key in CONTENT]
    for what, verb, arguments, _ in BLOBS:
        own: dict[str, Ask] = {
            "wait": lambda: wait(LEASE),
            "delete": lambda grant: blobs.release(grant, delete=True),
        }
        call = own.get(verb) or getattr(blobs, verb)
        try:
            said.append((what, await call(*arguments)))
        except Exception as error:  # noqa: BLE001 - it is the answer
            said.append((what, type(error).__name__))
    return said


EXPECTED = [(what, answer) for what, _, answer in ROWS] + [(what, answer) for what, _, _, answer in BLOBS]


async def test_the_real_storage(storage: str) -> None:
    async with Storage(StorageSettings(storage_connection_string=SecretStr(storage))) as account:
        await account.create_tables(TRAIL_TABLE)
        await account.create_locks()

        async def wait(seconds: float) -> None:  # of its own accord: nothing tells that a lease is over
            await asyncio.sleep(seconds + 1)

        table = account.table(TRAIL_TABLE)
        assert await answers(table, transactions.submit, LeaseBlobs(account.locks()), wait) == EXPECTED


def test_the_simulated_storage() -> None:
    loop = VirtualLoop(random.Random(1))
    program = Program("asker", loop)
    network = Network(loop, random.Random(1))
    account = simulated.Account(simulated.Storage(loop), network, program, 5)

    async def wait(seconds: float) -> None:
        await asyncio.sleep(seconds + 1)

    async def submit(table: Any, writes: list[Write]) -> list[str]:
        return await table.submit(writes)  # type: ignore[no-any-return]

    try:
        said = loop.run_until_complete(answers(account.table(), submit, account.blobs(), wait))
    finally:
        loop.close()
    assert said == EXPECTED
