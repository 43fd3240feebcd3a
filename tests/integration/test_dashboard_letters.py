"""Dead letters, looked at by several dashboards at once."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
from joblease.topology import DEAD
from support.jobs import Jobs
from support.programs import program

LETTERS, LOOKS = 30, 8


async def test_two_dashboards_do_not_hide_letters_from_each_other(
    jobs: Jobs, amqp_url: str, storage: str, tmp_path: Path
) -> None:
    variables = {"JOBLEASE_AMQP_URL": amqp_url, "JOBLEASE_STORAGE_CONNECTION_STRING": storage, "KUBECONFIG": "/none"}
    for number in range(LETTERS):
        await jobs.broker.publish("", DEAD, f"letter {number}".encode(), message_id=str(number))

    async def look(http: httpx.AsyncClient, port: int) -> list[int]:
        pages = [await http.get(f"http://127.0.0.1:{port}/queues/letters") for _ in range(LOOKS)]
        return [page.text.count('class="letter"') for page in pages]

    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=60))
        started = [program("joblease-dashboard", variables, tmp_path / f"{number}.log") for number in range(2)]
        running = [await stack.enter_async_context(each) for each in started]
        seen = list(await asyncio.gather(*(look(http, each.port) for each in running)))
    assert seen == [[LETTERS] * LOOKS] * 2
