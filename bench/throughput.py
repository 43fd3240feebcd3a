"""How many no-op jobs a second workers do with lease, fence and full trail: `make bench-throughput`.

JobLease's workers, and those of three task libraries whose task leases a blob and writes the same rows, on one RabbitMQ
and Azurite; and JobLease's own storage requests alone, by its clients in as many processes. All jobs are published,
with their trail (and, for the libraries, a blob to lease), before the clock starts; it stops at the last `Completed` in
the trail. Units: jobs a second, milliseconds of processor time a job.
"""

import asyncio
import os
import statistics
from collections.abc import Mapping

from fleet import Fleet, Run, cpu_ms, fleets
from joblease import topology
from noops import ended, submit
from parts import broker_and_storage, delete_queues
from report import Cell, Plot, Report, Row, Target, arguments, at_least, median, number, ratios, spread

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
OURS, *LIBRARIES, ALONE = CONTENDERS.values()
SHARE_OF_ALONE = 0.75
WANTED = {("Celery", 1): 3.5, ("Dramatiq", 1): 5.0, ("Taskiq", 1): 4.5}
"""What JobLease's jobs a second are to be to a library's, by the number of workers; as many where nothing is said."""
PROCESSORS = os.cpu_count() or 1
Results = Mapping[tuple[int, str], list[tuple[float, Run]]]
"""Jobs a second, and what it took, by workers and contender."""


def measure(started: Fleet, name: str, count: int, others: dict[str, int]) -> tuple[float, Run]:
    """Jobs per second of some workers of a contender, and what it took."""
    jobs = asyncio.run(submit(count, blobs=name in LIBRARIES))
    run = started.run(jobs, others)
    last = asyncio.run(ended(jobs))
    delete_queues(*(f"{topology.EVENTS}.{reader}" for reader in topology.READERS))
    return count / (last - run.began), run


def main() -> None:
    numbers = {"type": int, "nargs": "+", "default": WORKERS, "help": "how many workers (default: 1 2 4)"}
    options = arguments(__doc__, rounds=3, workers=numbers)
    found: dict[tuple[int, str], list[tuple[float, Run]]] = {}
    with broker_and_storage("throughput") as (folder, pids):
        others = {"Azurite": pids["azurite"], "RabbitMQ": pids["rabbitmq"]}
        for workers in WORKERS[:1] if options.quick else options.workers:
            with fleets(CONTENDERS, workers, CONCURRENCY, folder) as started:
                for name, each in started.items():
                    each.run(asyncio.run(submit(WARM_UP * workers, blobs=CONTENDERS[name] in LIBRARIES)), others)
                for _ in range(options.rounds):
                    for name, each in started.items():
                        result = measure(each, CONTENDERS[name], JOBS // 10 if options.quick else JOBS, others)
                        found.setdefault((workers, CONTENDERS[name]), []).append(result)
                        print(f"  {workers} workers, {CONTENDERS[name]}: {result[0]:.0f} jobs/s", flush=True)
    report(found, options.rounds).publish(options.write)


def row(workers: int, name: str, results: list[tuple[float, Run]]) -> Row:
    runs = [run for _, run in results]
    return {
        "workers": workers,
        "contender": name,
        "jobs/s": spread(rate for rate, _ in results),
        "CPU ms/job: workers": cpu_ms(runs, "workers"),
        "Azurite": cpu_ms(runs, "Azurite"),
        "RabbitMQ": cpu_ms(runs, "RabbitMQ"),
        "all busy %": statistics.median(sum(run.cpu_seconds.values()) / run.seconds for run in runs) / PROCESSORS * 100,
        "Azurite busy %": statistics.median(run.cpu_seconds["Azurite"] / run.seconds for run in runs) * 100,
    }


def compared(workers: int, found: Results) -> list[Target]:
    """JobLease beside the others, within each round."""
    rates = {name: [rate for rate, _ in found[workers, name]] for name in CONTENDERS.values()}
    wanted = {name: WANTED.get((name, workers), 1.0) for name in LIBRARIES} | {ALONE: SHARE_OF_ALONE}
    return [
        at_least(f"{workers} workers, JobLease to {name}", least, ratios(rates[OURS], rates[name]))
        for name, least in wanted.items()
    ]


def report(found: Results, rounds: int) -> Report:
    """All rounds' figures as a table, and the comparisons."""
    rows = [row(workers, name, results) for (workers, name), results in found.items()]
    numbers = list(dict.fromkeys(workers for workers, _ in found))
    return Report(
        name="throughput",
        question="No-op jobs per second with lease, fence and full trail.",
        rounds=rounds,
        rows=rows,
        targets=[target for workers in numbers for target in compared(workers, found)],
        notes=[
            f"Each worker does {CONCURRENCY} jobs at once, of {JOBS} that are all in the queue when the clock starts.",
            "At once means processes for JobLease and Celery, threads for Dramatiq, tasks of an event loop for Taskiq.",
            "The libraries' tasks lease a blob each and write the same rows by the Azure SDK, with clients kept:",
            "4 storage requests a job. JobLease's jobs hang on their worker's session: 2, and as many alone.",
            "They renew nothing, kill nothing and tell nobody; JobLease also sends two events a job to quorum queues.",
            "Job queues are each library's usual ones: classic for Celery and Dramatiq, quorum for Taskiq and us.",
            "Storage is Azurite, one Node.js process; how busy it is, is in percent of one processor.",
            "The requests alone leave out broker and handlers, whose share of the processors JobLease does not have.",
            "All busy: workers, Azurite and RabbitMQ in percent of all processors; near 100 the machine is the limit.",
            *(
                limit(workers, {row["contender"]: row for row in rows if row["workers"] == workers})
                for workers in numbers
            ),
        ],
        plot=Plot("workers", "jobs/s", "contender"),
    )


def limit(workers: int, rows: Mapping[Cell, Row]) -> str:
    """What the wanted share of the storage requests alone would leave for everything else, in words."""
    ours, alone = rows[OURS], rows[ALONE]
    allowed = PROCESSORS * 1000 / (SHARE_OF_ALONE * median(alone["jobs/s"]))
    taken = median(alone["CPU ms/job: workers"]) + median(ours["Azurite"]) + median(ours["RabbitMQ"])
    return (
        f"{workers} workers: {SHARE_OF_ALONE} of the requests alone is {number(allowed)} ms of all processors a job; "
        f"those requests, Azurite and RabbitMQ take {number(taken)} of them before a handler is called."
    )


if __name__ == "__main__":
    main()
