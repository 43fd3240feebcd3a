"""The live stream, event by event: nothing is left out and nothing comes twice, whatever is restarted or lost."""

import asyncio
import contextlib
import json
import random
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from joblease.messages import JobEvent
from joblease.states import State
from joblease.topology import EVENTS
from support.history import History
from support.jobs import Jobs
from support.programs import Program, program
from support.tcp_proxy import TcpProxy

Start = Callable[..., AbstractAsyncContextManager[Program]]


@pytest.fixture
def start(amqp_url: str, storage: str, tmp_path: Path) -> Start:
    @asynccontextmanager
    async def run(**environment: str) -> AsyncIterator[Program]:
        variables = {
            "JOBLEASE_AMQP_URL": amqp_url,
            "JOBLEASE_STORAGE_CONNECTION_STRING": storage,
            "JOBLEASE_DASHBOARD_HEARTBEAT_SECONDS": "0.3",
            **environment,
        }
        async with program("joblease-dashboard", variables, tmp_path / "dashboard.log") as running:
            yield running

    return run


class Watcher:
    """A browser: opens a stream again whenever it ends, and tells what it saw last."""

    def __init__(self, query: str = "") -> None:
        self.query = query
        self.last_id: str | None = None
        self.opened = asyncio.Event()
        self.heard = asyncio.Condition()
        self.kinds: Counter[str] = Counter()
        self.events: list[str] = []
        self.connections = 0

    async def watch(self, ports: list[int]) -> None:
        """Watch one dashboard after the other, until cancelled."""
        while True:
            with contextlib.suppress(httpx.TransportError):
                await self._connect(ports[self.connections % len(ports)])
            self.connections += 1
            await asyncio.sleep(0.02)

    async def sees(self, event_id: str) -> None:
        async with self.heard, asyncio.timeout(20):
            await self.heard.wait_for(lambda: event_id in self.events)

    async def has_seen(self, count: int) -> None:
        async with self.heard, asyncio.timeout(20):
            await self.heard.wait_for(lambda: len(self.events) >= count)

    async def _connect(self, port: int) -> None:
        headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
        url = f"http://127.0.0.1:{port}/api/stream{self.query}"
        async with httpx.AsyncClient(timeout=20) as client, client.stream("GET", url, headers=headers) as stream:
            if stream.status_code == 503:  # it has just started, and reads its log: a browser comes again, too
                return
            assert stream.status_code == 200
            fields: dict[str, str] = {}
            async for line in stream.aiter_lines():
                if line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                    continue
                async with self.heard:
                    self._take(fields)
                    self.heard.notify_all()
                fields = {}

    def _take(self, fields: dict[str, str]) -> None:
        self.last_id = fields.get("id", self.last_id)
        self.opened.set()
        if "data" in fields:
            self.kinds[fields["event"]] += 1
            if fields["event"] == "job":
                self.events.append(json.loads(fields["data"])["eventId"])


@asynccontextmanager
async def watching(ports: list[int], *watchers: Watcher) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(watcher.watch(ports)) for watcher in watchers]
    try:
        for watcher in watchers:
            await asyncio.wait_for(watcher.opened.wait(), 90)  # until its dashboard has read the log
        yield
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(each, asyncio.CancelledError) for each in ended), ended


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_each_event_comes_once_while_dashboards_are_restarted(jobs: Jobs, start: Start, number: int) -> None:
    """Writers' clocks differ, events are announced twice, and the watchers change from one replica to the other."""
    rng = random.Random(number)
    published: list[str] = []
    restarted = asyncio.Event()

    async def publish() -> None:
        now = datetime.now(UTC)
        writers = [History(jobs, f"restart-{n}", now + timedelta(seconds=rng.uniform(-5, 5))) for n in range(5)]
        while not restarted.is_set() or len(published) < 200:
            event = await rng.choice(writers).happen("Step 1", State.RUNNING)
            published.append(event.event_id)
            if rng.random() < 0.2:
                await jobs.broker.publish(EVENTS, event.routing_key, event.encode(), message_id=event.event_id)

    async with contextlib.AsyncExitStack() as stack:
        replicas = [await stack.enter_async_context(start()) for _ in range(2)]
        ports = [replica.port for replica in replicas]
        watchers = [Watcher() for _ in range(6)]
        async with watching(ports, *watchers):
            publishing = asyncio.create_task(publish())
            for turn in range(4):
                await replicas[turn % 2].stop(number)
                replicas[turn % 2] = await stack.enter_async_context(start())
                ports[turn % 2] = replicas[turn % 2].port
            restarted.set()
            await publishing
            for watcher in watchers:
                await watcher.sees(published[-1])
    assert all(watcher.connections > 2 for watcher in watchers)
    for watcher in watchers:
        assert Counter(watcher.events) == Counter(published)
        assert set(watcher.kinds) == {"job"}


