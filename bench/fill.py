"""Fills the audit trail and the dashboard's tables with jobs that never ran.

The jobs are spread evenly over the past, the newest first, with the histories that jobs have: most complete, some are
tried again, fail, are cancelled, or change their worker. The rows are made by the code that makes them in operator,
workers and dashboard. A job has about 8 rows in the trail.
"""

import asyncio
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from joblease.head import Head
from joblease.messages import JobEvent, Status
from joblease.states import State
from joblease.trail import AuditTrail, NewEvent
from joblease_dashboard.read_model.writer import Writer

JOBS_A_DAY = 1_000
BATCH = 500
"""Jobs that are written together."""
IN_FLIGHT = 16
"""Transactions of the trail, whose partitions are the jobs, at the same time."""
HANDLERS = ("resize-images", "import-orders", "send-invoices", "train-model", "export-ledger", "reindex", "backup")
NAMESPACES = ("shop", "shop", "shop", "billing", "billing", "research")
OUTCOMES = {State.COMPLETED: 90, State.FAILED: 6, State.CANCELLED: 3, State.DEADLINE_EXCEEDED: 1}


@dataclass(frozen=True, slots=True)
class Job:
    """A job that never was."""

    head: Head
    """Before anything had happened."""
    events: list[NewEvent]
    changes: dict[str, Any]
    """What the head came to."""


def jobs(count: int, newest: datetime, jobs_a_day: float, seed: int = 1) -> Iterator[Job]:
    """Jobs, the last submitted first. The same seed makes the same jobs."""
    rng = random.Random(seed)
    for number in range(count):
        moment = newest - timedelta(days=(number + rng.random()) / jobs_a_day)
        handler = rng.choice(HANDLERS)
        job_id = str(UUID(int=rng.getrandbits(128), version=4))
        name = f"{handler}-{job_id[:5]}"
        yield _job(rng, Head(job_id, rng.choice(NAMESPACES), name, handler, "default", "default", moment))


def _job(rng: random.Random, head: Head) -> Job:
    at, events = head.submitted_at, list[NewEvent]()
    attempts = rng.choices((1, 2, 3), (90, 8, 2))[0]
    worker = f"worker-{rng.randrange(10)}"
    outcome = rng.choices(list(OUTCOMES), list(OUTCOMES.values()))[0]

    def happen(status: str, state: State, attempt: int, message: str = "", progress: int | None = None) -> None:
        nonlocal at
        at += timedelta(seconds=rng.expovariate(0.5))
        by = worker if attempt and state is not State.QUEUED else None
        events.append(
            NewEvent(status, message, progress=progress, timestamp=at, attempt=attempt, worker=by, state=state)
        )

    happen(Status.SUBMITTED, State.SUBMITTED, 0)
    for attempt in range(1, attempts + 1):
        happen(Status.QUEUED, State.QUEUED, attempt - 1)
        happen(Status.STARTED, State.RUNNING, attempt)
        steps = rng.randint(1, 5)
        for step in range(1, steps + 1):
            happen(Status.step(step), State.RUNNING, attempt, f"{step} of {steps} parts done", 100 * step // steps)
        if attempt < attempts:
            worker = f"worker-{rng.randrange(10)}"
            happen(Status.RETRYING, State.RETRYING, attempt, "ConnectionError: the server closed the connection")
    ending = Status.FAILED if outcome is State.DEADLINE_EXCEEDED else Status(outcome.value)
    happen(ending, outcome, attempts, "" if outcome is State.COMPLETED else f"{outcome.value} as it happens")
    return Job(head, events, {"state": outcome, "attempt": attempts, "epoch": attempts, "worker": worker})


async def fill(batch: Sequence[Job], trail: AuditTrail, index: Writer) -> int:
    """Write jobs into all tables; how many rows the trail has got, heads not counted. Raises `AzureError`."""
    slots = asyncio.Semaphore(IN_FLIGHT)

    async def one(job: Job) -> list[JobEvent]:
        async with slots:
            _, written = await trail.append(job.head, job.events, **job.changes)
            return written

    events = [event for written in await asyncio.gather(*(one(job) for job in batch)) for event in written]
    await index.add(events)
    await index.statistics.set_complete()  # as in an installation that is not new
    return len(events)
