"""How soon an event is seen by those who watch (milliseconds), and what a watcher costs (KiB): `make bench-live`.

A dashboard on a broker and storage of its own, with 1, 100 and 1,000 live streams open. Events are written and
published as a worker does it, at a steady rate; the clock starts when the event is in the audit trail and stops when a
client has read it. Each round starts a fresh dashboard, because memory that was once used stays with the process.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from joblease import topology
from joblease.broker import Broker
from joblease.head import Head
from joblease.messages import Status, now
from joblease.settings import BrokerSettings, StorageSettings
from joblease.states import State
from joblease.storage import TRAIL_TABLE, Storage
from joblease.topology import EVENTS
from joblease.trail import AuditTrail, NewEvent
from parts import DASHBOARD_PORT, broker_and_storage, dashboard
from processes import BENCH, attempts, cpu_seconds, memory
from report import Plot, Report, Row, Target, arguments, at_most, median, percentile, spread

LOADS = ((1, 20), (100, 20), (1_000, 5), (1_000, 20))
"""Clients, and events a second."""
SECONDS = 10
PATIENCE_SECONDS = 60
SETTLE_SECONDS = 1


@dataclass(frozen=True, slots=True)
class Round:
    """What one round has found."""

    latencies: list[float]
    """Milliseconds, of each event and client."""
    base: float
    """MiB of the dashboard that nobody watches."""
    watched: float
    """The same with all streams open, after the last event."""
    cpu: float
    """Processor time of the dashboard, per second."""


class Watchers:
    """The process with the clients."""

    def __init__(self, process: "subprocess.Popen[str]", clients: int) -> None:
        self._process, self._clients = process, clients
        if self._say("") != "open":
            raise SystemExit(f"the clients ended with code {process.wait()}")

    def seen(self, message: str) -> list[float]:
        """When each client saw an event. Ends the program when one has not after a while, or sees it twice."""
        times: list[float] = []
        for _ in attempts(PATIENCE_SECONDS, f"event {message} is seen by {self._clients} clients"):
            times = json.loads(self._say(f"{message}\n"))
            if len(times) >= self._clients:
                break
            time.sleep(0.2)
        if len(times) > self._clients:
            raise SystemExit(f"event {message}: seen {len(times)} times by {self._clients} clients")
        return times

    def _say(self, line: str) -> str:
        assert self._process.stdin and self._process.stdout  # noqa: S101, PT018 - for the type
        self._process.stdin.write(line)
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


@contextmanager
def watching(clients: int) -> Iterator[Watchers]:
    command = [sys.executable, str(BENCH / "stream_clients.py"), str(DASHBOARD_PORT), str(clients)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Watchers(process, clients)
            process.communicate("\n", timeout=PATIENCE_SECONDS)
        finally:
            process.kill()


async def publish(rate: int, seconds: int) -> dict[str, float]:
    """Events of a job at a steady rate, as a worker does it; when each was in the trail, by its message."""
    written: dict[str, float] = {}
    head = Head(str(uuid4()), "default", "bench-live", "demo", "default", "default", now())
    async with (
        Storage(StorageSettings()) as storage,
        Broker(BrokerSettings(), "bench-live", topology.declare_exchanges) as broker,
    ):
        await storage.create_tables(TRAIL_TABLE)
        await asyncio.wait_for(broker.connected(), PATIENCE_SECONDS)
        trail, started = AuditTrail(storage.table(TRAIL_TABLE)), time.monotonic()
        for number in range(rate * seconds):
            await asyncio.sleep(started + number / rate - time.monotonic())
            event = NewEvent(Status.step(number) if number else Status.SUBMITTED, message=f"event-{number}")
            head, events = await trail.append(head, [event], state=State.RUNNING)
            written[event.message] = time.monotonic()
            for each in events:
                await broker.publish(EVENTS, each.routing_key, each.encode(), message_id=each.event_id)
    return written


def measure(folder: Path, clients: int, rate: int, seconds: int) -> Round:
    with dashboard(folder) as pid:
        time.sleep(SETTLE_SECONDS)  # what starting up leaves behind is done
        base = memory([pid])["Rss"]
        with watching(clients) as watchers:
            before, since = cpu_seconds(pid), time.monotonic()
            written = asyncio.run(publish(rate, seconds))
            used = (cpu_seconds(pid) - before) / (time.monotonic() - since)
            latencies = [(at - when) * 1000 for message, when in written.items() for at in watchers.seen(message)]
            return Round(latencies, base, memory([pid])["Rss"], used)


def row(clients: int, rate: int, rounds: Sequence[Round]) -> Row:
    return {
        "clients": clients,
        "events/s": rate,
        "p50 ms": spread(percentile(each.latencies, 0.5) for each in rounds),
        "p99 ms": spread(percentile(each.latencies, 0.99) for each in rounds),
        "max ms": spread(max(each.latencies) for each in rounds),
        "KiB per client": spread((each.watched - each.base) * 1024 / clients for each in rounds),
        "dashboard MiB": spread(each.watched for each in rounds),
        "dashboard CPU %": spread(each.cpu * 100 for each in rounds),
    }


def targets(rows: Sequence[Row]) -> list[Target]:
    """Seen in time by all, at a bounded price."""
    most = max(median(each["clients"]) for each in rows)
    last = [each for each in rows if each["clients"] == most]
    return [
        at_most("p99 of every load", 250, max(median(each["p99 ms"]) for each in rows), "ms"),
        at_most("memory of a client", 200, max(median(each["KiB per client"]) for each in last), "KiB"),
        at_most(f"dashboard with {most:,.0f} clients", 200, max(median(each["dashboard MiB"]) for each in last), "MiB"),
    ]


def main() -> None:
    options = arguments(__doc__, rounds=3)
    loads, seconds = (((10, 5),), 2) if options.quick else (LOADS, SECONDS)
    found: dict[tuple[int, int], list[Round]] = {load: [] for load in loads}
    with broker_and_storage("live") as (folder, _):
        for number in range(options.rounds):
            for load in loads:
                print(f"round {number + 1}: {load[0]} clients, {load[1]} events a second", flush=True)
                found[load].append(measure(folder, *load, seconds))
    rows = [row(*load, rounds) for load, rounds in found.items()]
    Report(
        name="live",
        question="From an event in the audit trail to the browsers that watch: how long, and what does a browser cost?",
        rounds=options.rounds,
        rows=rows,
        targets=targets(rows),
        notes=(
            "Every client got every event exactly once; a round in which one does not is not reported.",
            f"Written and published as a worker does it, for {seconds} s. 1,000 clients share the two processors.",
            "KiB per client: what the dashboard grows by; with one client that is what the events themselves take.",
        ),
        plot=Plot(x="clients", y="p99 ms", by="events/s", log_x=True),
    ).publish(options.write)


if __name__ == "__main__":
    main()
