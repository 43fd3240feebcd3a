"""What an installation costs that has nothing to do, beside Celery and Flower: `make bench-idle`.

All of them are idle at the same time, on the same RabbitMQ, after they have done some jobs. Storage requests are what
the programs count as they send them; messages are heard by a queue of the benchmark's own that is bound to every
exchange; requests for `JobRequest`s are counted by the API server.
"""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pika
from fleet import BENCH, BIN, consumers, cpu_seconds, family
from joblease_local.ports import listening
from joblease_local.processes import recorded
from joblease_local.settings import LocalSettings
from joblease_local.stack import Stack
from jobs import open_jobs
from parts import DASHBOARD_PORT, FIRST_PORT, installation
from report import Report, Row, Target, arguments, spread

SECONDS = 120
SETTLE_SECONDS = 70
"""Longer than the operator's pauses between looks at what jobs have left behind."""
START_SECONDS = 60
JOBS = 20
JOB_SECONDS = 60
WORKER_MIB = 80
FLOWER_PORT = DASHBOARD_PORT - 1

WORKER, OPERATOR, DASHBOARD, CELERY, FLOWER = "worker", "operator", "dashboard", "Celery worker", "Flower"
JOBLEASE, OTHERS = "JobLease, all three", "Celery and Flower"
TOGETHER = {JOBLEASE: (WORKER, OPERATOR, DASHBOARD), OTHERS: (CELERY, FLOWER)}
ALONE, HANDLERS, GUARDIAN = "- of it: its own process", "- handler process", "- guardian"
PARTS = {"joblease_worker.child": HANDLERS, "guard.py": GUARDIAN}
"""Processes of a worker beside its own: what their command lines hold."""
ROWS = (WORKER, ALONE, HANDLERS, GUARDIAN, OPERATOR, DASHBOARD, JOBLEASE, CELERY, FLOWER, OTHERS)
PUBLISHERS = {
    "joblease.workers": WORKER,
    "joblease.events": OPERATOR,
    "joblease.control": OPERATOR,
    "celeryev": CELERY,
    "celery.pidbox": FLOWER,
}
"""Exchanges, and who publishes there while there are no jobs."""
STORAGE, MESSAGES, API, WATCHES = "storage/min", "messages/min", "API/min", "watches/min"
CPU, MEMORY, RESIDENT = "CPU ms/min", "MiB", "resident MiB"
NOTES = (
    "MiB: proportional set size, of all processes of a program; a page that n processes share counts as 1/n in each.",
)
_REQUESTS = re.compile(r'^apiserver_request_total\{.*group="joblease.dev".*verb="([A-Z]+)".*\} (\S+)$', re.MULTILINE)
_STORAGE = re.compile(r"^joblease_storage_requests_total\{.*\} (\S+)$", re.MULTILINE)

Figures = dict[str, dict[str, float]]
"""By row and column."""


class Programs:
    """All programs that are looked at."""

    def __init__(self, stack: Stack, pids: Mapping[str, int]) -> None:
        """`pids` are the programs' first processes."""
        self._plane: Any = stack.parts[0]
        self._pids = pids
        ports = LocalSettings(first_port=FIRST_PORT, workers=1).ports()
        self._ports = {WORKER: ports["worker-1"], OPERATOR: ports["operator"], DASHBOARD: ports["dashboard"]}

    def window(self, seconds: float) -> Figures:
        """Look on for some seconds."""
        before = self._counters()
        heard = messages(seconds)
        found: Figures = defaultdict(dict)
        for (name, column), count in self._counters().items():
            found[name][column] = (count - before[name, column]) * 60 / seconds
        for name, pid in self._pids.items():
            found[name][MESSAGES] = heard[name] * 60 / seconds
            found[name] |= memory(family([pid]))
        for pid in family([self._pids[WORKER]]):
            command = Path(f"/proc/{pid}/cmdline").read_text()
            found[next((name for part, name in PARTS.items() if part in command), ALONE)] = memory([pid])
        for name, members in TOGETHER.items():
            for column in (STORAGE, MESSAGES, CPU, MEMORY, RESIDENT):
                found[name][column] = sum(found[member].get(column, 0) for member in members)
        return found

    def _counters(self) -> Counter[tuple[str, str]]:
        counts: Counter[tuple[str, str]] = Counter()
        for name, port in self._ports.items():
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                counts[name, STORAGE] = sum(int(float(each)) for each in _STORAGE.findall(answer.read().decode()))
        for name, pid in self._pids.items():
            counts[name, CPU] = round(cpu_seconds([pid]) * 1000)
        for verb, count in _REQUESTS.findall(self._plane.request("GET", "/metrics").decode()):
            counts[JOBLEASE, WATCHES if verb == "WATCH" else API] += int(float(count))
        return counts


