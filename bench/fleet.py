"""Workers of JobLease and of its contenders, started, loaded and measured in the same way.

Jobs are given to workers that are up, warm and stopped (SIGSTOP), and the clock starts as they are continued: neither
start-up nor publishing is measured, and all workers begin in the same moment.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pika
from contenders import record
from joblease.messages import JobMessage
from pika.exceptions import ChannelClosedByBroker

BENCH = Path(__file__).parent
BIN = Path(sys.executable).parent
PATIENCE_SECONDS = 120
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Run:
    """What it took to do some jobs."""

    began: float
    """When the workers were let loose; seconds since 1970."""
    seconds: float
    """From then until the last job was counted."""
    cpu_seconds: Mapping[str, float]
    """User and system time of `workers`, with all that they have started, and of the others by name."""


class Fleet:
    """Some workers of one contender (a module of `contenders`)."""

    def __init__(self, contender: ModuleType, workers: int, concurrency: int, folder: Path) -> None:
        self._contender = contender
        self._queue: str | None = getattr(contender, "QUEUE", None)
        self._log = folder / f"{contender.__name__.rpartition('.')[2]}.log"
        self._orders = folder / "orders"
        self._processes: list[subprocess.Popen[bytes]] = []
        for number in range(1, workers + 1):
            command, environment = contender.command(number, concurrency)
            with self._log.open("ab") as output:
                process = subprocess.Popen(
                    [BIN / command[0], *command[1:]],
                    env={**os.environ, "PYTHONPATH": str(BENCH), **environment},
                    cwd=BENCH,
                    stdin=subprocess.DEVNULL if self._queue else subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            self._processes.append(process)

    def until_ready(self) -> None:
        """Wait until all of them consume."""
        queue = self._queue
        if queue:
            self._until(lambda: consumers(queue) == len(self._processes), "all workers consume")

    def run(self, jobs: Sequence[JobMessage], others: Mapping[str, int], **options: bool) -> Run:
        """Give them jobs, and wait until all are done.

        `others` are process ids by name, whose CPU time is of interest too; `options` go to the contender's `publish`.
        """
        record.forget()
        self._signal(signal.SIGSTOP)
        try:
            self._deliver(jobs, **options)
            before = self._cpu_seconds(others)
            began, clock = time.time(), time.monotonic()
        finally:
            self._signal(signal.SIGCONT)
        self._until(lambda: record.noted() >= len(jobs), f"all {len(jobs)} jobs are done")
        seconds = time.monotonic() - clock
        after = self._cpu_seconds(others)
        if record.noted() > len(jobs):
            raise SystemExit(f"{self._contender.__name__}: {record.noted()} runs of {len(jobs)} jobs")
        return Run(began, seconds, {name: after[name] - before[name] for name in after})

    def end(self) -> None:
        """Kill them: nothing is left to do."""
        self._signal(signal.SIGKILL)
        for process in self._processes:
            process.wait()
            if process.stdin:
                process.stdin.close()

    def _deliver(self, jobs: Sequence[JobMessage], **options: bool) -> None:
        if self._queue:
            asyncio.run(self._contender.publish(jobs, **options))
            return
        for number, process in enumerate(self._processes):  # without a broker, each gets its share
            share = self._orders.with_suffix(f".{number}")
            share.write_bytes(b"\n".join(job.encode() for job in jobs[number :: len(self._processes)]))
            if process.stdin:
                process.stdin.write(f"{share}\n".encode())
                process.stdin.flush()

    def _cpu_seconds(self, others: Mapping[str, int]) -> dict[str, float]:
        used = {name: cpu_seconds([pid]) for name, pid in others.items()}
        return {"workers": cpu_seconds(process.pid for process in self._processes), **used}

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            ended = [process.returncode for process in self._processes if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                problem = f"a worker ended with code {ended[0]}" if ended else f"not within {PATIENCE_SECONDS} s"
                raise SystemExit(f"{self._contender.__name__}: {what}: {problem}; see {self._log}")
            time.sleep(0.01)

    def _signal(self, number: int) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)


@contextlib.contextmanager
def fleet(contender: ModuleType, workers: int, concurrency: int, folder: Path) -> Iterator[Fleet]:
    """Workers that are ready to work, killed at the end."""
    started = Fleet(contender, workers, concurrency, folder)
    try:
        started.until_ready()
        yield started
    finally:
        started.end()


def consumers(queue: str) -> int:
    """How many consumers a queue has; 0 when there is no such queue."""
    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(os.environ["JOBLEASE_AMQP_URL"]))) as broker:
        try:
            return int(broker.channel().queue_declare(queue, passive=True).method.consumer_count)
        except ChannelClosedByBroker:
            return 0


def delete_queues(*queues: str) -> None:
    """Forget queues with what is in them."""
    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(os.environ["JOBLEASE_AMQP_URL"]))) as broker:
        for queue in queues:
            broker.channel().queue_delete(queue)


def family(roots: Iterable[int]) -> dict[int, list[str]]:
    """Living processes and all that descend from them, with the kernel's fields about each from its state on."""
    stats: dict[int, list[str]] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with contextlib.suppress(OSError):
                stats[int(path.name)] = (path / "stat").read_text().rsplit(")", 1)[1].split()
    members = set(roots)
    while grown := {pid for pid, fields in stats.items() if int(fields[1]) in members} - members:
        members |= grown
    return {pid: stats[pid] for pid in members & stats.keys()}


def cpu_seconds(roots: Iterable[int]) -> float:
    """User and system time so far of living processes and all that descend from them."""
    return sum(int(fields[11]) + int(fields[12]) for fields in family(roots).values()) / _TICKS
