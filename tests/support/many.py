"""Thousands of jobs in the read model, written with its own code, without going through the broker."""

from datetime import datetime, timedelta
from uuid import UUID

from joblease.messages import JobEvent, now
from joblease.states import State
from joblease.storage import FEED_TABLE, INDEX_TABLE, STATS_TABLE
from joblease_dashboard.read_model.writer import Writer

from support.jobs import Jobs

BATCH = 500
COMPLETES = (("Submitted", State.SUBMITTED, 0), ("Started", State.RUNNING, 4), ("Completed", State.COMPLETED, 30))
FAILS = (*COMPLETES[:2], ("Failed", State.FAILED, 30))
OPEN_EVERY, FAILED_EVERY = 20, 50


def job_id(number: int) -> str:
    return str(UUID(int=number))


def name(number: int) -> str:
    return f"job-{number:05d}"


async def fill(jobs: Jobs, count: int, seconds: float = 12) -> datetime:
    """`count` jobs, one every few seconds until a minute ago: number 0 is the oldest. When that was submitted.

    One of 50 has failed; one of 20 has not started; and all others have completed.
    """
    storage = jobs.storage
    await storage.create_tables(INDEX_TABLE, FEED_TABLE, STATS_TABLE)
    writer = Writer(storage.table, jobs.trail)
    await writer.statistics.set_complete()
    first = now() - timedelta(seconds=seconds * count + 60)
    for start in range(0, count, BATCH):
        batch = range(start, min(start + BATCH, count))
        await writer.add([each for n in batch for each in _events(n, first + timedelta(seconds=seconds * n))])
    return first


def _events(number: int, submitted: datetime) -> list[JobEvent]:
    story = FAILS if number % FAILED_EVERY == 0 else COMPLETES
    return [
        event(number, submitted, sequence, status, state, submitted + timedelta(seconds=after))
        for sequence, (status, state, after) in enumerate(story[: 1 if number % OPEN_EVERY == 1 else None], 1)
    ]


def event(number: int, submitted: datetime, sequence: int, status: str, state: State, at: datetime) -> JobEvent:
    """Something that happened to one of the jobs."""
    started = min(sequence - 1, 1)
    return JobEvent(
        event_id=f"{job_id(number)}.{sequence:010d}", job_id=job_id(number), namespace=f"team-{number % 4}",
        name=name(number), handler=f"handler-{number % 10}", queue="default", group=f"group-{number % 7}",
        submitted_at=submitted, sequence=sequence, status=status, state=state, message=f"it is {state}",
        attempt=started, epoch=started, timestamp=at, worker=f"worker-{number % 3}" if started else None,
    )  # fmt: skip
