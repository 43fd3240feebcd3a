"""How soon an event is seen by those who watch, and what a watcher costs: `make bench-live`.

A dashboard on a broker and storage of its own, with 1, 100 and 1,000 live streams open. Events are written and
published as a worker does it, at a steady rate; the clock starts when the event is in the audit trail and stops when a
client has read it. Each round starts a fresh dashboard, because memory that was once used stays with the process.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
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
from joblease_local.processes import recorded
from joblease_local.program import Program
from parts import DASHBOARD_PORT, PROBES_PORT, broker_and_storage
from report import Plot, Report, Row, Spread, Target, arguments, median, percentile, spread

LOADS = ((1, 20), (100, 20), (1_000, 5), (1_000, 20))
"""Clients, and events a second."""
SECONDS = 10
PATIENCE_SECONDS = 60
SETTLE_SECONDS = 1
MAX_MILLISECONDS, MAX_KIB, MAX_MIB = 250, 200, 200


@dataclass(frozen=True, slots=True)
class Round:
    """What one round has found."""

    latencies: list[float]
    """Seconds, of each event and client."""
    base_kib: int
    """Memory of the dashboard that nobody watches."""
    memory_kib: int
    """The same with all streams open, after the last event."""
    cpu_seconds: float
    """Processor time of the dashboard, per second."""


class Watchers:
    """The process with the clients."""

    def __init__(self, clients: int) -> None:
        self._clients = clients
        script = Path(__file__).with_name("stream_clients.py")
        self._process = subprocess.Popen(
            [sys.executable, script, str(DASHBOARD_PORT), str(clients)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._expect("open")

    def seen(self, message: str) -> list[float]:
        """When each client saw an event. Ends the program when one has not after a while, or sees it twice."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(times := self._ask(message)) < self._clients:
            if time.monotonic() > deadline:
                raise SystemExit(f"event {message}: seen by {len(times)} of {self._clients} clients")
            time.sleep(0.2)
        if len(times) > self._clients:
            raise SystemExit(f"event {message}: seen {len(times)} times by {self._clients} clients")
        return times

    def end(self) -> None:
        """Close all streams."""
        self._process.communicate("\n", timeout=PATIENCE_SECONDS)

    def _ask(self, message: str) -> list[float]:
        assert self._process.stdin and self._process.stdout  # noqa: S101, PT018 - for the type
        self._process.stdin.write(f"{message}\n")
        self._process.stdin.flush()
        answer: list[float] = json.loads(self._process.stdout.readline())
        return answer

    def _expect(self, word: str) -> None:
        assert self._process.stdout  # noqa: S101 - for the type
        if self._process.stdout.readline().strip() != word:
            raise SystemExit(f"the clients ended with code {self._process.wait()}")


class Publisher:
    """A job whose steps are written and published as a worker does it."""

    def __init__(self, trail: AuditTrail, broker: Broker) -> None:
        self._trail = trail
        self._broker = broker
        job_id = str(uuid4())
        self._head = Head(job_id, "default", "bench-live", "demo", "default", "default", now())

    async def step(self, number: int) -> float:
        """Write an event; when it was in the trail."""
        event = NewEvent(Status.step(number) if number else Status.SUBMITTED, message=f"event-{number}")
        self._head, written = await self._trail.append(self._head, [event], state=State.RUNNING)
        at = time.monotonic()
        for each in written:
            await self._broker.publish(EVENTS, each.routing_key, each.encode(), message_id=each.event_id)
        return at


@asynccontextmanager
async def publisher() -> AsyncIterator[Publisher]:
    """On the broker and the storage that the environment names."""
    async with (
        Storage(StorageSettings()) as storage,
        Broker(BrokerSettings(), "bench-live", topology.declare_exchanges) as broker,
    ):
        await storage.create_tables(TRAIL_TABLE)
        await asyncio.wait_for(broker.connected(), PATIENCE_SECONDS)
        yield Publisher(AuditTrail(storage.table(TRAIL_TABLE)), broker)


async def publish(rate: int) -> dict[str, float]:
    """Events at a steady rate; when each was in the trail, by its message."""
    written: dict[str, float] = {}
    async with publisher() as events:
        started = time.monotonic()
        for number in range(rate * SECONDS):
            await asyncio.sleep(started + number / rate - time.monotonic())
            written[f"event-{number}"] = await events.step(number)
    return written


