"""Workers of JobLease and of its contenders, started, loaded and measured in the same way.

Jobs are given to workers that are up, warm and stopped (SIGSTOP), and the clock starts as they are continued: neither
start-up nor publishing is measured, and all workers begin in the same moment.
"""

import asyncio
import contextlib
import os
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from contenders import record
from joblease.messages import JobMessage
from parts import consumers
from processes import BENCH, BIN, attempts, cpu_seconds

PATIENCE_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Run:
    """What it took to do some jobs."""

    jobs: int
    began: float
    """When the workers were let loose; seconds since 1970."""
    seconds: float
    """From then until the last job was counted."""
    cpu_seconds: Mapping[str, float]
    """User and system time of `workers`, with all that they have started, and of the others by name."""


def cpu_ms(runs: Sequence[Run], part: str) -> float:
    """Milliseconds of a part's processor time for each job, the median of some runs."""
    return statistics.median(run.cpu_seconds[part] / run.jobs * 1000 for run in runs)


class Fleet:
    """Some workers of one contender (a module of `contenders`)."""

    def __init__(self, contender: str, workers: int, concurrency: int, folder: Path) -> None:
        self._contender = import_module(f"contenders.{contender}_tasks")
        self._queue: str | None = getattr(self._contender, "QUEUE", None)
        self._log = folder / f"{contender}.log"
        self._orders = folder / "orders"
        self._processes: list[subprocess.Popen[bytes]] = []
        for number in range(1, workers + 1):
            command, environment = self._contender.command(number, concurrency)
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
        if queue := self._queue:
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
        return Run(len(jobs), began, seconds, {name: after[name] - before[name] for name in after})

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
        used = {name: cpu_seconds(pid) for name, pid in others.items()}
        return {"workers": cpu_seconds(*(process.pid for process in self._processes)), **used}

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        for _ in attempts(PATIENCE_SECONDS, f"{self._contender.__name__}: {what}; see {self._log}"):
            if condition():
                return
            for process in self._processes:
                if process.poll() is not None:
                    raise SystemExit(f"a worker ended with code {process.returncode}; see {self._log}")
            time.sleep(0.01)

    def _signal(self, number: int) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)


@contextlib.contextmanager
def fleets(contenders: Iterable[str], workers: int, concurrency: int, folder: Path) -> Iterator[dict[str, Fleet]]:
    """Workers of each contender that are ready to work, killed at the end."""
    os.environ[record.FILE] = str(folder / "record")
    with contextlib.ExitStack() as stack:
        started: dict[str, Fleet] = {}
        for contender in dict.fromkeys(contenders):
            started[contender] = Fleet(contender, workers, concurrency, folder)
            stack.callback(started[contender].end)
            started[contender].until_ready()
        yield started
