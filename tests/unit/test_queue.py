"""The operator's work queue."""

import asyncio
from collections.abc import Callable

from joblease_operator.queue import WorkQueue


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def test_a_key_that_is_added_while_it_is_handled_is_handled_once_more() -> None:
    handled: list[str] = []
    proceed = asyncio.Event()

    async def handle(key: str) -> None:
        handled.append(key)
        await proceed.wait()

    async with WorkQueue(handle) as queue:
        queue.add("a")
        queue.add("a")
        await until(lambda: handled == ["a"])
        for _ in range(3):
            queue.add("a")
        queue.add("b")
        await until(lambda: handled == ["a", "b"])  # another key does not wait
        proceed.set()
        await until(lambda: handled == ["a", "b", "a"])


async def test_a_failed_key_is_tried_again_and_others_go_on() -> None:
    handled: list[str] = []

    async def handle(key: str) -> float | None:
        handled.append(key)
        return 0.01 if handled.count("a") < 3 and key == "a" else None

    async with WorkQueue(handle, workers=1) as queue:
        queue.add("a")
        queue.add("b")
        await until(lambda: handled.count("a") == 3)
        assert handled[:2] == ["a", "b"]


async def test_the_earliest_of_several_times_counts() -> None:
    handled: list[str] = []

    async def handle(key: str) -> None:
        handled.append(key)

    async with WorkQueue(handle) as queue:
        queue.add("a", 3600)
        queue.add("a", 0.01)
        queue.add("a", 3600)
        await until(lambda: handled == ["a"])
