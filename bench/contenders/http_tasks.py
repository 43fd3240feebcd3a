"""No contender but the floor: a job's storage requests as plain HTTP, ready-made and unsigned.

For the storage double only: it reads no more of them than which operation they ask for, and does not check who asks.
"""

import asyncio
import os
import sys

import aiohttp
from contenders.raw_tasks import serve
from contenders.record import note
from contenders.storage_work import CONNECTION_STRING
from joblease.messages import JobMessage

TRANSACTION = b"POST /t HTTP/1.1\r\n" + b"." * 1_500 + b"\r\nPUT /t HTTP/1.1\r\n" + b"." * 1_500
"""About as long as one of two operations."""
FIELDS = {"x-ms-version": "2024-11-04", "x-ms-date": "." * 29, "Authorization": "." * 76}


async def work(concurrency: int) -> None:
    account = dict(item.split("=", 1) for item in os.environ[CONNECTION_STRING].rstrip(";").split(";"))
    batch = f"{account['TableEndpoint']}/$batch"
    async with aiohttp.ClientSession() as session:

        async def ask() -> None:
            async with session.post(batch, headers=FIELDS, data=TRANSACTION) as answer:
                await answer.read()
                answer.raise_for_status()

        async def do(_: JobMessage) -> None:
            await ask()
            await ask()
            note()

        await serve(concurrency, do)


def command(_: int, concurrency: int) -> tuple[list[str], dict[str, str]]:
    return ["python", "-m", "contenders.http_tasks", str(concurrency)], {}


if __name__ == "__main__":
    asyncio.run(work(int(sys.argv[1])))
