"""How many no-op jobs a second workers do with lease, fence and full trail: `make bench-throughput`.

JobLease's workers, and those of three task libraries whose task makes the same storage requests, on the same RabbitMQ
and Azurite; and the storage requests alone, by JobLease's clients in as many processes. All jobs are published, with
lease blob and trail, before the clock starts; it stops at the last `Completed` in the trail.
"""

import asyncio
import os
import statistics
import time
from contextlib import ExitStack
from importlib import import_module
from uuid import uuid4

from contenders import record
from fleet import Fleet, Run, delete_queues, fleet
from joblease import broker, topology
from joblease.leases import LeaseBlobs, job_blob
from joblease.messages import HeadHint, JobMessage, State, Status, now
from joblease.settings import StorageSettings
from joblease.storage import TRAIL_TABLE, Storage
from joblease.trail import AuditTrail, Head, NewEvent
from parts import broker_and_storage
from report import Plot, Report, Row, Target, arguments, spread

JOBS = 300
CONCURRENCY = 8
WORKERS = tuple(map(int, os.environ.get("W", "1 2 4").split()))
WARM_UP = 2 * CONCURRENCY
"""Jobs for each worker that are not measured."""
CONTENDERS = {
    "joblease": "JobLease", "celery": "Celery", "dramatiq": "Dramatiq", "taskiq": "Taskiq",
    "raw": "storage requests alone",
}  # fmt: skip
"""Modules, and what to call them; JobLease is compared with the others."""
AT_ONCE = 16
PATIENCE_SECONDS = 30
HISTORY = [Status.SUBMITTED, Status.QUEUED, Status.STARTED, Status.COMPLETED]


async def submit(count: int) -> list[JobMessage]:
    """Trail and lease blob of new jobs, as the operator makes them; the messages are not published."""
    limit = asyncio.Semaphore(AT_ONCE)
    async with Storage(StorageSettings()) as storage:
        await storage.create_tables(TRAIL_TABLE)
        await storage.create_locks()
        trail, blobs = AuditTrail(storage.table(TRAIL_TABLE)), LeaseBlobs(storage.locks())

        async def one(number: int) -> JobMessage:
            job_id, name = str(uuid4()), f"noop-{number}"
            new = Head(job_id, "default", name, "noop", "default", "default", now())
            events = [NewEvent(Status.SUBMITTED, state=State.SUBMITTED), NewEvent(Status.QUEUED)]
            async with limit:
                head, _ = await trail.append(new, events, state=State.QUEUED)
                await blobs.create(job_blob(job_id), {})
            hint = HeadHint(etag=head.etag, sequence=head.sequence, attempt=0, epoch=0, submitted_at=head.submitted_at)
            return JobMessage(
                job_id=job_id, namespace="default", name=name, handler="noop", queue="default", group="default",
                limit=0, head=hint,
            )  # fmt: skip

        return await asyncio.gather(*(one(number) for number in range(count)))


async def ended(jobs: list[JobMessage]) -> float:
    """When the last of the jobs ended, seconds since 1970; checks that each has its whole history, and forgets them."""
    async with Storage(StorageSettings()) as storage:
        trail = AuditTrail(storage.table(TRAIL_TABLE))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            histories = {head.job_id: events async for head, events in trail.everything()}
            ours = [histories.get(job.job_id, []) for job in jobs]
            if all(events and events[-1].state.terminal for events in ours):
                break
            if time.monotonic() > deadline:
                raise SystemExit(f"not all of {len(jobs)} jobs have ended after {PATIENCE_SECONDS} s")
            await asyncio.sleep(0.1)
        for events in ours:
            if [event.status for event in events] != HISTORY:
                raise SystemExit(f"an unexpected history: {events}")
        await storage.table(TRAIL_TABLE).delete_table()
    return max(events[-1].timestamp for events in ours).timestamp()


def measure(started: Fleet, others: dict[str, int]) -> tuple[float, Run]:
    """Jobs per second of some workers, and what it took."""
    jobs = asyncio.run(submit(JOBS))
    run = started.run(jobs, others)
    last = asyncio.run(ended(jobs))
    delete_queues(*(f"{broker.EVENTS}.{reader}" for reader in topology.READERS))
    return len(jobs) / (last - run.began), run


def main() -> None:
    """Entry point."""
    options = arguments(__doc__, rounds=3)
    found: dict[tuple[int, str], list[tuple[float, Run]]] = {}
    with broker_and_storage("throughput") as (folder, pids):
        others = {name: pids[name] for name in ("azurite", "rabbitmq")}
        os.environ[record.FILE] = str(folder / "record")
        for workers in WORKERS:
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
    targets = []
    names = list(CONTENDERS.values())
    for workers in WORKERS:
        rates = {name: [rate for rate, _ in found[workers, name]] for name in names}
        for name in names[1:]:
            wanted = 0.8 if name == names[-1] else 1.0
            ratio = spread([ours / theirs for ours, theirs in zip(rates[names[0]], rates[name], strict=True)])
            targets.append(
                Target(f"{workers} workers, JobLease to {name}", f">= {wanted}", str(ratio), ratio.median >= wanted)
            )
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
            "All busy: workers, Azurite and RabbitMQ in percent of all processors; near 100 the machine is the limit.",
        ],
        plot=Plot("workers", "jobs/s", "contender"),
    )


if __name__ == "__main__":
    main()