async def test_no_event_is_lost_when_the_connection_to_the_broker_is(jobs: Jobs, start: Start, amqp_url: str) -> None:
    port = httpx.URL(amqp_url).port or 0
    async with (
        TcpProxy(port) as proxy,
        start(JOBLEASE_AMQP_URL=amqp_url.replace(f":{port}/", f":{proxy.port}/")) as dashboard,
    ):
        watcher, history = Watcher(), History(jobs, "cut")
        async with watching([dashboard.port], watcher):
            for _ in range(3):
                await history.happen("Step 1", State.RUNNING)
                proxy.cut()
                await history.happen("Step 2", State.RUNNING)
                await watcher.sees(history.events[-1].event_id)
            assert watcher.connections == 0
    assert watcher.events == [event.event_id for event in history.events]


async def test_a_stream_that_never_saw_an_event_resumes_too(jobs: Jobs, start: Start) -> None:
    watcher, history = Watcher(), History(jobs, "silent")
    ports: list[int] = []
    async with start() as first:
        ports.append(first.port)
        watching_both = watching(ports, watcher)
        await watching_both.__aenter__()
        await first.stop()
    await history.happen("Submitted", State.SUBMITTED)
    async with start() as second:
        ports[0] = second.port
        await watcher.sees(history.events[0].event_id)
        await watching_both.__aexit__(None, None, None)
    assert len(watcher.events) == 1


async def test_who_was_away_too_long_is_told_and_goes_on(jobs: Jobs, start: Start) -> None:
    history = History(jobs, "forgotten")
    async with start(JOBLEASE_DASHBOARD_STREAM_BUFFER="100") as dashboard:
        watcher = Watcher()
        async with watching([dashboard.port], watcher):
            await history.happen("Submitted", State.SUBMITTED)
            await watcher.sees(history.events[0].event_id)
        witness = Watcher()
        async with watching([dashboard.port], witness):
            await flood(jobs, history.events[0], 150)
            await witness.has_seen(150)
            async with watching([dashboard.port], watcher):
                while not watcher.kinds["missed"]:
                    await asyncio.sleep(0.01)
                await history.happen("Completed", State.COMPLETED)
                await watcher.sees(history.events[-1].event_id)
    assert watcher.kinds == {"job": 2, "missed": 1}
    assert witness.kinds == {"job": 151}


async def test_a_quiet_stream_keeps_its_place(jobs: Jobs, start: Start) -> None:
    """A stream of one job hears nothing of the others, and yet has not missed anything when it comes back."""
    history, other = History(jobs, "quiet"), History(jobs, "loud")
    async with start(JOBLEASE_DASHBOARD_STREAM_BUFFER="100") as dashboard:
        watcher, witness = Watcher(f"?jobId={history.job_id}"), Watcher()
        async with watching([dashboard.port], watcher, witness):
            await other.happen("Submitted", State.SUBMITTED)
            await flood(jobs, other.events[0], 150)
            await witness.has_seen(151)
            reached = witness.last_id
            assert reached
            async with asyncio.timeout(10):
                while int(watcher.last_id or 0) < int(reached):
                    await asyncio.sleep(0.01)
        await history.happen("Submitted", State.SUBMITTED)
        async with watching([dashboard.port], watcher):
            await watcher.sees(history.events[0].event_id)
    assert watcher.kinds == {"job": 1}


