"""What the simulation shows beyond rates: how long jobs wait under load, and what lost workers do."""

import statistics
from dataclasses import dataclass

from capacity import agree, least
from costs import DEFER_SECONDS, LEASE_SECONDS, RENEW_SECONDS, Job, Site
from queueing import Installation
from report import Plot, Report, Row, Target, percentile

LOADS = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
WARM_UP_SECONDS, JOBS_TO_SEE = 10, 1500
LOST, LOSS_LOAD, REPLACED_SECONDS = (10, 100, 400), 0.6, 30
RESTART_SECONDS = LEASE_SECONDS + DEFER_SECONDS
RESTART_MEAN_SECONDS = LEASE_SECONDS - DEFER_SECONDS / 2
"""What is left of a lease is anything from 40 to 60 s; the next look after that is at 50 or at 60 s."""


def waiting(site: Site, seed: int) -> Report:
    """From submission to start, by load."""
    rows: list[Row] = []
    kinds = {"any number, no-op": (Job(), 0), "50 at a time, 1 s": (Job(1, limited=True, waits=True), 50)}
    for name, (job, limit) in kinds.items():
        _, most = least(job, site, limit)
        for load in LOADS:
            installation = Installation(site, job, limit, seed)
            installation.arrive(most * load)
            installation.run(WARM_UP_SECONDS)
            waited = installation.run(JOBS_TO_SEE / (most * load)).waited
            rows.append(
                {
                    "jobs": name,
                    "load %": round(load * 100),
                    "jobs/s": most * load,
                    "p50 ms": percentile(waited, 0.5) * 1000,
                    "p99 ms": percentile(waited, 0.99) * 1000,
                }
            )
    question = "How long a job waits from submission to start, by load, simulated"
    note = "100 % is the most that was worked out. Jobs come at random moments."
    plot = Plot("load %", "p99 ms", "jobs", log_y=True)
    return Report("scale-waiting", question, 1, rows, notes=(note,), plot=plot)


@dataclass(frozen=True, slots=True)
class Loss:
    """What happened when some workers died."""

    lost: int
    back: list[float]
    """Seconds to the next start of each of their jobs."""
    deferrals: int
    before_p99: float
    after_p99: float
    """Seconds that other jobs waited."""

    def row(self) -> Row:
        return {
            "workers lost": self.lost,
            "started again, p50 s": percentile(self.back, 0.5),
            "mean s": statistics.fmean(self.back),
            "last s": max(self.back),
            "deferrals a job": self.deferrals / self.lost,
            "others waited, p99 ms": self.after_p99 * 1000,
            "p99 before, ms": self.before_p99 * 1000,
        }


def lose(site: Site, job: Job, lost: int, seed: int) -> Loss:
    """Workers die all at once, in the middle of their runs."""
    installation = Installation(site, job, seed=seed)
    installation.arrive(LOSS_LOAD * site.workers / job.seconds)
    before = installation.run(2 * job.seconds)
    tasks = installation.workers.kill(lost, REPLACED_SECONDS)
    after = installation.run(2 * job.seconds)
    back = [task.recovered_after for task in tasks if task.recovered_after is not None]
    if len(back) != lost:
        raise SystemExit(f"{lost - len(back)} of {lost} lost jobs did not start again within {2 * job.seconds:g} s")
    deferrals = sum(task.deferrals for task in tasks)
    return Loss(lost, back, deferrals, percentile(before.waited, 0.99), percentile(after.waited, 0.99))


def losses(site: Site, seed: int) -> Report:
    """Small and large ones."""
    job = Job(60)
    each = [lose(site, job, lost, seed) for lost in LOST]
    last = max(max(loss.back) for loss in each)
    off = [statistics.fmean(loss.back) / RESTART_MEAN_SECONDS - 1 for loss in each]
    targets = [agree(f"mean seconds to the next start ({RESTART_MEAN_SECONDS:g} worked out)", *off)]
    bound = f"within {RESTART_SECONDS} s (a lease and a deferral)"
    targets.append(Target("the last lost job has started again", bound, f"{last:.0f} s", last <= RESTART_SECONDS))
    notes = [
        f"Jobs of {job.seconds:g} s keep {LOSS_LOAD:.0%} of {site.workers:,} workers busy.",
        f"Other workers come in the place of those that die after {REPLACED_SECONDS} s.",
        f"A lease has {LEASE_SECONDS - RENEW_SECONDS} to {LEASE_SECONDS} s left when its worker dies.",
        f"A deferred job is tried again every {DEFER_SECONDS} s.",
    ]
    question = "What happens when workers die under their jobs, all at once, simulated"
    return Report("scale-losses", question, 1, [loss.row() for loss in each], targets, notes)
