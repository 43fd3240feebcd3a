"""How many jobs a second each part of an installation carries: the arithmetic that the simulation checks.

A part carries its limit divided by what a job takes of it. The jobs' own path is as fast as its slowest part; the
history that the dashboard writes has a path of its own, and lags when that is slower.
"""

from collections.abc import Mapping

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
    Site,
)
from report import Target

WITHIN = 0.1
"""How far the simulation may be from the arithmetic."""
GROUP, WORKERS, ACCOUNT, SLOT_BLOB = "the group", "the workers", "the storage account", "a slot's blob"
OPERATOR_CPU, OPERATOR_STEPS, OPERATOR_STATUS = (
    "the operator's processor", "the operator's reconciliations", "the operator's status writes",
)  # fmt: skip
JOBS_QUEUE, EVENTS_QUEUE = "a jobs queue", "an events queue"
ETCD, KEPT = "etcd's writes", "ended JobRequests that are kept"
INDEX, FEED = "the dashboard's writer", "a day of JobFeed, of JobIndex"
HISTORY = (INDEX, FEED)
"""What the history waits for, and jobs do not."""
ADVICE = (KEPT,)
"""What nothing waits for: beyond it, lists and restarts of the API server become slow."""


def agree(what: str, *off: float) -> Target:
    """Whether simulated figures are where they were worked out to be; `off`: by which shares they are not."""
    worst = max(off, key=abs)
    measured = f"{worst:+.1%}" if len(off) == 1 else f"{worst:+.1%} at worst"
    return Target(what, f"within {WITHIN:.0%} of the arithmetic", measured, abs(worst) <= WITHIN)


def occupied(job: Job, site: Site) -> float:
    """Seconds for which a worker is busy with a job: leases, claim, the handler, outcome, release, last event."""
    requests = (job.leases + 2) * site.storage.mean
    release = site.storage.mean_of_slower if job.limited else site.storage.mean
    said = site.publish.mean
    return site.deliver.mean + requests + site.worker_ms / 1000 + job.seconds + release + said


def turn(job: Job, site: Site) -> float:
    """Seconds from one start to the next in a slot: a worker's time, and the operator's to send the next job.

    The operator hears of the end, writes `Queued` for the next job, and publishes it.
    """
    cpu = site.operator_ms / 1000 * (OPERATOR_SHARES["admit"] / 2 + OPERATOR_SHARES["hear"] / HEARD_OF_A_JOB)
    return occupied(job, site) + site.deliver.mean + cpu + site.storage.mean + site.publish.mean


def renewals(running: int, leases: int) -> float:
    """Requests a second that keep the leases of running jobs."""
    return running * leases / RENEW_SECONDS


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


def least(job: Job, site: Site, limit: int, *, history: bool = False) -> tuple[str, float]:
    """The part that is fully used first, and its jobs a second: on the jobs' own path, or on the history's."""
    parts = capacity(job, site, limit)
    first = min((part for part in parts if part not in ADVICE and (part in HISTORY) == history), key=parts.__getitem__)
    return first, parts[first]