async def test_a_client_that_does_not_read_holds_up_nobody(jobs: Jobs, start: Start) -> None:
    """It costs no memory beyond its socket, and is told what happened when it reads again."""
    history = History(jobs, "slow")
    await history.happen("Submitted", State.SUBMITTED, message="x" * 1_000)
    async with start(JOBLEASE_DASHBOARD_STREAM_BUFFER="1000") as dashboard:
        with socket.socket() as sleeper:
            sleeper.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            sleeper.connect(("127.0.0.1", dashboard.port))
            sleeper.sendall(b"GET /api/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            watcher = Watcher()
            async with watching([dashboard.port], watcher):
                await flood(jobs, history.events[0], 6_000)
                await watcher.has_seen(6_000)
            assert watcher.kinds == {"job": 6_000}
            sleeper.settimeout(10)
            text = await asyncio.to_thread(_read_until, sleeper, b"event: missed")
    assert 0 < text.count(b"event: job") < 6_000


async def test_there_is_a_bound_on_open_streams(start: Start) -> None:
    async with start(JOBLEASE_DASHBOARD_STREAM_CLIENTS="1") as dashboard:
        watcher = Watcher()
        async with watching([dashboard.port], watcher), httpx.AsyncClient() as client:
            answer = await client.get(f"http://127.0.0.1:{dashboard.port}/api/stream")
            assert (answer.status_code, answer.json()["title"]) == (503, "Too many streams")
        async with asyncio.timeout(20):
            while await asyncio.to_thread(dashboard.metric, "joblease_sse_clients"):
                await asyncio.sleep(0.05)
        async with watching([dashboard.port], watcher):  # its place is free again
            assert watcher.kinds == {}


async def test_one_person_does_not_take_all_streams(start: Start) -> None:
    async with start(JOBLEASE_DASHBOARD_STREAMS_EACH="2", JOBLEASE_DASHBOARD_TRUSTED_PROXIES='["127.0.0.0/8"]') as one:
        watchers = [Watcher(), Watcher()]
        async with watching([one.port], *watchers), httpx.AsyncClient(timeout=20) as client:
            url = f"http://127.0.0.1:{one.port}/api/stream"
            answer = await client.get(url)
            assert (answer.status_code, answer.json()["title"]) == (429, "Too many streams")
            async with client.stream("GET", url, headers={"X-Forwarded-For": "192.0.2.7"}) as other:
                assert other.status_code == 200


async def test_who_asks_for_the_head_of_a_stream_waits_for_no_end(start: Start) -> None:
    """A proxy may send the next request, somebody else's, on the same connection."""
    async with start() as dashboard:
        reader, writer = await asyncio.open_connection("127.0.0.1", dashboard.port)
        async with asyncio.timeout(20):
            for method, path in (("HEAD", "/api/stream"), ("GET", "/api/workers")):
                writer.write(f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200 "), head
                assert (b"text/event-stream" in head) is (path == "/api/stream")
        writer.close()
        assert dashboard.metric("joblease_sse_clients") == 0


async def test_a_reader_writes_nothing(jobs: Jobs, start: Start) -> None:
    """A number that the log will come to, some day, makes nobody write into it."""
    history = History(jobs, "future")
    async with start() as dashboard:
        witness = Watcher()
        async with watching([dashboard.port], witness):
            await history.happen("Submitted", State.SUBMITTED)
            await witness.sees(history.events[0].event_id)
            before = int(witness.last_id or 0)
            futures = [Watcher() for _ in range(5)]
            for watcher in futures:
                watcher.last_id = str(before + 1_000_000)
            async with watching([dashboard.port], *futures), asyncio.timeout(20):
                while not all(watcher.kinds["missed"] for watcher in futures):
                    await asyncio.sleep(0.05)
            await history.happen("Completed", State.COMPLETED)
            await witness.sees(history.events[1].event_id)
        assert int(witness.last_id or 0) == before + 1


async def test_an_id_that_nobody_gave_out_is_not_believed(jobs: Jobs, start: Start) -> None:
    history = History(jobs, "impossible")
    async with start() as dashboard:
        for last_id in ("999999999", "nonsense", "98240/0012-x"):
            watcher = Watcher()
            watcher.last_id = last_id
            async with watching([dashboard.port], watcher):
                await history.happen("Step 1", State.RUNNING)
                await watcher.sees(history.events[-1].event_id)
            assert watcher.kinds["missed"] == 1, last_id


async def flood(jobs: Jobs, like: JobEvent, count: int) -> None:
    """Announce events that nobody wrote; the stream does not mind."""

    async def announce(number: int) -> None:
        event = like.model_copy(update={"event_id": f"{like.event_id}-{number}", "sequence": number + 2})
        await jobs.broker.publish(EVENTS, event.routing_key, event.encode(), message_id=event.event_id)

    for first in range(0, count, 50):
        await asyncio.gather(*(announce(number) for number in range(first, min(first + 50, count))))


def _read_until(connection: socket.socket, wanted: bytes) -> bytes:
    text: Any = bytearray()
    while wanted not in text:
        piece = connection.recv(1 << 16)
        assert piece, "the stream ended"
        text += piece
    return bytes(text)


async def test_what_is_stale_is_said_and_history_goes_on_without_the_broker(
    jobs: Jobs, start: Start, amqp_url: str
) -> None:
    port = httpx.URL(amqp_url).port or 0
    async with (
        TcpProxy(port) as proxy,
        start(JOBLEASE_AMQP_URL=amqp_url.replace(f":{port}/", f":{proxy.port}/")) as dashboard,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{dashboard.port}", timeout=20) as http,
    ):

        async def says_stale() -> bool:
            page = await http.get("/jobs", headers={"Accept": "text/html"})
            assert page.status_code == 200
            return 'id="stale" class="error" role="status">' in page.text

        async def becomes(*, stale: bool) -> None:
            async with asyncio.timeout(30):
                while await says_stale() is not stale:
                    await asyncio.sleep(0.05)

        watcher, history = Watcher(), History(jobs, "stale")
        async with watching([dashboard.port], watcher):
            await becomes(stale=False)
            proxy.block()
            proxy.cut()
            await becomes(stale=True)
            async with watcher.heard, asyncio.timeout(20):
                await watcher.heard.wait_for(lambda: watcher.kinds["stale"] == 1)
            assert (await http.get("/api/events")).status_code == 200
            assert dashboard.read("/readyz")[0] == 200
            await history.happen("Step 1", State.RUNNING)
            proxy.unblock()
            await becomes(stale=False)
            await watcher.sees(history.events[-1].event_id)
            async with watcher.heard, asyncio.timeout(20):
                await watcher.heard.wait_for(lambda: watcher.kinds["fresh"] == 1)
    assert watcher.kinds == {"job": 1, "stale": 1, "fresh": 1}
