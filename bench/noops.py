"""No-op jobs as the operator leaves them when it has admitted them, and what their trail says in the end."""

import asyncio
import time
from collections.abc import Sequence
from uuid import uuid4

from joblease.head import Head, hint_of
from joblease.leases import LeaseBlobs, job_blob
from joblease.messages import JobMessage, Status, now
from joblease.settings import StorageSettings
from joblease.states import State
from joblease.storage import TRAIL_TABLE, Storage
from joblease.trail import AuditTrail, NewEvent

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
    hint = hint_of(head)
    return JobMessage(
        job_id=head.job_id, namespace=head.namespace, name=head.name, handler=head.handler, queue=head.queue,
        group=head.group, limit=0, head=hint,
    )  # fmt: skip


async def submit(count: int) -> list[JobMessage]:
    """Write trail and lease blob of new jobs. The messages are not published."""
    limit = asyncio.Semaphore(AT_ONCE)
    async with Storage(StorageSettings()) as storage:
        await storage.create_tables(TRAIL_TABLE)
        await storage.create_locks()
        trail, blobs = AuditTrail(storage.table(TRAIL_TABLE)), LeaseBlobs(storage.locks())

        async def one() -> JobMessage:
            async with limit:
                head, _ = await trail.append(new_head(), ADMITTED, state=State.QUEUED)
                await blobs.create(job_blob(head.job_id), {})
            return message(head)

        return await asyncio.gather(*(one() for _ in range(count)))


async def ended(jobs: Sequence[JobMessage]) -> float:
    """When the last of the jobs ended, seconds since 1970; sees to it that each has its whole history, and deletes all.

    Raises `SystemExit` when a history is not what it should be.
    """
    async with Storage(StorageSettings()) as storage:
        trail = AuditTrail(storage.table(TRAIL_TABLE))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            histories = {head.job_id: events async for head, events in trail.everything()}
            ours = [histories.get(job.job_id, []) for job in jobs]
            if all(events and events[-1].state.terminal for events in ours):
                break
            if time.monotonic() > deadline:
                raise SystemExit(f"not all of {len(jobs)} jobs have ended after {PATIENCE_SECONDS} s")
            await asyncio.sleep(0.1)
        for events in ours:
            if [event.status for event in events] != HISTORY:
                raise SystemExit(f"an unexpected history: {events}")
        await storage.table(TRAIL_TABLE).delete_table()
    return max(events[-1].timestamp for events in ours).timestamp()
