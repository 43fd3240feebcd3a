"""What a job costs each program and part, in milliseconds of processor time and in requests: `make bench-price`.

A whole installation does jobs without a limit, from `JobRequest` created to deleted: no-ops, and jobs of ten steps.
Counted are the processor time of every process, and what the programs say they have sent: storage requests, messages,
writes to the API server. `costs.py` calculates with the processor times; the counts are compared with those in it.
"""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contenders.record import FILE
from costs import NO_OP, STEPS, Job
from joblease_local.processes import recorded
from joblease_local.settings import LocalSettings
from jobs import Jobs, each, open_jobs
from parts import PORTS, installation
from processes import BENCH, attempts, cpu_seconds, metrics
from report import Cell, Report, Row, Target, arguments, number, spread

JOBS = 200
AT_ONCE, CONCURRENCY = 16, 8
PATIENCE_SECONDS = 120
KINDS: Mapping[str, tuple[Job, dict[str, Any]]] = {
    NO_OP: (Job(), {"handler": "noop", "parameters": {}}),
    STEPS: (Job(0.5, steps=10), {"handler": "demo", "parameters": {"steps": 10, "seconds": 0.05}}),
}
PROGRAMS = {"operator": "operator", "worker-1": "worker", "dashboard": "dashboard"}
PARTS = {"rabbitmq": "RabbitMQ", "kube-apiserver": "API server", "etcd": "etcd", "azurite": "Azurite"}
CPU = "CPU ms/job"
COUNTERS = {
    "storage requests/job": "joblease_storage_requests_total",
    "messages/job": "joblease_messages_published_total",
    "API writes/job": "joblease_api_writes_total",
}
IN_HISTORY = 'joblease_index_rows_written_total{table="JobFeed"}'
Spent = Mapping[str, Mapping[str, float]]
"""By process and figure."""


class Installed:
    """The installation, and what it has spent so far."""

    def __init__(self, folder: Path, jobs: Jobs, count: int) -> None:
        self._folder, self._jobs, self._count = folder, jobs, count
        self.largest = 0
        """Bytes of the largest `JobRequest` that was seen, as JSON."""

    async def do(self, kind: str) -> Spent:
        """Some jobs of a kind; what each took."""
        job, spec = KINDS[kind]
        before, rows = self._look(), metrics(PORTS["dashboard"])[IN_HISTORY] + self._count * job.events
        await each(self._count, lambda _: self._jobs.submit(0, ttlSecondsAfterFinished=0, **spec), AT_ONCE)
        for _ in attempts(PATIENCE_SECONDS, f"all of {self._count} jobs have gone and are in the history"):
            some = await self._jobs.all(limit=20)
            self.largest = max([self.largest, *(len(json.dumps(one)) for one in some)])
            if not some and metrics(PORTS["dashboard"])[IN_HISTORY] >= rows:
                break
            await asyncio.sleep(0.2)
        return {
            name: {figure: (value - before[name][figure]) / self._count for figure, value in spent.items()}
            for name, spent in self._look().items()
        }

    def _look(self) -> Spent:
        found: dict[str, dict[str, float]] = {}
        for name, pid in recorded(self._folder).items():
            found[name] = {CPU: cpu_seconds(pid) * 1000}
            if name in PROGRAMS:
                counted = metrics(PORTS[name])
                found[name] |= {figure: counted[metric] for figure, metric in COUNTERS.items()}
        return found


async def measure(count: int, rounds: int) -> tuple[dict[str, list[Spent]], int]:
    """Rounds of each kind, after one that warms up; and the bytes of a `JobRequest`."""
    record = LocalSettings().folder / "bench" / "price.record"
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_bytes(b"")
    variables = {
        "JOBLEASE_OPERATOR_DEFAULT_LIMIT": "0",
        "JOBLEASE_WORKER_CONCURRENCY": str(CONCURRENCY),
        "JOBLEASE_HANDLERS": "contenders.joblease_tasks",
        "PYTHONPATH": str(BENCH),
        FILE: str(record),
    }
    found: dict[str, list[Spent]] = {kind: [] for kind in KINDS}
    with installation("price", variables=variables) as (_, folder):
        async with open_jobs(folder) as jobs:
            installed = Installed(folder, jobs, count)
            await installed.do(NO_OP)
            for _ in range(rounds):
                for kind, spent in found.items():
                    spent.append(await installed.do(kind))
            return found, installed.largest


def line(kind: str, name: str, rounds: list[Spent]) -> Row:
    row: dict[str, Cell] = {"jobs": kind, "process": (PROGRAMS | PARTS)[name]}
    return row | {figure: spread(spent[name][figure] for spent in rounds) for figure in rounds[0][name]}


def target(rounds: list[Spent]) -> Target:
    """Whether operator and worker send no more than `costs.py` says of a no-op job that is begun alone.

    Of jobs that are begun together, the list of open jobs takes many rows in a request.
    """
    job = KINDS[NO_OP][0]
    wanted = job.operator().storage + job.worker().storage
    found = spread(sum(spent[name]["storage requests/job"] for name in ("operator", "worker-1")) for spent in rounds)
    met = found.median <= wanted * 1.05
    return Target("storage requests of operator and worker, no-op", f"<= {wanted:g}, as worked out", str(found), met)


def main() -> None:
    options = arguments(__doc__, rounds=3)
    count = JOBS // 10 if options.quick else JOBS
    found, largest = asyncio.run(measure(count, options.rounds))
    Report(
        "price", "What a job costs, from its creation to its deletion, process by process", options.rounds,
        [line(kind, name, found[kind]) for kind in found for name in (*PROGRAMS, *PARTS)],
        targets=(target(found[NO_OP]),),
        notes=(
            f"{count} jobs a round, {AT_ONCE} created at once; one worker runs {CONCURRENCY} at a time; no limit.",
            f"A worker's time includes its handlers' processes. A JobRequest is up to {number(largest / 1000)} kB.",
        ),
    ).publish(options.write)  # fmt: skip


if __name__ == "__main__":
    main()
