"""Waits for a time that may change."""

import asyncio
import contextlib
from datetime import datetime

from joblease.messages import now

LONGEST_SLEEP_SECONDS = 3600.0
"""A wall clock that is set anew is noticed by then."""


async def until(due: datetime | None, changed: asyncio.Event) -> None:
    """Sleep until a moment (None: no moment), or until `changed` is set from now on, when another one may be due."""
    changed.clear()
    pause = (due - now()).total_seconds() if due else LONGEST_SLEEP_SECONDS
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(min(max(pause, 0.0), LONGEST_SLEEP_SECONDS)):
            await changed.wait()
