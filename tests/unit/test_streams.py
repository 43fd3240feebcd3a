"""Live streams without a broker: who may have one, for how long, and how long one is waited for."""

import asyncio
from collections.abc import AsyncIterator
from unittest.mock import Mock

import pytest
from joblease_dashboard.live import streams
from joblease_dashboard.live.board import Board
from joblease_dashboard.live.log import Log
from joblease_dashboard.live.streams import NotReady, Streams, TooManyStreams
from joblease_dashboard.live.workers import Workers


async def allowed() -> bool:
    return True


@pytest.fixture
async def opened() -> AsyncIterator[Streams]:
    """Streams whose log has been read."""
    found = Streams(Log(Board(Workers()), 100), Mock(), 3, 2, 0.05)
    found._ready = True

    async def beat() -> None:
        while True:
            found._beats += 1
            found.log.wake()
            await asyncio.sleep(0.05)

    beating = asyncio.create_task(beat())
    yield found
    beating.cancel()


async def test_a_stream_waits_for_the_log_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "READY_SECONDS", 0.2)
    waiting = Streams(Log(Board(Workers()), 100), Mock(), 3, 2, 15)
    many = [waiting.open("alice", allowed, None, None, None) for _ in range(5)]
    answers = await asyncio.wait_for(asyncio.gather(*many, return_exceptions=True), 10)
    assert [type(answer) for answer in answers] == [NotReady] * 2 + [TooManyStreams] * 3
    with pytest.raises(NotReady):  # and gives back what it took
        await waiting.open("alice", allowed, None, None, None)


async def test_a_stream_ends_with_the_right_to_it(opened: Streams) -> None:
    answers = iter([True, True, False])
    asked = 0

    async def may() -> bool:
        nonlocal asked
        asked += 1
        return next(answers)

    async with asyncio.timeout(10):
        frames = [frame async for frame in await opened.open("alice", may, None, None, None)]
    assert asked == 3
    assert frames[0].startswith(b"retry:")


async def test_nobody_takes_all_streams(opened: Streams) -> None:
    async def take(person: str) -> AsyncIterator[bytes]:
        stream = await opened.open(person, allowed, None, None, None)
        await anext(stream)
        return stream

    first = await take("alice")
    held = [first, await take("alice")]
    with pytest.raises(TooManyStreams) as refused:
        await take("alice")
    assert refused.value.own
    held.append(await take("bob"))
    with pytest.raises(TooManyStreams) as refused:
        await take("carol")
    assert not refused.value.own
    await first.aclose()  # type: ignore[attr-defined]
    await take("carol")
