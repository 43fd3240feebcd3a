"""How fast the operator admits thousands of `JobRequest`s that are created at once: `make bench-admission`.

The clock runs from the first create request until every job is admitted (in the trail, and its message in the queue)
and its status is written; with limit 1, until every status says what its job waits for. Clients, operator, API server,
broker and storage share one machine, so the same requests are also made without an operator, in the same run: the
creations alone (what is to be compared with), with a status write each, the storage requests alone, and all of them.

Then: what a job costs the API server until it is deleted, and how soon an operator is ready that finds many old jobs.
"""

import asyncio
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence

from admission_rounds import Rounds, Run
from api_server import AT_ONCE, api_server
from joblease import topology
from joblease.broker import Broker
from joblease.settings import BrokerSettings, StorageSettings
from joblease.storage import TRAIL_TABLE, Storage
from joblease_local.settings import LocalSettings
from parts import installation
from pydantic import SecretStr
from report import Report, Row, Spread, Target, arguments, number, spread

JOBS = 5_000
RAW_JOBS = 1_500
"""For contenders that only show what a part can do."""
WARM_UP = 500
LIFE_JOBS = 150
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


async def measure(jobs: int, rounds: int) -> Report:
    """All of it, on an installation of its own."""
    found: dict[str, list[Run]] = defaultdict(list)
    folder = LocalSettings().folder / "bench" / "admission"
    with installation("admission", programs=False) as stack:
        broker_settings = BrokerSettings(amqp_url=SecretStr(stack.environment["JOBLEASE_AMQP_URL"]))
        account = SecretStr(stack.environment["JOBLEASE_STORAGE_CONNECTION_STRING"])

        async def prepare(channel: object) -> None:
            await topology.declare_readers(channel)  # type: ignore[arg-type]
            await topology.declare_pool(channel, "default", broker_settings)  # type: ignore[arg-type]

        async with (
            api_server(folder / "kubeconfig") as api,
            Storage(StorageSettings(storage_connection_string=account)) as storage,
            Broker(broker_settings, "bench", prepare) as broker,
        ):
            await storage.create_tables(TRAIL_TABLE)
            await storage.create_locks()
            await asyncio.wait_for(broker.connected(), 20)
            each = Rounds(stack, folder, api, storage, broker)
            await each.all_requests(WARM_UP)
            for _ in range(rounds):
                found[CREATED].append(await each.created(jobs))
                found[STATUS].append(await each.with_status(RAW_JOBS))
                found[STORED].append(await each.stored(RAW_JOBS))
                found[ALL].append(await each.all_requests(RAW_JOBS))
                found[ADMITTED].append(await each.operated(jobs, limit=0))
                print("  jobs/s:", {what: round(runs[-1].rate) for what, runs in found.items()}, flush=True)
            found[WAITING].append(await each.operated(jobs, limit=1))
            writes = {
                "that starts at once": await each.life(LIFE_JOBS // 5, 1, limit=0),
                "that waits for a worker": await each.life(1, LIFE_JOBS, limit=0),
                "that waits for its group": await each.life(1, LIFE_JOBS, limit=1),
            }
            none = [await each.restart() for _ in range(rounds)]
            await each.with_status(OLD_JOBS, "Completed", "True")
            old = [await each.restart() for _ in range(rounds)]
    return report(found, writes, none, old, jobs, rounds)


def report(
    found: Mapping[str, Sequence[Run]],
    writes: Mapping[str, tuple[float, float]],
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
        figures = {"jobs/s": spread([run.rate for run in runs]), "CPU ms/job": sum(cpu.values())}
        rows.append({"": what, **figures, **cpu, "all busy %": statistics.median(run.busy for run in runs) * 100})

    def ratio(one: str, other: str) -> Spread:
        return spread([ours.rate / theirs.rate for ours, theirs in zip(found[one], found[other], strict=True)])

    targets = [
        Target(
            f"admitted and reflected, to {other}",
            ">= 0.8",
            str(ratio(ADMITTED, other)),
            ratio(ADMITTED, other).median >= 0.8,
        )
        for other in (CREATED, ALL)
    ]
    targets += [
        Target(f"API writes in the life of a job {which}", "<= 3", number(status + deleted), status + deleted <= 3)
        for which, (status, deleted) in writes.items()
    ]
    live = {what: number(statistics.median(run.memory for run in found[what]) / 1.024) for what in (ADMITTED, WAITING)}
    (empty, idle), (full, grown) = ([spread(values) for values in zip(*some, strict=True)] for some in (none, old))
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
            f"With one status write a job the API server alone comes to {ratio(STATUS, CREATED)} of its creations.",
            "Storage requests are two a job: its blob, and a transaction of three rows. Azurite is one process.",
            "All requests: made one after the other for each job, with JobLease's clients for storage and broker.",
            "API writes: it waits (unless it starts within 0.1 s), it runs, its outcome, its deletion.",
            f"1,000 live jobs take {live[ADMITTED]} MiB of operator memory admitted, {live[WAITING]} MiB waiting.",
            f"An operator is ready {full} s after its start if there are {OLD_JOBS:,} ended jobs, {empty} s if none.",
            f"Its memory is {grown} MiB then, and {idle} MiB without jobs.",
        ],
    )


def main() -> None:
    """Entry point."""
    jobs = {"type": int, "default": JOBS, "help": f"how many are created at once (default: {JOBS})"}
    options = arguments(__doc__, rounds=3, jobs=jobs)
    asyncio.run(measure(options.jobs, options.rounds)).publish(options.write)


if __name__ == "__main__":
    main()
