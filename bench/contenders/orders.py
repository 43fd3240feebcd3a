"""How programs without a broker get their jobs: from files, a line of JSON each, whose paths come on standard input."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from joblease.messages import JobMessage

Do = Callable[[JobMessage], Awaitable[None]]


async def serve(concurrency: int, do: Do) -> None:
    """Do so many jobs at once, until the input ends."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async for path in reader:
        lines = iter(Path(path.decode().strip()).read_bytes().splitlines())  # noqa: ASYNC240 - before the work
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(_one_by_one(do, lines))


async def _one_by_one(do: Do, lines: Iterator[bytes]) -> None:
    for line in lines:  # the others take theirs from the same
        await do(JobMessage.model_validate_json(line))
