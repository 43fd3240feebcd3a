"""Connections to a server that answers with a megabyte: who does not read it, and who reads slowly."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest
import uvicorn
from joblease.listening import listening
from joblease_dashboard import connections
from joblease_dashboard.access.limits import TooManyAtOnce, Turns
from joblease_dashboard.connections import BoundedProtocol
from starlette.responses import Response

ASK = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
SIZE = 8 << 20
"""More than the kernel keeps of it."""


@pytest.fixture
async def port() -> AsyncIterator[int]:
    config = uvicorn.Config(Response(b"x" * SIZE), http=BoundedProtocol, ws="none", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    with listening("127.0.0.1", 0) as listener:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        yield int(listener.getsockname()[1])
        server.should_exit = server.force_exit = True
        await serving


async def ask(port: int, receive: int = 4_096) -> socket.socket:
    """Ask, and read nothing."""
    client, loop = socket.socket(), asyncio.get_running_loop()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    client.setblocking(False)  # noqa: FBT003
    await loop.sock_connect(client, ("127.0.0.1", port))
    await loop.sock_sendall(client, ASK)
    return client


async def read(client: socket.socket, pause: float = 0) -> int:
    """How much comes until there is nothing more."""
    got, loop = 0, asyncio.get_running_loop()
    with contextlib.suppress(ConnectionError), client:
        while got < SIZE and (piece := await loop.sock_recv(client, 1 << 16)):
            got += len(piece)
            await asyncio.sleep(pause)
    return got


async def unread(count: int) -> None:
    async with asyncio.timeout(10):
        while len(BoundedProtocol.unread) != count:
            await asyncio.sleep(0.01)


async def test_who_reads_nothing_is_cut_off(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "UNREAD_SECONDS", 0.3)
    client = await ask(port)
    await unread(1)
    await unread(0)
    assert await read(client) < SIZE


async def test_who_reads_slowly_is_not(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "UNREAD_SECONDS", 0.5)
    assert await read(await ask(port, 1 << 17), pause=0.02) >= SIZE


async def test_unread_answers_have_a_bound_together(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the one who has waited longest go first."""
    monkeypatch.setattr(connections, "MAX_UNREAD_BYTES", 2 * SIZE)
    clients = []
    for number in range(4):
        clients.append(await ask(port))
        await unread(min(number + 1, len(BoundedProtocol.unread) or 1))
    async with asyncio.timeout(10):
        while sum(each.transport.get_write_buffer_size() for each in BoundedProtocol.unread) > 2 * SIZE:
            await asyncio.sleep(0.01)
    kept = await asyncio.gather(*(read(client) for client in clients))
    assert kept[0] < SIZE
    assert kept[-1] >= SIZE


async def test_the_newcomer_comes_in(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the one that has waited longest to send its request is closed."""
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 3)
    idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
    assert await read(await ask(port)) >= SIZE
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(idle[0][0].read(), 5) == b""
    assert not idle[2][0].at_eof()
    for _, writer in idle:
        writer.close()


async def test_a_body_may_come_after_the_answer(port: int) -> None:
    """As when a form is refused by its head: the next request on the connection is answered all the same."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(3):
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).startswith(b"HTTP/1.1 200")
        await asyncio.wait_for(reader.readexactly(SIZE), 10)
        writer.write(b"hello")
    writer.close()


async def test_requests_of_one_are_answered_in_turn() -> None:
    turns, running, most = Turns(2, 3), 0, 0

    async def work(who: str) -> bool:
        nonlocal running, most
        try:
            async with turns.take(who):
                running += who == "greedy"
                most = max(most, running)
                await asyncio.sleep(0.01)
                running -= who == "greedy"
        except TooManyAtOnce:
            return False
        return True

    done = await asyncio.gather(*(work("greedy") for _ in range(8)), work("other"))
    assert done == [True] * 5 + [False] * 3 + [True]
    assert most == 2
    assert await work("greedy")
