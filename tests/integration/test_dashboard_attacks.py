"""Attacks on what the dashboard has: connections, memory, time. Others are served meanwhile, within 512 MiB."""

import asyncio
import contextlib
import random
import socket
import struct
import time
from collections.abc import AsyncIterator

import httpx
import pytest
from joblease.messages import JobEvent
from joblease.states import State
from support.attack import MEMORY, Dashboard, status_of
from support.history import History

PACE = 0.002
"""Seconds between an attacker's connections: what is attacked is not the processor."""
LINGER_NOT = struct.pack("ii", 1, 0)
HEAD = b"HTTP/1.1\r\nHost: 127.0.0.1\r\n"
LOGIN = b"POST /login " + HEAD + b"Sec-Fetch-Site: same-origin\r\n"


class Crowd:
    """Many connections of one attacker."""

    def __init__(self, dashboard: Dashboard) -> None:
        self.port = dashboard.running.port
        self.members: list[socket.socket] = []

    def send(self, what: bytes, receive: int = 0) -> socket.socket | None:
        """Connect and send this, as far as the other end takes it in a moment; None when it was refused. Blocks."""
        member = socket.socket()
        self.members.append(member)
        member.settimeout(5)
        if receive:
            member.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        with contextlib.suppress(ConnectionError):
            member.connect(("127.0.0.1", self.port))
            member.settimeout(0.5)
            with contextlib.suppress(TimeoutError):
                member.sendall(what)
            return member
        return None

    async def send_many(self, count: int, what: bytes, receive: int = 0) -> int:
        """Of so many, on a thread of their own; how many were not refused."""

        def run() -> int:
            sent = 0
            for _ in range(count):
                sent += self.send(what, receive) is not None
                time.sleep(PACE)
            return sent

        return await asyncio.to_thread(run)

    def reset(self) -> None:
        """Cut all of them."""
        for member in self.members:
            with contextlib.suppress(OSError):
                member.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
            member.close()
        self.members.clear()


@pytest.fixture
async def crowd(dashboard: Dashboard) -> AsyncIterator[Crowd]:
    crowd = Crowd(dashboard)
    yield crowd
    crowd.reset()


async def ends(member: socket.socket | None, seconds: float) -> bytes:
    """What comes until the other end closes; it must, in that time."""
    assert member
    got, loop = b"", asyncio.get_running_loop()
    member.setblocking(False)  # noqa: FBT003
    async with asyncio.timeout(seconds):
        with contextlib.suppress(ConnectionError):
            while piece := await loop.sock_recv(member, 1 << 16):
                got += piece
    return got


def bearer(token: str) -> bytes:
    return f"Authorization: Bearer {token}\r\n".encode()


async def test_more_connections_than_there_may_be(dashboard: Dashboard, crowd: Crowd) -> None:
    """Each with most of a request, which never ends: the oldest of them give way."""
    async with dashboard.serves_citizens():
        sent = await crowd.send_many(4_600, b"GET / " + HEAD + b"X-Loris: " + b"x" * 30_000)
        assert sent > 4_000
        crowd.reset()


async def test_thousands_of_forms_that_never_end(dashboard: Dashboard, crowd: Crowd) -> None:
    """What they have sent is more than the dashboard may have."""
    too_long = b"token=" + b"x" * 250_000
    async with dashboard.serves_citizens():
        declared = await crowd.send_many(1_100, LOGIN + b"Content-Length: 262144\r\n\r\n" + too_long)
        chunk = b"%x\r\n%s" % (len(too_long) + 1, too_long)
        hidden = await crowd.send_many(1_100, LOGIN + b"Transfer-Encoding: chunked\r\n\r\n" + chunk)
        assert (declared + hidden) * len(too_long) > MEMORY << 20
        crowd.reset()
        slow = LOGIN + b"Content-Length: 30000\r\n\r\n" + too_long[:29_999]
        assert await crowd.send_many(1_000, slow) == 1_000
        async with dashboard.client() as http:  # and somebody who signs in meanwhile does
            form = {"token": dashboard.citizen}
            assert (await http.post("/login", data=form, headers={"Sec-Fetch-Site": "same-origin"})).status_code == 303
        assert status_of(await ends(crowd.members[0], 20)) == 408
        assert status_of(await ends(crowd.send(LOGIN + b"Content-Length: 262144\r\n\r\nx"), 20)) == 413
        crowd.reset()


async def test_answers_that_nobody_reads(dashboard: Dashboard, crowd: Crowd) -> None:
    """More of them than all together may wait for their readers: those of the oldest are thrown away."""
    history = History(dashboard.jobs, "large", namespace=dashboard.own)
    await history.happen("Submitted", State.SUBMITTED, data={"handler": "large"})
    for number in range(1, 60):
        await history.happen(f"Step {number}", State.RUNNING, data={"x": "y" * 16_000}, publish=False)
    ask = f"GET /api/jobs/{history.job_id} ".encode() + HEAD + bearer(dashboard.mallory) + b"\r\n"
    async with dashboard.serves_citizens():
        assert await crowd.send_many(120, ask, receive=4_096) == 120
        page = b"GET /static/vendor/uPlot.iife.min.js " + HEAD + b"\r\n"
        await crowd.send_many(60, page * 100, receive=4_096)
        crowd.reset()


