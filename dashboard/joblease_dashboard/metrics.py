"""What the dashboard exports."""

from prometheus_client import Counter, Gauge, Histogram

INDEX_ROWS = Counter("joblease_index_rows_written_total", "Rows written to the read model.", ["table"])
INDEX_LAG_SECONDS = Histogram(
    "joblease_index_lag_seconds", "Age of an event when it was written.", buckets=(0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300)
)
SSE_CLIENTS = Gauge("joblease_sse_clients", "Open live streams.")
ACTIONS = Counter("joblease_actions_total", "What people did from the pages.", ["action", "outcome"])
HTTP_REQUESTS = Counter("joblease_http_requests_total", "Requests answered.", ["route", "method", "code"])
HTTP_SECONDS = Histogram("joblease_http_request_seconds", "Time to an answer's first byte.", ["route"])