@contextmanager
def dashboard(folder: Path) -> Iterator[int]:
    """A fresh dashboard; its process id."""
    script = Path(sys.executable).parent / "joblease-dashboard"
    environment = {
        "JOBLEASE_DASHBOARD_PORT": str(DASHBOARD_PORT),
        "JOBLEASE_METRICS_PORT": str(PROBES_PORT),
        "JOBLEASE_LOG_FORMAT": "json",
    }
    program = Program(script, "dashboard", folder, PROBES_PORT, environment)
    program.start()
    try:
        program.ready()
        yield recorded(folder)["dashboard"]
    finally:
        program.stop()


def measure(folder: Path, clients: int, rate: int) -> Round:
    """One round."""
    with dashboard(folder) as pid:
        time.sleep(SETTLE_SECONDS)  # what starting up leaves behind is done
        base = memory(pid)
        watchers = Watchers(clients)
        try:
            before, since = cpu(pid), time.monotonic()
            written = asyncio.run(publish(rate))
            used = (cpu(pid) - before) / (time.monotonic() - since)
            latencies = [at - when for message, when in written.items() for at in watchers.seen(message)]
            return Round(latencies, base, memory(pid), used)
        finally:
            watchers.end()


def memory(pid: int) -> int:
    """Resident memory of a process, KiB."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1])


def cpu(pid: int) -> float:
    """Processor time of a process so far, seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def row(clients: int, rate: int, rounds: Sequence[Round]) -> dict[str, int | Spread]:
    """The figures of one load."""
    return {
        "clients": clients,
        "events/s": rate,
        "p50 ms": spread([percentile(each.latencies, 0.5) * 1000 for each in rounds]),
        "p99 ms": spread([percentile(each.latencies, 0.99) * 1000 for each in rounds]),
        "max ms": spread([max(each.latencies) * 1000 for each in rounds]),
        "KiB per client": spread([(each.memory_kib - each.base_kib) / clients for each in rounds]),
        "dashboard MiB": spread([each.memory_kib / 1024 for each in rounds]),
        "dashboard CPU %": spread([each.cpu_seconds * 100 for each in rounds]),
    }


def main() -> None:
    """Entry point."""
    options = arguments(__doc__, rounds=3)
    found: dict[tuple[int, int], list[Round]] = {load: [] for load in LOADS}
    with broker_and_storage("live") as (folder, _):
        for number in range(options.rounds):
            for load in LOADS:
                print(f"round {number + 1}: {load[0]} clients, {load[1]} events a second", flush=True)
                found[load].append(measure(folder, *load))
    rows = [row(*load, rounds) for load, rounds in found.items()]
    Report(
        name="live",
        question="From an event in the audit trail to the browsers that watch: how long, and what does a browser cost?",
        rounds=options.rounds,
        rows=rows,
        targets=targets(rows),
        notes=(
            "Every client got every event exactly once; a round in which one does not is not reported.",
            f"Written and published as a worker does it, for {SECONDS} s. 1,000 clients share the two processors.",
            "KiB per client: what the dashboard grows by; with one client that is what the events themselves take.",
        ),
        plot=Plot(x="clients", y="p99 ms", by="events/s", log_x=True),
    ).publish(options.write)


def targets(rows: Sequence[Row]) -> list[Target]:
    """Seen in time by all, at a bounded price."""
    last = [each for each in rows if each["clients"] == LOADS[-1][0]]
    slowest = max(median(each["p99 ms"]) for each in rows)
    dearest = max(median(each["KiB per client"]) for each in last)
    largest = max(median(each["dashboard MiB"]) for each in last)
    return [
        Target("p99 of every load", f"≤ {MAX_MILLISECONDS} ms", f"{slowest:.0f} ms", slowest <= MAX_MILLISECONDS),
        Target("memory of a client", f"≤ {MAX_KIB} KiB", f"{dearest:.0f} KiB", dearest <= MAX_KIB),
        Target("dashboard with 1,000 clients", f"≤ {MAX_MIB} MiB", f"{largest:.0f} MiB", largest <= MAX_MIB),
    ]


if __name__ == "__main__":
    main()
