"""What the operator exports."""

from joblease.metrics import DURATION_BUCKETS
from prometheus_client import Counter, Gauge, Histogram

LEADER = Gauge("joblease_operator_leader", "1 while this operator leads, 0 while it stands by.")
JOBS_PUBLISHED = Counter("joblease_jobs_published_total", "Jobs handed to the broker, repetitions included.")
JOBS_WAITING = Gauge("joblease_jobs_waiting", "Jobs that are not admitted yet.")
JOBS_ADMITTED = Gauge("joblease_jobs_admitted", "Jobs that were admitted and have not ended.")
JOBS_ENDED = Counter("joblease_job_requests_finished_total", "JobRequests that reached an outcome.", ["outcome"])
ADMISSION_WAIT_SECONDS = Histogram(
    "joblease_admission_wait_seconds", "Time from submission to admission.", buckets=DURATION_BUCKETS
)
API_WRITES = Counter("joblease_api_writes_total", "Writes to the API server.", ["kind"])
RECONCILE_ERRORS = Counter("joblease_reconcile_errors_total", "Reconciliations that failed and are tried again.")
EVENTS_SEEN = Counter("joblease_events_consumed_total", "Events taken from the broker.")
