"""How many no-op jobs a second workers do with lease, fence and full trail: `make bench-throughput`.

JobLease's workers, and those of three task libraries whose task makes the same storage requests, on the same RabbitMQ
and Azurite; and the storage requests alone, by JobLease's clients in as many processes. All jobs are published, with
lease blob and trail, before the clock starts; it stops at the last `Completed` in the trail.
"""

import asyncio
import os
import statistics
from collections.abc import Mapping
from contextlib import ExitStack
from importlib import import_module

from contenders import record
from fleet import Fleet, Run, delete_queues, fleet
from joblease import topology
from noops import ended, submit
from parts import broker_and_storage
from report import Cell, Plot, Report, Row, Target, arguments, median, number, spread

JOBS = 300
CONCURRENCY = 8
WORKERS = (1, 2, 4)
WARM_UP = 2 * CONCURRENCY
"""Jobs for each worker that are not measured."""
CONTENDERS = {
    "joblease": "JobLease", "celery": "Celery", "dramatiq": "Dramatiq", "taskiq": "Taskiq",
    "raw": "storage requests alone",
}  # fmt: skip
"""Modules, and what to call them; JobLease is compared with the others."""


def measure(started: Fleet, others: dict[str, int]) -> tuple[float, Run]:
    """Jobs per second of some workers, and what it took."""
    jobs = asyncio.run(submit(JOBS))
    run = started.run(jobs, others)
    last = asyncio.run(ended(jobs))
    delete_queues(*(f"{topology.EVENTS}.{reader}" for reader in topology.READERS))
    return len(jobs) / (last - run.began), run


def main() -> None:
    """Entry point."""
    numbers = {"type": int, "nargs": "+", "default": WORKERS, "help": "how many workers (default: 1 2 4)"}
    options = arguments(__doc__, rounds=3, workers=numbers)
    found: dict[tuple[int, str], list[tuple[float, Run]]] = {}
    with broker_and_storage("throughput") as (folder, pids):
        others = {name: pids[name] for name in ("azurite", "rabbitmq")}
        os.environ[record.FILE] = str(folder / "record")
        for workers in options.workers:
            with ExitStack() as stack:
                fleets = {
                    name: stack.enter_context(
                        fleet(import_module(f"contenders.{name}_tasks"), workers, CONCURRENCY, folder)
                    )
                    for name in CONTENDERS
                }
                for started in fleets.values():
                    started.run(asyncio.run(submit(WARM_UP * workers)), others)
                for _ in range(options.rounds):
                    for name, started in fleets.items():
                        result = measure(started, others)
                        found.setdefault((workers, CONTENDERS[name]), []).append(result)
                        print(f"  {workers} workers, {CONTENDERS[name]}: {result[0]:.0f} jobs/s", flush=True)
    report(found, options.rounds).publish(options.write)


def report(found: dict[tuple[int, str], list[tuple[float, Run]]], rounds: int) -> Report:
    """All rounds' figures as a table, and the comparisons within each round."""
    rows: list[Row] = []
    for (workers, name), results in found.items():

        def cpu(part: str, results: list[tuple[float, Run]] = results) -> float:
            return statistics.median(run.cpu_seconds[part] / JOBS * 1000 for _, run in results)

        rows.append(
            {
                "workers": workers,
                "contender": name,
                "jobs/s": spread([rate for rate, _ in results]),
                "CPU ms/job: workers": cpu("workers"),
                "Azurite": cpu("azurite"),
                "RabbitMQ": cpu("rabbitmq"),
                "all busy %": statistics.median(
                    sum(run.cpu_seconds.values()) / run.seconds / (os.cpu_count() or 1) * 100 for _, run in results
                ),
                "Azurite busy %": statistics.median(
                    run.cpu_seconds["azurite"] / run.seconds * 100 for _, run in results
                ),
            }
        )
    targets, limits = [], []
    names = list(CONTENDERS.values())
    for workers in dict.fromkeys(workers for workers, _ in found):
        rates = {name: [rate for rate, _ in found[workers, name]] for name in names}
        for name in names[1:]:
            wanted = 0.8 if name == names[-1] else 1.0
            ratio = spread([ours / theirs for ours, theirs in zip(rates[names[0]], rates[name], strict=True)])
            targets.append(
                Target(f"{workers} workers, JobLease to {name}", f">= {wanted}", str(ratio), ratio.median >= wanted)
            )
        limits.append(limit(workers, {row["contender"]: row for row in rows if row["workers"] == workers}))
    return Report(
        name="throughput",
        question="No-op jobs per second with lease, fence and full trail.",
        rounds=rounds,
        rows=rows,
        targets=targets,
        notes=[
            f"Each worker does {CONCURRENCY} jobs at once, of {JOBS} that are all in the queue when the clock starts.",
            "At once means processes for JobLease and Celery, threads for Dramatiq, tasks of an event loop for Taskiq.",
            "The libraries' tasks make the same storage requests by the Azure SDK, with clients that are kept.",
            "They renew nothing, kill nothing and tell nobody; JobLease also sends two events a job to quorum queues.",
            "Job queues are each library's usual ones: classic for Celery and Dramatiq, quorum for Taskiq and us.",
            "Storage is Azurite, one Node.js process; how busy it is, is in percent of one processor.",
            "The requests alone leave out broker and handlers, whose share of the processors JobLease does not have.",
            "All busy: workers, Azurite and RabbitMQ in percent of all processors; near 100 the machine is the limit.",
            *limits,
        ],
        plot=Plot("workers", "jobs/s", "contender"),
    )


def limit(workers: int, rows: Mapping[Cell, Row]) -> str:
    """What 0.8 of the storage requests alone would leave for everything that is no storage request, in words."""
    ours, alone = rows["JobLease"], rows["storage requests alone"]
    allowed = (os.cpu_count() or 1) * 1000 / (0.8 * median(alone["jobs/s"]))
    taken = median(alone["CPU ms/job: workers"]) + median(ours["Azurite"]) + median(ours["RabbitMQ"])
    return (
        f"{workers} workers: 0.8 of the requests alone is {number(allowed)} ms of all processors a job; "
        f"those requests, Azurite and RabbitMQ take {number(taken)} of them before a handler is called."
    )


if __name__ == "__main__":
    main()
