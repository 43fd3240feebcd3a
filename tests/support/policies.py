"""Handlers with a policy, of two releases: `JOBLEASE_TEST_RELEASE` says which."""

import os
import time

from joblease import JobContext, handler

NEWER = os.environ.get("JOBLEASE_TEST_RELEASE") == "2"


@handler(
    "import-rows", group="import-{customer}", limit=2 if NEWER else 1, max_attempts=1 if NEWER else 2, deadline="2h"
)
def import_rows(job: JobContext, seconds: float = 0, fails: int = 0) -> str:
    """Import a customer's rows."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.02)
        job.step()
    if job.attempt <= fails:
        raise ConnectionError("gone")
    return "imported"


@handler("plain")
def plain(_: JobContext) -> None:
    """Has no policy."""
