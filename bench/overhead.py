"""What a worker itself costs: `make bench-overhead`.

One worker on a storage account that answers at once (`storage_double.py`), and on a real RabbitMQ, does no-op jobs. It
is compared with one worker each of three task libraries: with a bare no-op and late acknowledgement, which is less than
JobLease does, and with the same storage requests in the task. The requests alone, by JobLease's own clients, show what
is left when everything but them is taken away.
"""

import os
import statistics
from contextlib import ExitStack
from dataclasses import replace
from importlib import import_module

from contenders import record
from fleet import Fleet, Run, delete_queues, fleet
from joblease import topology
from joblease.messages import JobMessage
from noops import ADMITTED, message, new_head
from parts import broker_and_storage
from report import Report, Row, Target, arguments, spread
from storage_double import counts, storage_double

CONCURRENCY = 8
WARM_UP = 200
"""Jobs that are not measured."""


NOTHING = "no-op"
REQUESTS = "no-op, lease and trail"
JOBS = {NOTHING: 4000, REQUESTS: 1000}
"""How many a round."""
ENTRANTS: tuple[tuple[str, str, str, dict[str, bool]], ...] = (
    ("JobLease", REQUESTS, "joblease", {}),
    ("Celery", NOTHING, "celery", {"storage": False}),
    ("Dramatiq", NOTHING, "dramatiq", {"storage": False}),
    ("Taskiq", NOTHING, "taskiq", {"storage": False}),
    ("Celery", REQUESTS, "celery", {"storage": True}),
    ("Dramatiq", REQUESTS, "dramatiq", {"storage": True}),
    ("Taskiq", REQUESTS, "taskiq", {"storage": True}),
    ("storage requests alone", REQUESTS, "raw", {}),
    ("the same as bare HTTP", REQUESTS, "http", {}),
)
"""What to call it, what its jobs do, its module, options for publishing."""
OURS, *LIBRARIES = [(name, work) for name, work, *_ in ENTRANTS[:7]]


def jobs(count: int) -> list[JobMessage]:
    """Messages of new jobs; the double takes any of them for known."""
    return [message(replace(new_head(), etag='W/"0x1"', sequence=len(ADMITTED))) for _ in range(count)]


def measure(started: Fleet, name: str, work: str, others: dict[str, int], **options: bool) -> Run:
    """One worker, one round."""
    before = counts()
    run = started.run(jobs(JOBS[work]), others, **options)
    asked = counts() - before
    each = JOBS[work] if work == REQUESTS else 0
    expected = {"lease": each, "batch": 2 * each, "delete": each}
    for kind, number in expected.items():  # the last ones may be on their way still, also those of the run before
        if abs(asked[kind] - number) > 2 * CONCURRENCY:
            raise SystemExit(f"{name} made {asked} requests for {JOBS[work]} jobs, expected {expected}")
    return run


def main() -> None:
    """Entry point."""
    options = arguments(__doc__, rounds=3)
    found: dict[tuple[str, str], list[Run]] = {}
    with broker_and_storage("overhead") as (folder, pids), storage_double() as double, ExitStack() as stack:
        others = {"storage double": double, "RabbitMQ": pids["rabbitmq"]}
        os.environ[record.FILE] = str(folder / "record")
        fleets = {
            module: stack.enter_context(fleet(import_module(f"contenders.{module}_tasks"), 1, CONCURRENCY, folder))
            for module in dict.fromkeys(module for _, _, module, _ in ENTRANTS)
        }
        for _, _, module, more in ENTRANTS:
            fleets[module].run(jobs(WARM_UP), others, **more)
        for _ in range(options.rounds):
            for name, work, module, more in ENTRANTS:
                run = measure(fleets[module], name, work, others, **more)
                found.setdefault((name, work), []).append(run)
                print(f"  {name}, {work}: {JOBS[work] / run.seconds:.0f} jobs/s", flush=True)
                delete_queues(*(f"{topology.EVENTS}.{reader}" for reader in topology.READERS))
    report(found, options.rounds).publish(options.write)


def report(found: dict[tuple[str, str], list[Run]], rounds: int) -> Report:
    """All rounds' figures as a table, and the comparisons within each round."""
    rows: list[Row] = [
        {
            "contender": name,
            "its jobs": work,
            "jobs/s": spread([JOBS[work] / run.seconds for run in runs]),
            "CPU s/1,000 jobs": spread([run.cpu_seconds["workers"] / JOBS[work] * 1000 for run in runs]),
            "storage double": statistics.median(run.cpu_seconds["storage double"] / JOBS[work] * 1000 for run in runs),
            "RabbitMQ": statistics.median(run.cpu_seconds["RabbitMQ"] / JOBS[work] * 1000 for run in runs),
        }
        for (name, work), runs in found.items()
    ]
    targets = []
    for name, work in LIBRARIES:
        pairs = zip(found[OURS], found[name, work], strict=True)
        size = JOBS[REQUESTS] / JOBS[work]
        faster = spread([theirs.seconds / ours.seconds * size for ours, theirs in pairs])
        what = f"JobLease's jobs/s to those of {name} ({work})"
        targets.append(Target(what, ">= 1", str(faster), faster.median >= 1))
    return Report(
        name="overhead",
        question="What one worker costs on a storage account that answers at once.",
        rounds=rounds,
        rows=rows,
        targets=targets,
        notes=[
            f"One worker of each, {CONCURRENCY} jobs at once, of {JOBS[REQUESTS]} queued ones (bare: {JOBS[NOTHING]}).",
            "CPU is user and system time of the worker with all its processes; broker and double are beside it.",
            "A job costs JobLease 4 storage requests here, and 6 where its group has a limit.",
            "Bare HTTP: the same requests ready-made and unsigned, by aiohttp; no broker, nothing encoded or read.",
            "It is the floor: a worker that makes these requests costs at least that and a bare no-op together.",
        ],
    )


if __name__ == "__main__":
    main()
