"""How many jobs a second one installation carries, worked out: `make bench-scale`.

A part carries its limit divided by what a job takes of it (`costs.py`). The jobs' own path is as fast as its slowest
part; the history that the dashboard writes has a path of its own, and lags when that is slower. Whether the figures are
right is for `make bench-price` and the budget tests. It needs no parts.
"""

from collections.abc import Mapping
from dataclasses import replace

from costs import (
    ETCD_WRITES,
    HEARD_OF_A_JOB,
    INDEX_BATCH,
    OBJECTS,
    OPERATOR_SHARES,
    QUEUE,
    RECONCILES,
    RENEW_SECONDS,
    STATUS_WRITES,
    TTL_SECONDS,
    Job,
    Latency,
    Site,
)
from report import Report, arguments, number

DAY, SHORT_TTL = 86_400, 300
GROUP, WORKERS, ACCOUNT, SLOT_BLOB = "the group", "the workers", "the storage account", "a slot's blob"
OPERATOR_CPU, OPERATOR_STEPS, OPERATOR_STATUS = (
    "the operator's processor", "the operator's reconciliations", "the operator's status writes",
)  # fmt: skip
JOBS_QUEUE, EVENTS_QUEUE = "a jobs queue", "an events queue"
ETCD, KEPT = "etcd's writes", "ended JobRequests that are kept"
INDEX, FEED = "the dashboard's writer", "a day of JobFeed, of JobIndex"


def occupied(job: Job, site: Site) -> float:
    """Seconds for which a worker is busy with a job: slot, claim, the handler, outcome, release, last event."""
    requests = (4 if job.limited else 2) * site.storage.mean
    said = site.publish.mean
    return site.deliver.mean + requests + site.worker_ms / 1000 + job.seconds + said


def turn(job: Job, site: Site) -> float:
    """Seconds from one start to the next in a slot: a worker's time, and the operator's to send the next job.

    The operator hears of the end, writes `Queued` for the next job, and publishes it.
    """
    cpu = site.operator_ms / 1000 * (OPERATOR_SHARES["admit"] / 2 + OPERATOR_SHARES["hear"] / HEARD_OF_A_JOB)
    return occupied(job, site) + site.deliver.mean + cpu + site.storage.mean + site.publish.mean


def capacity(job: Job, site: Site, limit: int = 0, ttl: float = TTL_SECONDS) -> Mapping[str, float]:
    """Jobs a second of each part. `limit`: the group's, which all jobs are in; 0 for none."""
    total, operator, events = job.total(), job.operator(), job.events
    admitting = site.operator_ms / 1000 * OPERATOR_SHARES["admit"]
    statuses = operator.api - 1  # the deletion is not theirs
    reconciling = admitting + 2 * site.storage.mean + 3 * site.publish.mean + (job.waits * site.storage.mean)
    batch = INDEX_BATCH * site.dashboard_cpu(job) / events + 3 * site.storage.mean
    parts = {
        WORKERS: site.workers / occupied(job, site),
        OPERATOR_CPU: 1 / site.operator_cpu(job),
        OPERATOR_STEPS: RECONCILES / reconciling,
        OPERATOR_STATUS: STATUS_WRITES / (statuses * site.api.mean),
        ACCOUNT: site.account / (total.units - (0 if site.dashboards else job.dashboard().units)),
        JOBS_QUEUE: float(QUEUE.value),
        EVENTS_QUEUE: QUEUE.value / events,
        ETCD: ETCD_WRITES.value / total.api,
        KEPT: OBJECTS.value / (ttl + job.seconds),
        INDEX: site.dashboards * INDEX_BATCH / batch / events,
        FEED: site.partition / events,
    }
    if limit:
        parts[GROUP] = limit / turn(job, site)
        held = 2 + (job.seconds > 1) + job.seconds // RENEW_SECONDS
        parts[SLOT_BLOB] = limit * site.blob / held
    return parts


def carried(site: Site) -> Report:
    """Each part's jobs a second, worked out."""
    kinds = {"no-op": Job(), "1 s, 10 steps": Job(1, steps=10), "60 s": Job(60)}
    parts = {name: dict(capacity(job, site)) for name, job in kinds.items()}
    for name, job in kinds.items():
        parts[name][f"{KEPT} for {SHORT_TTL // 60} minutes"] = capacity(job, site, ttl=SHORT_TTL)[KEPT]
        parts[name][f"{KEPT} for a day"] = parts[name].pop(KEPT)
    first = parts["no-op"]
    rows = [
        {"part": part, "no-op: jobs a day": f"{in_a_day(first[part])}"}
        | {f"{name}: jobs/s": rates[part] for name, rates in parts.items()}
        for part in sorted(first, key=first.__getitem__)
    ]
    turns = capacity(Job(limited=True, waits=True), site, 1)[GROUP]
    spent = {"operator": site.operator_ms, "worker": site.worker_ms, "dashboard": site.dashboard_ms}
    takes = {"a storage request": site.storage, "a confirmed message": site.publish, "an API write": site.api}
    notes = [
        f"A group with limit 1 does {number(turns)} no-op jobs a second, one of limit n up to n times as many.",
        f"Processor time of a no-op: {', '.join(f'{name} {ms:.1f} ms' for name, ms in spent.items())}.",
        f"One operator, one dashboard, {site.workers:,} workers that run one job at a time.",
        f"Assumed: {', '.join(f'{name} {each.p50:g} ms (p99: {each.p99:g})' for name, each in takes.items())}.",
    ]
    question = "How many jobs a second each part of one installation carries, worked out"
    return Report("scale", question, 1, rows, notes=notes)


def in_a_day(rate: float) -> str:
    """Jobs a day, in round figures."""
    jobs, million = rate * DAY, 1_000_000
    return f"{jobs / million:,.1f} million" if jobs >= million else f"{jobs:,.0f}"


def main() -> None:
    known = Site()
    options = arguments(
        __doc__, rounds=1,
        workers={"type": int, "default": known.workers, "help": f"workers (default: {known.workers})"},
        storage_ms={
            "type": float, "default": known.storage.p50,
            "help": f"median time of a storage request; the p99 grows with it (default: {known.storage.p50:g})",
        },
    )  # fmt: skip
    storage = Latency(options.storage_ms, options.storage_ms * known.storage.p99 / known.storage.p50)
    site = replace(known, workers=options.workers, storage=storage)
    carried(site).publish(options.write)


if __name__ == "__main__":
    main()
