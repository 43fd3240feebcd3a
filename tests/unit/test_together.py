"""What is done at once: results in order, one error ends all, and a cancellation is never forgotten."""

import asyncio

import pytest
from joblease.together import together


async def test_results_are_in_order() -> None:
    async def after(turns: int) -> int:
        for _ in range(turns):
            await asyncio.sleep(0)
        return turns

    assert await together(after(3), after(1), after(2)) == [3, 1, 2]
    assert await together() == []


async def test_the_others_have_ended_when_one_has_failed() -> None:
    ended = []

    async def fails() -> None:
        await asyncio.sleep(0)
        raise OSError("storage is away")

    async def goes_on() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append(True)

    with pytest.raises(OSError, match="storage is away"):
        await together(goes_on(), fails(), goes_on())
    assert ended == [True, True]


async def test_a_cancellation_in_the_moment_of_a_failure_is_not_forgotten() -> None:
    loop = asyncio.get_running_loop()
    gate = loop.create_future()

    async def fails() -> None:
        await gate
        raise OSError("storage is away")

    async def goes_on() -> None:
        await loop.create_future()

    task = asyncio.create_task(together(fails(), goes_on()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # both have begun
    gate.set_result(None)
    loop.call_soon(task.cancel)  # after the failure, and before anybody has heard of it
    with pytest.raises(asyncio.CancelledError):
        await task
