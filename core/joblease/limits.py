"""What a job and its handler may say: bounds that several parts hold, and that cost nothing to import."""

import re
import sys

NAME_PATTERN = r"^[a-z0-9]([-a-z0-9._]*[a-z0-9])?$"
"""Of handlers, queues and groups."""
MAX_NAME = 63
HEADER_PATTERN = r"^[!-~]([ -~]*[!-~])?$"
"""Printable ASCII, as a header can carry it."""
KEY_PATTERN = HEADER_PATTERN
"""Of idempotency keys."""
MAX_KEY = 255
MAX_DEPTH = 64
"""Levels of lists and objects in parameters, results and the data of steps. Readers of JSON give up at depths of their
own: pydantic's at 200, protobuf's and some proxies' at 100."""
MAX_PARAMETERS_BYTES = 65_536
MAX_RESULT_BYTES = 4_096
MAX_STEP_DATA_BYTES = 16_384
MAX_CHECKPOINT_BYTES = 65_536
"""Of compact JSON in UTF-8, as these are stored."""
MAX_STEP_MESSAGE = 4_000
"""Characters of a step's message and of an error; what is longer is cut."""
API_DEPTH = 10_000
"""Levels at which the API server gives up."""
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
"""Of namespaces."""


def is_name(text: str) -> bool:
    """Whether a handler, a queue or a group can be called so."""
    return len(text) <= MAX_NAME and bool(re.fullmatch(NAME_PATTERN, text))


def is_int64(number: int) -> bool:
    """Whether parameters, and what handlers give, may have it: the API server keeps a larger one as another number."""
    return -(1 << 63) <= number < 1 << 63


def allow_depth_of_api_server() -> None:
    """Make room for one recursion a level, or a single JobRequest of somebody else's would be the end of each list.

    It may be called again: a limit that grew each time would let deep JSON overflow the C stack, which is no error but
    a segmentation fault (seen at 120,000 levels and 8 MiB).
    """
    sys.setrecursionlimit(max(sys.getrecursionlimit(), API_DEPTH + 1_000))
