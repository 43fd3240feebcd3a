"""What a worker exports."""

from joblease.metrics import DURATION_BUCKETS
from prometheus_client import Counter, Gauge, Histogram

JOBS_RUNNING = Gauge("joblease_jobs_running", "Jobs running now.")
JOBS_FINISHED = Counter("joblease_jobs_finished_total", "Runs that ended, by outcome.", ["handler", "outcome"])
JOB_DURATION_SECONDS = Histogram(
    "joblease_job_duration_seconds", "Time from a run's start to its end.", ["handler"], buckets=DURATION_BUCKETS
)
JOB_QUEUE_WAIT_SECONDS = Histogram(
    "joblease_job_queue_wait_seconds", "Time from submission to a run's start.", buckets=DURATION_BUCKETS
)
DEFERRALS = Counter("joblease_job_deferrals_total", "Jobs sent back to wait.", ["reason"])
DEAD_LETTERS = Counter("joblease_dead_letters_total", "Messages parked in joblease.dead.", ["reason"])
LEASE_ACQUIRE_SECONDS = Histogram("joblease_lease_acquire_seconds", "Time of a request for a lease.", ["result"])
LEASE_RENEWALS = Counter("joblease_lease_renewals_total", "Requests to renew a lease.", ["result"])
LEASES_LOST = Counter("joblease_lease_lost_total", "Leases lost while a job was running.")
LEASE_SECONDS_REMAINING = Gauge(
    "joblease_lease_seconds_remaining", "Least time left on a held lease; the lease's length when none is held."
)
HANDLER_PROCESSES = Counter("joblease_handler_processes_total", "Handler processes started.")
HANDLER_PROCESSES_RETIRED = Counter(
    "joblease_handler_processes_retired_total", "Handler processes that run nothing more, by reason.", ["reason"]
)
FOREIGN_FRAMES = Counter(
    "joblease_foreign_frames_total", "What handler processes said of a run that was not theirs; it was dropped."
)

# What alerts ask for begins at 0: of a counter that appears with its first event, `increase` does not see that one.
for reason in ("unreadable", "no trail", "error"):
    DEAD_LETTERS.labels(reason)
for reason in ("leftovers", "jobs", "memory"):
    HANDLER_PROCESSES_RETIRED.labels(reason)
for result in ("renewed", "unknown", "lost"):
    LEASE_RENEWALS.labels(result)
