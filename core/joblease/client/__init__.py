"""Submit jobs from a program, and follow them: `Client`, and `AsyncClient` of the same shape.

What is imported here is all that is public. Whoever uses no asyncio does not pay for it.
"""

from typing import TYPE_CHECKING, Any

from joblease.client.errors import (
    JobEnded,
    JobFailed,
    JobLeaseError,
    JobNotFound,
    JobWasCancelled,
    KeyConflict,
    NotConfigured,
    NotYet,
    Refused,
    Unreachable,
)
from joblease.client.seen import Event, Snapshot
from joblease.client.selection import Outcome, Selection
from joblease.client.submission import Options, Submission, submission
from joblease.client.sync import Client, Job

if TYPE_CHECKING:
    from joblease.client.aio import AsyncClient, AsyncJob

__all__ = [
    "AsyncClient",
    "AsyncJob",
    "Client",
    "Event",
    "Job",
    "JobEnded",
    "JobFailed",
    "JobLeaseError",
    "JobNotFound",
    "JobWasCancelled",
    "KeyConflict",
    "NotConfigured",
    "NotYet",
    "Options",
    "Outcome",
    "Refused",
    "Selection",
    "Snapshot",
    "Submission",
    "Unreachable",
    "submission",
]


def __getattr__(name: str) -> Any:
    if name in ("AsyncClient", "AsyncJob"):
        from joblease.client import aio

        return getattr(aio, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