def messages(seconds: float) -> Counter[str]:
    """How many messages are published within some seconds, by program."""
    heard: Counter[str] = Counter()
    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(os.environ["JOBLEASE_AMQP_URL"]))) as broker:
        channel = broker.channel()
        queue = channel.queue_declare("", exclusive=True).method.queue
        for exchange in PUBLISHERS:
            channel.queue_bind(queue, exchange, "#")

        def hear(_: Any, delivery: Any, *__: Any) -> None:
            heard[PUBLISHERS[delivery.exchange]] += 1

        channel.basic_consume(queue, hear, auto_ack=True)
        broker.sleep(seconds)
    return heard


def memory(pids: Iterable[int]) -> dict[str, float]:
    """What processes hold, together."""
    found: Counter[str] = Counter()
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, kib, _ = line.split()
            found[name] += int(kib)
    return {MEMORY: found["Pss:"] / 1024, RESIDENT: found["Rss:"] / 1024}


@contextlib.contextmanager
def celery(folder: Path) -> Iterator[dict[str, int]]:
    """A Celery worker with its defaults and task events, and Flower: their process ids."""
    app = [str(BIN / "celery"), "-A", "contenders.celery_idle"]
    commands = {
        CELERY: [*app, "worker", "-c", "1", "-E"],
        FLOWER: [*app, "flower", "--address=127.0.0.1", f"--port={FLOWER_PORT}"],
    }
    processes = {}
    try:
        for name, command in commands.items():
            with (folder / f"{name}.log").open("wb") as log:
                processes[name] = subprocess.Popen(
                    command, cwd=BENCH, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
        until(lambda: consumers("celery") == 1 and listening(FLOWER_PORT), f"Celery and Flower work; see {folder}")
        yield {name: process.pid for name, process in processes.items()}
    finally:
        for process in processes.values():
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something."""
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {START_SECONDS} s: {what}")
        time.sleep(0.2)


async def use(stack: Stack) -> None:
    """Have all of them do some jobs: who has never worked has not loaded everything."""
    from contenders import celery_idle  # reads the broker's address as it is imported

    for _ in range(JOBS):
        celery_idle.nothing.delay()
    celery_idle.app.close()
    async with open_jobs(stack) as jobs:
        ids = [await jobs.submit(0) for _ in range(JOBS)]
        for job_id in ids:
            await jobs.event(job_id, lambda event: event.state.terminal, JOB_SECONDS)


def main() -> None:
    """Entry point."""
    options = arguments(__doc__, rounds=2)
    with installation("idle", workers=1) as stack:
        os.environ.update(stack.environment)
        folder = Path(stack.environment["KUBECONFIG"]).parent
        with celery(folder) as others:
            pids = recorded(folder)
            programs = Programs(
                stack, {WORKER: pids["worker-1"], OPERATOR: pids["operator"], DASHBOARD: pids["dashboard"], **others}
            )
            asyncio.run(use(stack))
            time.sleep(SETTLE_SECONDS)
            windows = [programs.window(SECONDS) for _ in range(options.rounds)]
    columns = (STORAGE, MESSAGES, API, WATCHES, CPU, MEMORY, RESIDENT)
    rows: list[Row] = [
        {
            "program": name,
            **{
                each: spread([window[name][each] for window in windows]) for each in columns if each in windows[0][name]
            },
        }
        for name in ROWS
    ]
    requests = max(window[JOBLEASE][STORAGE] for window in windows)
    mib = max(window[WORKER][MEMORY] for window in windows)
    Report(
        "idle",
        "What does an installation cost that has nothing to do?",
        options.rounds,
        rows,
        (
            Target("storage requests", "0", f"{requests:g} a minute", met=requests == 0),
            Target("a worker's memory", f"<= {WORKER_MIB} MiB", f"{mib:.0f} MiB", met=mib <= WORKER_MIB),
        ),
        NOTES,
    ).publish(options.write)


if __name__ == "__main__":
    main()
