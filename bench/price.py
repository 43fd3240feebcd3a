"""What a job costs each program and part: `make bench-price`.

A whole installation does jobs without a limit, from `JobRequest` created to deleted: no-ops, and jobs of ten steps.
Counted are the processor time of every process, and what the programs say they have sent: storage requests, messages,
writes to the API server. `costs.py` calculates with the processor times; the counts are compared with those in it.
"""

import asyncio
import json
import re
import time
import urllib.request
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contenders.record import FILE
from costs import NO_OP, STEPS, Job
from fleet import BENCH, cpu_seconds
from joblease_local.processes import recorded
from joblease_local.settings import LocalSettings
from jobs import Jobs, open_jobs
from kubernetes import client, config
from parts import FIRST_PORT, installation
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
_SAMPLE = re.compile(r"^(\w+)(\{.*\})? (\S+)$", re.MULTILINE)
Spent = Mapping[str, Mapping[str, float]]
"""By process and figure."""


def counters(program: str) -> Counter[str]:
    """A program's metrics, each with its labels, and summed over them."""
    ports = LocalSettings(workers=1, first_port=FIRST_PORT).ports()
    with urllib.request.urlopen(f"http://127.0.0.1:{ports[program]}/metrics", timeout=5) as answer:
        found: Counter[str] = Counter()
        for name, labels, value in _SAMPLE.findall(answer.read().decode()):
            for key in {name, name + labels}:
                found[key] += float(value)  # type: ignore[assignment] # a Counter of anything that adds up
        return found


class Installed:
    """The installation, and what it has spent so far."""

    def __init__(self, folder: Path, jobs: Jobs) -> None:
        self._folder, self._jobs = folder, jobs
        self._api = client.CustomObjectsApi(config.new_client_from_config(str(folder / "kubeconfig")))
        self.largest = 0
        """Bytes of the largest `JobRequest` that was seen, as JSON."""

    async def do(self, kind: str) -> Spent:
        """Some jobs of a kind; what each took."""
        job, spec = KINDS[kind]
        before, rows = self._look(), counters("dashboard")[IN_HISTORY]
        at_once = asyncio.Semaphore(AT_ONCE)

        async def submit() -> None:
            async with at_once:
                await self._jobs.submit(0, ttlSecondsAfterFinished=0, **spec)

        await asyncio.gather(*(submit() for _ in range(JOBS)))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._left() or counters("dashboard")[IN_HISTORY] - rows < JOBS * job.events:
            if time.monotonic() > deadline:
                raise SystemExit(f"not all of {JOBS} jobs have gone and are in the history after {PATIENCE_SECONDS} s")
            await asyncio.sleep(0.2)
        after = self._look()
        return {
            name: {figure: (value - before[name][figure]) / JOBS for figure, value in spent.items()}
            for name, spent in after.items()
        }

    def _look(self) -> Spent:
        found: dict[str, dict[str, float]] = {}
        for name, pid in recorded(self._folder).items():
            found[name] = {CPU: cpu_seconds([pid]) * 1000}
            if name in PROGRAMS:
                counted = counters(name)
                found[name] |= {figure: counted[metric] for figure, metric in COUNTERS.items()}
        return found

    def _left(self) -> bool:
        some = self._api.list_cluster_custom_object("joblease.dev", "v1alpha1", "jobrequests", limit=20)["items"]
        self.largest = max([self.largest, *(len(json.dumps(each)) for each in some)])
        return bool(some)


async def measure(rounds: int) -> tuple[dict[str, list[Spent]], int]:
    """Rounds of each kind, after one that warms up; and the bytes of a `JobRequest`."""
    folder = LocalSettings().folder / "bench" / "price"
    record = folder.with_name("price.record")
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_bytes(b"")
    environment = {
        "JOBLEASE_OPERATOR_DEFAULT_LIMIT": "0",
        "JOBLEASE_WORKER_CONCURRENCY": str(CONCURRENCY),
        "JOBLEASE_HANDLERS": "contenders.joblease_tasks",
        "PYTHONPATH": str(BENCH),
        FILE: str(record),
    }
    found: dict[str, list[Spent]] = {kind: [] for kind in KINDS}
    with installation("price", environment=environment) as stack:
        async with open_jobs(stack) as jobs:
            installed = Installed(folder, jobs)
            await installed.do(NO_OP)
            for _ in range(rounds):
                for kind, spent in found.items():
                    spent.append(await installed.do(kind))
            return found, installed.largest


def line(kind: str, name: str, rounds: list[Spent]) -> Row:
    """A line of the table."""
    row: dict[str, Cell] = {"jobs": kind, "process": (PROGRAMS | PARTS)[name]}
    for figure in (CPU, *COUNTERS):
        if figure in rounds[0][name]:
            row[figure] = spread([spent[name][figure] for spent in rounds])
    return row


def target(rounds: list[Spent]) -> Target:
    """Whether operator and worker send what `costs.py` says of a no-op job: neither more nor less."""
    job = KINDS[NO_OP][0]
    wanted = job.operator().storage + job.worker().storage
    found = spread([sum(spent[name]["storage requests/job"] for name in ("operator", "worker-1")) for spent in rounds])
    met = abs(found.median / wanted - 1) < 0.05
    return Target("storage requests of operator and worker, no-op", f"{wanted:g}, as worked out", str(found), met)


def main() -> None:
    """Entry point."""
    options = arguments(__doc__, rounds=3)
    found, largest = asyncio.run(measure(options.rounds))
    Report(
        "price", "What a job costs, from its creation to its deletion, process by process", options.rounds,
        [line(kind, name, found[kind]) for kind in found for name in (*PROGRAMS, *PARTS)],
        targets=(target(found[NO_OP]),),
        notes=(
            f"{JOBS} jobs a round, {AT_ONCE} created at once; one worker runs {CONCURRENCY} at a time; no limit.",
            f"A worker's time includes its handlers' processes. A JobRequest is up to {number(largest / 1000)} kB.",
        ),
    ).publish(options.write)  # fmt: skip


if __name__ == "__main__":
    main()
