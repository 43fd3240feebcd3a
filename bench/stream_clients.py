"""Clients of the live stream, a process of their own: `python stream_clients.py PORT CLIENTS`.

Bare sockets, so that a thousand of them take little of a machine that is being measured. Says `open` when every stream
is open, and for each line on its standard input (an event's message) one line of JSON on standard output: when each
client has seen that event, in seconds of the machine's monotonic clock. A client that misses an event, or sees it
twice, shows by the number of times.
"""

import asyncio
import json
import re
import sys
import time
from collections import defaultdict

REQUEST = b"GET /api/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n"
OPEN_AT_ONCE = 20
_MESSAGE = re.compile(rb'"message":"([^"]*)"')


class Client(asyncio.Protocol):
    """One stream."""

    seen: dict[str, list[float]] = defaultdict(list)  # noqa: RUF012 - of all clients together

    def __init__(self) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the stream."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type
        transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        """Note which events have come."""
        at = time.monotonic()
        *frames, self._rest = (self._rest + data).split(b"\n\n")
        for frame in frames:
            if b"retry: " in frame and not self.opened.done():
                self.opened.set_result(None)
            if found := _MESSAGE.search(frame):
                self.seen[found[1].decode()].append(at)

    def connection_lost(self, _: Exception | None) -> None:
        """A stream that ends shows by the events that are missing; one that never opened ends the program."""
        if not self.opened.done():
            self.opened.set_exception(SystemExit("a stream was refused"))


async def main(port: int, clients: int) -> None:
    loop, slots = asyncio.get_running_loop(), asyncio.Semaphore(OPEN_AT_ONCE)

    async def connect() -> None:
        async with slots:
            _, client = await loop.create_connection(Client, "127.0.0.1", port)
            await client.opened

    await asyncio.gather(*(connect() for _ in range(clients)))
    print("open", flush=True)
    while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
        print(json.dumps(Client.seen[line]), flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
