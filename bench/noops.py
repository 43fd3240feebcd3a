"""No-op jobs as the operator leaves them when it has admitted them, and what their trail says in the end."""

import asyncio
from collections.abc import Sequence
from uuid import uuid4

from joblease.head import Head, hint_of
from joblease.leases import LeaseBlobs, job_blob
from joblease.messages import JobMessage, Status, now
from joblease.settings import StorageSettings
from joblease.states import State
from joblease.storage import TRAIL_TABLE, Storage
from joblease.trail import AuditTrail, NewEvent
from jobs import each
from processes import attempts

AT_ONCE = 16
PATIENCE_SECONDS = 30
ADMITTED = [NewEvent(Status.SUBMITTED, state=State.SUBMITTED), NewEvent(Status.QUEUED)]
HISTORY = [Status.SUBMITTED, Status.QUEUED, Status.STARTED, Status.COMPLETED]


def new_head() -> Head:
    """Of a job that has no trail yet."""
    job_id = str(uuid4())
    return Head(job_id, "default", f"noop-{job_id[:8]}", "noop", "default", "default", now())


def message(head: Head) -> JobMessage:
    """What is published for the job, in a group without a limit."""
    return JobMessage(
        job_id=head.job_id, namespace=head.namespace, name=head.name, handler=head.handler, queue=head.queue,
        group=head.group, limit=0, head=hint_of(head),
    )  # fmt: skip


async def submit(count: int, *, blobs: bool = False) -> list[JobMessage]:
    """Write the trail of new jobs, and make a blob for each if asked to. The messages are not published."""
    made: list[JobMessage] = []
    async with Storage(StorageSettings()) as storage:
        await storage.create_tables(TRAIL_TABLE)
        await storage.create_locks()
        trail, locks = AuditTrail(storage.table(TRAIL_TABLE)), LeaseBlobs(storage.locks())

        async def one(_: int) -> None:
            head, _written = await trail.append(new_head(), ADMITTED, state=State.QUEUED)
            if blobs:
                await locks.create(job_blob(head.job_id), {})
            made.append(message(head))

        await each(count, one, AT_ONCE)
    return made


async def ended(jobs: Sequence[JobMessage]) -> float:
    """When the last of the jobs ended, seconds since 1970; sees to it that each has its whole history, and deletes all.

    Raises `SystemExit` when a history is not what it should be.
    """
    async with Storage(StorageSettings()) as storage:
        trail = AuditTrail(storage.table(TRAIL_TABLE))
        for _ in attempts(PATIENCE_SECONDS, f"all of {len(jobs)} jobs have ended"):
            histories = {head.job_id: events async for head, events in trail.everything()}
            ours = [histories.get(job.job_id, []) for job in jobs]
            if all(events and events[-1].state.terminal for events in ours):
                break
            await asyncio.sleep(0.1)
        for events in ours:
            if [event.status for event in events] != HISTORY:
                raise SystemExit(f"an unexpected history: {events}")
        await storage.table(TRAIL_TABLE).delete_table()
    return max(events[-1].timestamp for events in ours).timestamp()
