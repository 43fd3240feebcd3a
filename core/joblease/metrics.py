"""The metrics that more than one program exports, and the requests budget made visible.

Labels never hold a job's id or name: their number must stay bounded.
"""

from prometheus_client import Counter, Gauge, Histogram

from joblease import __version__

# From a no-op to a day: the usual web buckets end where jobs begin.
DURATION_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14_400, 43_200, 86_400)

STORAGE_REQUESTS = Counter(
    "joblease_storage_requests_total", "Requests sent to Azure storage.", ["service", "operation"]
)
MESSAGES_PUBLISHED = Counter("joblease_messages_published_total", "Messages confirmed by the broker.", ["exchange"])
BROKER_CONNECTED = Gauge("joblease_broker_connected", "1 while connected to the broker and subscribed.")
BROKER_BLOCKED = Gauge(
    "joblease_broker_blocked", "1 while RabbitMQ takes no messages from this program (memory or disk alarm)."
)
AUDIT_WRITES = Counter("joblease_audit_writes_total", "Transactions on the audit trail.", ["result"])
AUDIT_WRITES.labels("failed")  # begins at 0, or the alert would not see the first one
AUDIT_WRITE_SECONDS = Histogram("joblease_audit_write_seconds", "Time of a transaction on the audit trail.", ["result"])
BUILD_INFO = Gauge("joblease_build_info", "1, with the running version as a label.", ["program", "version"])


def set_build_info(program: str) -> None:
    """Export which program and version this is."""
    BUILD_INFO.labels(program, __version__).set(1)
