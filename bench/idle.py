"""What an installation that has nothing to do asks for each minute, and its memory in MiB: `make bench-idle`.

Beside it Celery and Flower. All of them are idle at the same time, on the same RabbitMQ, after they have done some
jobs. Storage requests are what the programs count as they send them; messages are heard by a queue of the benchmark's
own that is bound to every exchange; requests for `JobRequest`s are counted by the API server.
"""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from joblease_local.ports import listening
from joblease_local.processes import recorded
from joblease_local.stack import Stack
from jobs import open_jobs
from parts import DASHBOARD_PORT, PORTS, channel, consumers, installation
from processes import BENCH, BIN, attempts, cpu_seconds, family, memory, metrics
from report import Report, Row, arguments, at_most, spread

SECONDS = 120
SETTLE_SECONDS = 70
"""Longer than the operator's pauses between looks at what jobs have left behind."""
START_SECONDS = 60
JOBS = 20
JOB_SECONDS = 60
FLOWER_PORT = DASHBOARD_PORT - 1

WORKER, OPERATOR, DASHBOARD, CELERY, FLOWER = "worker", "operator", "dashboard", "Celery worker", "Flower"
JOBLEASE, OTHERS = "JobLease, all three", "Celery and Flower"
PROGRAMS = {WORKER: "worker-1", OPERATOR: "operator", DASHBOARD: "dashboard"}
TOGETHER = {JOBLEASE: tuple(PROGRAMS), OTHERS: (CELERY, FLOWER)}
ALONE, HANDLERS, GUARDIAN = "- of it: its own process", "- handler process", "- guardian"
PARTS = {"joblease_worker.child": HANDLERS, "guardian_process.py": GUARDIAN}
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
COLUMNS = (STORAGE, MESSAGES, API, WATCHES, CPU, MEMORY, RESIDENT)
NOTES = (
    "MiB: proportional set size, of all processes of a program; a page that n processes share counts as 1/n in each.",
)
_REQUESTS = re.compile(r'^apiserver_request_total\{.*group="joblease.dev".*verb="([A-Z]+)".*\} (\S+)$', re.MULTILINE)

Figures = dict[str, dict[str, float]]
"""By row and column."""


class Programs:
    """All programs that are looked at."""

    def __init__(self, stack: Stack, pids: Mapping[str, int]) -> None:
        """`pids` are the programs' first processes."""
        self._plane: Any = stack.parts[0]
        self._pids = pids

    def window(self, seconds: float) -> Figures:
        """Look on for some seconds."""
        before = self._counters()
        heard = messages(seconds)
        found: Figures = defaultdict(dict)
        for (name, column), count in self._counters().items():
            found[name][column] = (count - before[name, column]) * 60 / seconds
        for name, pid in self._pids.items():
            found[name][MESSAGES] = heard[name] * 60 / seconds
            found[name] |= held(*family(pid))
        for pid in family(self._pids[WORKER]):
            command = Path(f"/proc/{pid}/cmdline").read_text()
            found[next((name for part, name in PARTS.items() if part in command), ALONE)] = held(pid)
        for name, members in TOGETHER.items():
            for column in (STORAGE, MESSAGES, CPU, MEMORY, RESIDENT):
                found[name][column] = sum(found[member].get(column, 0) for member in members)
        return found

    def _counters(self) -> Counter[tuple[str, str]]:
        counts: Counter[tuple[str, str]] = Counter()
        for name, program in PROGRAMS.items():
            counts[name, STORAGE] = metrics(PORTS[program])["joblease_storage_requests_total"]
        for name, pid in self._pids.items():
            counts[name, CPU] = round(cpu_seconds(pid) * 1000)
        for verb, count in _REQUESTS.findall(self._plane.request("GET", "/metrics").decode()):
            counts[JOBLEASE, WATCHES if verb == "WATCH" else API] += int(float(count))
        return counts


def messages(seconds: float) -> Counter[str]:
    """How many messages are published within some seconds, by program."""
    heard: Counter[str] = Counter()

    def hear(_: Any, delivery: Any, *__: Any) -> None:
        heard[PUBLISHERS[delivery.exchange]] += 1

    with channel() as broker:
        queue = broker.queue_declare("", exclusive=True).method.queue
        for exchange in PUBLISHERS:
            broker.queue_bind(queue, exchange, "#")
        broker.basic_consume(queue, hear, auto_ack=True)
        broker.connection.sleep(seconds)
    return heard


def held(*pids: int) -> dict[str, float]:
    """What processes hold, together."""
    found = memory(pids)
    return {MEMORY: found["Pss"], RESIDENT: found["Rss"]}


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
        for _ in attempts(START_SECONDS, f"Celery and Flower work; see {folder}"):
            if consumers("celery") == 1 and listening(FLOWER_PORT):
                break
            time.sleep(0.2)
        yield {name: process.pid for name, process in processes.items()}
    finally:
        for process in processes.values():
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


async def use(folder: Path) -> None:
    """Have all of them do some jobs: who has never worked has not loaded everything."""
    from contenders import celery_idle  # reads the broker's address as it is imported

    for _ in range(JOBS):
        celery_idle.nothing.delay()
    celery_idle.app.close()
    async with open_jobs(folder) as jobs:
        ids = [await jobs.submit(0) for _ in range(JOBS)]
        for job_id in ids:
            await jobs.event(job_id, lambda event: event.state.terminal, JOB_SECONDS)


def main() -> None:
    options = arguments(__doc__, rounds=2)
    settle, seconds = (1, 5) if options.quick else (SETTLE_SECONDS, SECONDS)
    with installation("idle") as (stack, folder), celery(folder) as others:
        pids = recorded(folder)
        programs = Programs(stack, {name: pids[program] for name, program in PROGRAMS.items()} | others)
        asyncio.run(use(folder))
        time.sleep(settle)
        windows = [programs.window(seconds) for _ in range(options.rounds)]
    rows: list[Row] = [
        {"program": name}
        | {each: spread(window[name][each] for window in windows) for each in COLUMNS if each in windows[0][name]}
        for name in ROWS
    ]
    requests = max(window[JOBLEASE][STORAGE] for window in windows)
    mib = max(window[WORKER][MEMORY] for window in windows)
    Report(
        "idle",
        "What does an installation cost that has nothing to do?",
        options.rounds,
        rows,
        (at_most("storage requests a minute", 0, requests), at_most("a worker's memory", 80, mib, "MiB")),
        NOTES,
    ).publish(options.write)


if __name__ == "__main__":
    main()
