"""A TCP proxy that breaks connections in the ways that networks do."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Self
from urllib.parse import urlsplit

BLOCK = 65_536


class TcpProxy:
    """Listens on a loopback port and forwards to another. Use as an async context manager."""

    def __init__(self, target_port: int, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._target_port = target_port
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._open.set()
        self.delay = 0.0
        """Seconds that each block waits, in each direction."""
        self.refusal: bytes | None = None
        """What clients get instead of an answer; the connection is closed after it."""
        self.observer: Callable[[str, bytes], bool] | None = None
        """Sees each `request` and `answer` block before it is forwarded or refused; False closes the connection."""
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def cut(self) -> None:
        """Reset all connections; new ones are accepted."""
        for writer in list(self._writers):
            endpoint = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    def block(self) -> None:
        """Forward nothing any more, and say nothing about it."""
        self._open.clear()

    def unblock(self) -> None:
        """Forward again, what was held back first."""
        self._open.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        target: asyncio.StreamWriter | None = None
        try:
            await self._open.wait()
            answers, target = await asyncio.open_connection("127.0.0.1", self._target_port)
            self._writers.add(target)
            both = [
                asyncio.create_task(self._pump("request", reader, target, writer)),
                asyncio.create_task(self._pump("answer", answers, writer)),
            ]
            try:
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in both:
                    each.cancel()
                await asyncio.gather(*both, return_exceptions=True)
        except (OSError, asyncio.CancelledError):  # a target that is away is a refused connection
            pass
        finally:
            self._tasks.discard(task)
            for end in filter(None, (writer, target)):
                self._writers.discard(end)
                end.close()

    async def _pump(
        self,
        kind: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        client: asyncio.StreamWriter | None = None,
    ) -> None:
        with contextlib.suppress(OSError):
            while block := await reader.read(BLOCK):
                if self.delay:
                    await asyncio.sleep(self.delay)
                await self._open.wait()
                if self.observer and not self.observer(kind, block):
                    return
                if client and self.refusal:
                    client.write(self.refusal)
                    await client.drain()
                    return
                writer.write(block)
                await writer.drain()


async def storage_through_proxies(connection_string: str, stack: AsyncExitStack) -> tuple[str, list[TcpProxy]]:
    """A connection string that leads to the same storage through proxies, and the proxies."""
    proxies = []
    for part in connection_string.split(";"):
        if "Endpoint=" in part:
            port = urlsplit(part.split("=", 1)[1]).port or 0
            proxy = await stack.enter_async_context(TcpProxy(port))
            connection_string = connection_string.replace(f":{port}/", f":{proxy.port}/")
            proxies.append(proxy)
    return connection_string, proxies
