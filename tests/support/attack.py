"""A dashboard under attack: whom it serves, how much memory it takes, and requests that no client would send."""

import asyncio
import contextlib
import re
import secrets
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from support.jobs import Jobs
from support.programs import Program

RBAC = "rbac.authorization.k8s.io"
PATIENCE = 2.0
"""Seconds that a citizen waits for an answer while others attack, and ten times as long as without them."""
NO_TLS = ssl.create_default_context()  # once: that of a client's own takes 0.1 s
MEMORY = 512
"""MiB: what the chart gives it."""


@dataclass(frozen=True)
class Dashboard:
    """A dashboard of two namespaces, and whom it knows."""

    running: Program
    jobs: Jobs
    variables: dict[str, str]
    """Its environment."""
    own: str
    other: str
    mine: str
    """A job of `own`."""
    foreign: str
    """A job of `other`."""
    mallory: str
    """The token of somebody who may do everything in `own`."""
    citizen: str
    """The token of somebody else who may."""
    admin: str
    """The token of somebody who may do everything everywhere."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.running.port}"

    def client(self, token: str = "", **more: Any) -> httpx.AsyncClient:
        """A client with that token."""
        more.setdefault("verify", NO_TLS)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.AsyncClient(base_url=self.url, timeout=20, headers={**headers, **more.pop("headers", {})}, **more)

    def peak(self) -> int:
        """MiB that the process has had at most."""
        status = Path(f"/proc/{self.running.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found
        return int(found[1]) >> 10

    def check(self) -> None:
        """It lives, in bounds, and nothing in it has failed in a way that nobody has thought of."""
        assert self.running.process.returncode is None
        assert self.peak() < MEMORY, self.peak()
        assert "Traceback" not in self.running.output

    @asynccontextmanager
    async def serves_citizens(self) -> AsyncIterator[None]:
        """Whatever happens meanwhile, somebody else gets each answer in good time."""
        slowest, over = list[float](), asyncio.Event()

        async def live() -> None:
            while not over.is_set():
                slowest.append(await self._slowest())
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(over.wait(), 0.2)

        calm = max([await self._slowest() for _ in range(3)])
        living = asyncio.create_task(live())
        try:
            yield
        finally:
            over.set()
            await living
        assert max(slowest) < PATIENCE + 10 * calm, (slowest, calm)
        self.check()

    async def _slowest(self) -> float:
        """How long the slowest of a citizen's requests takes, in seconds."""
        taken = []
        async with self.client(self.citizen) as http:
            for path in (f"/jobs?namespace={self.own}", f"/api/jobs/{self.mine}?limit=1", "/login"):
                began = time.monotonic()
                answer = await http.get(path, headers={"Accept": "*/*" if "/api" in path else "text/html"})
                assert answer.status_code == 200, answer.text
                taken.append(time.monotonic() - began)
        return max(taken)

    async def raw(self, sent: bytes, timeout: float = 5, *, half: bool = False) -> bytes:
        """All that comes back for these bytes until the other end closes, or until it has been silent for that long."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.running.port)
        got = b""
        try:
            with contextlib.suppress(ConnectionError, TimeoutError):
                writer.write(sent)
                if half:
                    writer.write_eof()
                while piece := await asyncio.wait_for(reader.read(1 << 16), timeout):
                    got += piece
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        return got


def somewhere() -> dict[str, str]:
    """A header with an address of its own: sign-ins are counted for each."""
    return {"X-Forwarded-For": f"2001:db8:{secrets.token_hex(2)}:{secrets.token_hex(2)}::1"}


def status_of(answer: bytes) -> int:
    """The first answer's status; 0 when there is none."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0
