"""W3C trace context, carried from the `JobRequest` through the broker to the handler.

Only the `traceparent` header is handled: enough for the programs' logs and a handler's own tracing library to join
the caller's trace. https://www.w3.org/TR/trace-context/#traceparent-header
"""

import re
import secrets

HEADER = "traceparent"
ANNOTATION = "joblease.dev/traceparent"
_FORMAT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def is_valid(text: str) -> bool:
    """Whether the text is a `traceparent`."""
    return bool(_FORMAT.fullmatch(text))


def child_of(parent: str | None) -> str:
    """A new span under `parent`, or the root of a new trace when there is none or it is malformed."""
    if parent and is_valid(parent):
        version, trace_id, _, flags = parent.split("-")
        return f"{version}-{trace_id}-{secrets.token_hex(8)}-{flags}"
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def trace_id(traceparent: str) -> str:
    """The 32 hexadecimal digits that all spans of a trace share."""
    return traceparent.split("-")[1]
