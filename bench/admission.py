"""How many of thousands of `JobRequest`s created at once the operator admits a second: `make bench-admission`.

The clock runs from the first create request until every job is admitted (in the trail, and its message in the queue)
and its status is written; with limit 1, until every status says what its job waits for. Clients, operator, API server,
broker and storage share one machine, so the same requests are also made without an operator, in the same run: the
creations alone (what is to be compared with), with a status write each, the storage requests alone, and all of them.

Then: how soon an operator is ready that finds many old jobs.
"""

import asyncio
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from admission_rounds import Rounds, Run
from joblease import topology
from joblease.broker import Broker
from joblease.settings import BrokerSettings
from joblease.storage import OPEN_TABLE, TRAIL_TABLE
from jobs import AT_ONCE, open_jobs
from parts import installation
from report import Report, Row, arguments, at_least, ratios, spread

JOBS = 5_000
RAW_JOBS = 1_500
"""For contenders that only show what a part can do."""
WARM_UP = 500
OLD_JOBS = 10_000
CREATED, STATUS, STORED, ALL = (
    "created, no operator",
    "created and status written, no operator",
    "storage requests alone",
    "all requests, no operator",
)
ADMITTED, WAITING = "operator: all admitted", "operator: all but one wait"
PROCESSES = {
    "clients": "clients", "operator": "operator", "kube-apiserver": "API server", "etcd": "etcd",
    "azurite": "Azurite", "rabbitmq": "RabbitMQ",
}  # fmt: skip


async def measure(jobs: int, less: int, rounds: int) -> Report:
    """All of it, on an installation of its own; so many times less of what is beside the jobs."""
    found: dict[str, list[Run]] = defaultdict(list)
    raw, old_jobs = RAW_JOBS // less, OLD_JOBS // less

    async def prepare(channel: Any) -> None:
        await topology.declare_readers(channel)
        await topology.declare_pool(channel, "default", BrokerSettings())

    with installation("admission", programs=False) as (stack, folder):
        async with open_jobs(folder) as requests, Broker(BrokerSettings(), "bench", prepare) as broker:
            await requests.storage.create_tables(TRAIL_TABLE, OPEN_TABLE)
            await requests.storage.create_locks()
            await asyncio.wait_for(broker.connected(), 20)
            each = Rounds(stack, folder, requests, broker)
            await each.all_requests(WARM_UP // less)
            for _ in range(rounds):
                found[CREATED].append(await each.created(jobs))
                found[STATUS].append(await each.with_status(raw))
                found[STORED].append(await each.stored(raw))
                found[ALL].append(await each.all_requests(raw))
                found[ADMITTED].append(await each.operated(jobs, limit=0))
                print("  jobs/s:", {what: round(runs[-1].rate) for what, runs in found.items()}, flush=True)
            found[WAITING].append(await each.operated(jobs, limit=1))
            none = [await each.restart() for _ in range(rounds)]
            await each.with_status(old_jobs, "Completed", "True")
            old = [await each.restart() for _ in range(rounds)]
    return report(found, none, old, jobs, rounds)


def report(
    found: Mapping[str, Sequence[Run]],
    none: Sequence[tuple[float, float]],
    old: Sequence[tuple[float, float]],
    jobs: int,
    rounds: int,
) -> Report:
    """The contenders as a table, comparisons within each round, and the rest in words."""
    rows: list[Row] = []
    for what, runs in found.items():
        cpu = {
            shown: statistics.median(run.cpu[name] for run in runs)
            for name, shown in PROCESSES.items()
            if max(run.cpu.get(name, 0) for run in runs) >= 0.1
        }
        figures = {"jobs/s": spread(run.rate for run in runs), "CPU ms/job": sum(cpu.values())}
        rows.append({"": what, **figures, **cpu, "all busy %": statistics.median(run.busy for run in runs) * 100})

    rates = {what: [run.rate for run in runs] for what, runs in found.items()}
    targets = [
        at_least(f"admitted and reflected, to {other}", 0.8, ratios(rates[ADMITTED], rates[other]))
        for other in (CREATED, ALL)
    ]
    alone = ratios(rates[STATUS], rates[CREATED])
    live = {what: spread(run.memory * 1000 for run in found[what]) for what in (ADMITTED, WAITING)}
    (empty, idle), (full, grown) = (map(spread, zip(*some, strict=True)) for some in (none, old))
    return Report(
        name="admission",
        question=f"JobRequests per second, when {jobs:,} are created at once.",
        rounds=rounds,
        rows=rows,
        targets=targets,
        notes=[
            f"{AT_ONCE} requests of the clients are under way at any time; one client process makes all of them.",
            "CPU: milliseconds of processor time per job, of all processes and of each.",
            "All busy: these processes in percent of all processors; near 100 the machine is the limit.",
            f"With one status write a job the API server alone comes to {alone} of its creations.",
            "Storage requests are two a job: its row in the list of open jobs, and a transaction of three rows.",
            "All requests: made one after the other for each job, with JobLease's clients for storage and broker.",
            f"1,000 live jobs take {live[ADMITTED]} MiB of operator memory admitted, {live[WAITING]} MiB waiting.",
            f"An operator is ready {full} s after its start if there are {OLD_JOBS:,} ended jobs, {empty} s if none.",
            f"Its memory is {grown} MiB then, and {idle} MiB without jobs.",
        ],
    )


def main() -> None:
    options = arguments(__doc__, rounds=3)
    less = 30 if options.quick else 1
    asyncio.run(measure(JOBS // less, less, options.rounds)).publish(options.write)


if __name__ == "__main__":
    main()