async def test_slow_ones_are_left(dashboard: Dashboard, crowd: Crowd) -> None:
    """Byte by byte, or not at all: of the head, the body, the answer."""

    async def trickle(start: bytes, more: bytes) -> bytes:
        member = crowd.send(start)
        assert member
        arriving, loop = asyncio.create_task(ends(member, 40)), asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while not arriving.done():
                await loop.sock_sendall(member, more)
                await asyncio.sleep(0.3)
        return await arriving

    async def unread() -> None:
        """It never ends, so that it is cut although it goes on with it."""
        ask = b"GET /static/vendor/htmx.min.js " + HEAD + b"\r\n"
        member = crowd.send(ask * 190, receive=4_096)
        assert member
        async with asyncio.timeout(45):
            while not is_cut(member):
                await asyncio.sleep(0.3)

    async with dashboard.serves_citizens():
        head, chunked, sized, silent, _ = await asyncio.gather(
            trickle(b"GET / " + HEAD + b"X-Loris: ", b"x"),
            trickle(LOGIN + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
            trickle(LOGIN + b"Content-Length: 30000\r\n\r\n", b"x"),
            trickle(b"", b""),
            unread(),
        )
    assert (head, silent) == (b"", b"")
    assert (status_of(chunked), status_of(sized)) == (408, 408)


def elsewhere() -> httpx.AsyncHTTPTransport:
    """From an address of its own: rates are for each."""
    return httpx.AsyncHTTPTransport(local_address="127.0.0.2")


def is_cut(member: socket.socket) -> bool:
    """Whether the other end has reset the connection; nothing is read from it."""
    return bool(member.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)) or tcp_state(member) in (7, 8)


def tcp_state(member: socket.socket) -> int:
    """As Linux numbers them: 7 is closed, 8 is closed by the other end."""
    return member.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


async def test_one_persons_streams(dashboard: Dashboard, crowd: Crowd) -> None:
    """They do not take others' places, and nothing waits behind them."""
    path = f"/api/stream?namespace={dashboard.own}"
    ask = f"GET {path} ".encode() + HEAD + bearer(dashboard.mallory) + b"\r\n"
    async with dashboard.serves_citizens():
        await crowd.send_many(300, ask, receive=4_096)
        await ends(crowd.send(b"GET /login " + HEAD + b"\r\nGET / " + HEAD + b"X: " + b"y" * 250_000), 20)
        async with dashboard.client(dashboard.mallory) as http, asyncio.timeout(10):
            status = 0
            while status != 429:
                async with http.stream("GET", path) as one_more:
                    status = one_more.status_code
        event: JobEvent | None = None
        async with dashboard.client(dashboard.citizen) as http, http.stream("GET", path) as stream:
            assert stream.status_code == 200
            async for line in stream.aiter_lines():
                if event is None:
                    event = await History(dashboard.jobs, "heard", namespace=dashboard.own).happen(
                        "Submitted", State.SUBMITTED
                    )
                elif event.event_id in line:
                    break
        crowd.reset()


async def test_connections_that_are_cut(dashboard: Dashboard, crowd: Crowd) -> None:
    """In the middle of a head, of a body, of an answer, of a stream: nothing is left of them."""
    rng, token = random.Random(1), bearer(dashboard.mallory)
    requests = (
        b"GET / " + HEAD,
        b"GET / " + HEAD + b"\r\n",
        LOGIN + b"Content-Length: 1000\r\n\r\nxxx",
        LOGIN + b"Transfer-Encoding: chunked\r\n\r\nffff\r\nxxx",
        f"GET /jobs?namespace={dashboard.own} ".encode() + HEAD + token + b"\r\n",
        f"GET /api/stream?namespace={dashboard.own} ".encode() + HEAD + token + b"\r\n",
        b"GET /static/vendor/uPlot.iife.min.js " + HEAD + b"\r\n",
    )
    async with dashboard.serves_citizens():
        for _ in range(10):
            for _ in range(60):
                crowd.send(rng.choice(requests))
            await asyncio.sleep(rng.random() / 5)
            crowd.reset()
        async with asyncio.timeout(20):
            while await asyncio.to_thread(dashboard.running.metric, "joblease_sse_clients"):
                await asyncio.sleep(0.1)


async def test_floods_of_requests_of_nobody(dashboard: Dashboard) -> None:
    """Made-up sessions and tokens are not looked up for ever: storage and API server belong to the others."""
    seen: dict[int, int] = {}

    async def ask(http: httpx.AsyncClient, number: int) -> None:
        cookie = {"Cookie": f"joblease-session=made-up-{number}"}
        status = (await http.get("/api/jobs", headers=cookie)).status_code
        seen[status] = seen.get(status, 0) + 1

    async with dashboard.serves_citizens(), dashboard.client(transport=elsewhere()) as http:
        began = time.monotonic()
        for first in range(0, 400, 40):
            await asyncio.gather(*(ask(http, number) for number in range(first, first + 40)))
        assert set(seen) == {401, 429}
        assert seen[401] <= 100 + 10 * (time.monotonic() - began) + 1
