"""The operator's work queue."""

import asyncio
import contextlib
from collections.abc import Callable

import pytest
from joblease_operator import queue as queue_module
from joblease_operator.queue import WORKERS, WorkQueue


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


async def test_others_get_their_turn_however_many_keys_there_are() -> None:
    """The handler waits for nothing, as it does for a job that just waits."""
    handled: list[str] = []
    in_one_turn = [0]

    async def handle(key: str) -> None:
        handled.append(key)

    async with WorkQueue(handle) as queue:
        for number in range(5_000):
            queue.add(str(number), 0.001 if number % 2 else 0)
        while len(handled) < 5_000:
            before = len(handled)
            await asyncio.sleep(0)
            in_one_turn.append(len(handled) - before)
    assert max(in_one_turn) <= 2 * WORKERS


async def test_many_that_are_due_at_the_same_time_come_in_several_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "DUE_AT_ONCE", 10)
    handled: list[str] = []

    async def handle(key: str) -> None:
        handled.append(key)

    async with WorkQueue(handle) as queue:
        for number in range(100):
            queue.add(str(number), 0.001)
        ready = [0]
        while len(handled) < 100:
            await asyncio.sleep(0)
            ready.append(queue._ready.qsize())
    assert max(ready) <= 10
    assert not queue._later
    assert not queue._due


async def test_an_error_of_a_handler_costs_its_key_alone() -> None:
    handled: list[str] = []

    async def handle(key: str) -> None:
        handled.append(key)
        if key == "a":
            raise KeyError(key)

    async with WorkQueue(handle, workers=1) as queue:
        queue.add("a")
        queue.add("b")
        await until(lambda: handled == ["a", "b"])


async def test_a_library_that_swallows_the_cancellation_keeps_nobody_from_ending() -> None:
    """As `asyncio.wait_for` does before Python 3.12, when what it waits for is done in the same moment."""
    begun = asyncio.Event()

    async def handle(_key: str) -> None:
        begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)

    async def use() -> None:
        async with WorkQueue(handle) as queue:
            queue.add("a")
            await begun.wait()

    using = asyncio.create_task(use())
    done, _ = await asyncio.wait({using}, timeout=5)
    using.cancel()
    assert done
