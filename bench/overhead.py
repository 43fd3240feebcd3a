"""What a worker itself costs: `make bench-overhead`.

One worker on a storage account that answers at once (`storage_double.py`), and on a real RabbitMQ, does no-op jobs. It
is compared with one worker each of three task libraries: with a bare no-op and late acknowledgement, which is less than
JobLease does, and with the same storage requests in the task. The requests alone, by JobLease's own clients, show what
is left when everything but them is taken away.
"""

import os
import statistics
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from uuid import uuid4

from contenders import record
from fleet import Run, delete_queues, fleet
from joblease import broker, topology
from joblease.messages import HeadHint, JobMessage, now
from parts import broker_and_storage
from report import Report, Row, Target, arguments, spread
from storage_double import counts, storage_double

JOBS = 1000
CONCURRENCY = 8
WARM_UP = 200
"""Jobs that are not measured."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A worker and what its jobs do."""

    name: str
    work: str
    module: ModuleType
    options: dict[str, bool]


NOTHING = "no-op"
REQUESTS = "no-op, lease and trail"
JOBLEASE = "JobLease"
ALONE = "storage requests alone"
FLOOR = "the same as bare HTTP"


def contenders() -> list[Contender]:
    """All of them; their modules need the environment to say where the broker is."""
    from contenders import celery_tasks, dramatiq_tasks, http_tasks, joblease_tasks, raw_tasks, taskiq_tasks

    libraries = {"Celery": celery_tasks, "Dramatiq": dramatiq_tasks, "Taskiq": taskiq_tasks}
    return [
        Contender(JOBLEASE, REQUESTS, joblease_tasks, {}),
        *(Contender(name, NOTHING, module, {"storage": False}) for name, module in libraries.items()),
        *(Contender(name, REQUESTS, module, {"storage": True}) for name, module in libraries.items()),
        Contender(ALONE, REQUESTS, raw_tasks, {}),
        Contender(FLOOR, REQUESTS, http_tasks, {}),
    ]


def jobs(count: int) -> list[JobMessage]:
    """Messages of new jobs; the double takes any of them for known."""
    moment = now()
    hint = HeadHint(etag='W/"0x1"', sequence=2, attempt=0, epoch=0, submitted_at=moment)
    return [
        JobMessage(
            job_id=str(uuid4()), namespace="default", name=f"noop-{number}", handler="noop", queue="default",
            group="default", limit=0, head=hint,
        )
        for number in range(count)
    ]  # fmt: skip


def measure(contender: Contender, others: dict[str, int], folder: Path) -> Run:
    """One worker, one round."""
    with fleet(contender.module, 1, CONCURRENCY, folder) as started:
        started.run(jobs(WARM_UP), others, **contender.options)
        before = counts()
        run = started.run(jobs(JOBS), others, **contender.options)
        asked = counts() - before
    delete_queues(*(f"{broker.EVENTS}.{reader}" for reader in topology.READERS))
    expected = {"lease": JOBS, "batch": 2 * JOBS, "delete": JOBS} if contender.work == REQUESTS else {}
    for kind, number in expected.items():  # the worker's last ones may be on their way still
        if not number - 2 * CONCURRENCY <= asked[kind] <= number + 2 * CONCURRENCY:
            raise SystemExit(f"{contender.name} made {asked} requests for {JOBS} jobs, expected {expected}")
    return run


def main() -> None:
    """Entry point."""
    options = arguments(__doc__, rounds=3)
    with broker_and_storage("overhead") as (folder, pids), storage_double() as double:
        os.environ[record.FILE] = str(folder / "record")
        record.forget()
        others = {"storage double": double, "RabbitMQ": pids["rabbitmq"]}
        entrants = contenders()
        found: dict[tuple[str, str], list[Run]] = {(each.name, each.work): [] for each in entrants}
        for _ in range(options.rounds):
            for each in entrants:
                run = measure(each, others, folder)
                found[each.name, each.work].append(run)
                print(f"  {each.name}, {each.work}: {JOBS / run.seconds:.0f} jobs/s", flush=True)
    report(found, options.rounds).publish(options.write)


def report(found: dict[tuple[str, str], list[Run]], rounds: int) -> Report:
    """All rounds' figures as a table, and the comparisons within each round."""
    rows: list[Row] = [
        {
            "contender": name,
            "its jobs": work,
            "jobs/s": spread([JOBS / run.seconds for run in runs]),
            "CPU s/1,000 jobs": spread([run.cpu_seconds["workers"] / JOBS * 1000 for run in runs]),
            "storage double": statistics.median(run.cpu_seconds["storage double"] / JOBS * 1000 for run in runs),
            "RabbitMQ": statistics.median(run.cpu_seconds["RabbitMQ"] / JOBS * 1000 for run in runs),
        }
        for (name, work), runs in found.items()
    ]
    ours = found[JOBLEASE, REQUESTS]
    targets = []
    for (name, work), runs in found.items():
        if name in (JOBLEASE, ALONE, FLOOR):
            continue
        faster = spread([theirs.seconds / own.seconds for own, theirs in zip(ours, runs, strict=True)])
        targets.append(
            Target(f"JobLease's jobs/s to those of {name} ({work})", ">= 1", str(faster), faster.median >= 1)
        )
    return Report(
        name="overhead",
        question="What one worker costs on a storage account that answers at once.",
        rounds=rounds,
        rows=rows,
        targets=targets,
        notes=[],
    )


if __name__ == "__main__":
    main()
