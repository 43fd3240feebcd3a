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
from joblease.storage import LOCKS_CONTAINER

TRANSACTION = b"POST /t HTTP/1.1\r\n" + b"." * 1_500 + b"\r\nPUT /t HTTP/1.1\r\n" + b"." * 1_500
"""About as long as one of two operations."""
FIELDS = {"x-ms-version": "2024-11-04", "x-ms-date": "." * 29, "Authorization": "." * 76}
ACQUIRE = {**FIELDS, "x-ms-lease-action": "acquire", "x-ms-lease-duration": "60", "x-ms-proposed-lease-id": "." * 36}


async def work(concurrency: int) -> None:
    account = dict(item.split("=", 1) for item in os.environ[CONNECTION_STRING].rstrip(";").split(";"))
    locks, batch = f"{account['BlobEndpoint']}/{LOCKS_CONTAINER}/job", f"{account['TableEndpoint']}/$batch"
    async with aiohttp.ClientSession() as session:

        async def ask(method: str, url: str, fields: dict[str, str], body: bytes | None = None) -> None:
            async with session.request(method, url, headers=fields, data=body) as answer:
                await answer.read()
                answer.raise_for_status()

        async def do(job: JobMessage) -> None:
            await ask("PUT", f"{locks}/{job.job_id}?comp=lease", ACQUIRE)
            await ask("POST", batch, FIELDS, TRANSACTION)
            await ask("POST", batch, FIELDS, TRANSACTION)
            await ask("DELETE", f"{locks}/{job.job_id}", FIELDS)
            note()

        await serve(concurrency, do)


def command(_: int, concurrency: int) -> tuple[list[str], dict[str, str]]:
    return ["python", "-m", "contenders.http_tasks", str(concurrency)], {}


if __name__ == "__main__":
    asyncio.run(work(int(sys.argv[1])))
