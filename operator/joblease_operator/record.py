"""A job's audit trail as the operator writes and reads it: never over what somebody else has written meanwhile."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from joblease.messages import JobEvent, Status
from joblease.trail import AuditTrail, Head, HeadChanged, NewEvent

from joblease_operator.job import Job


class Record:
    """Notes in the job what is written and read."""

    def __init__(
        self,
        trail: AuditTrail,
        take_note: Callable[[Job, Sequence[JobEvent]], None],
        look_again: Callable[[str], None],
    ) -> None:
        """`take_note` is called with what has happened to a job; `look_again` when the job is not as it was thought."""
        self._trail = trail
        self._take_note = take_note
        self._look_again = look_again

    async def write(self, job: Job, events: Sequence[NewEvent], head: Head | None = None, **changes: Any) -> None:
        """Write if the job is still in the state that led here; else learn what it is by now.

        `head` is for a new job's first events; `changes` are fields of the head.
        """
        before = job.state
        head = head or job.head or await self._trail.head(job.uid)
        while before is None or head.state is before:
            try:
                job.head, written = await self._trail.append(head, events, **changes)
            except HeadChanged as changed:
                if before is None:
                    await self.tell_what_is_known(job)
                    return
                head = changed.current
                continue
            job.unannounced += written
            self._take_note(job, written)
            return
        await self.read(job)
        self._look_again(job.uid)

    async def tell_what_is_known(self, job: Job) -> None:
        """Go on with a job that was begun by a try whose answer was lost: it may not have told anybody.

        Raises `UnknownJob`.
        """
        job.unannounced = await self.read(job)
        self._look_again(job.uid)

    async def read(self, job: Job) -> list[JobEvent]:
        """Learn from the trail all that events would have told. Raises `UnknownJob`."""
        events = await self._trail.history(job.uid)
        job.head = None
        self._take_note(job, events)
        job.last_news = time.monotonic()
        return events


def facts(job: Job, *, parameters: bool = True) -> dict[str, Any]:
    """What the trail keeps of the resource, which will be deleted one day."""
    assert job.spec is not None  # noqa: S101 - only ended jobs have none
    spec = job.spec.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"suspend", "cancel"})
    if not parameters:
        spec.pop("parameters", None)
    return {**spec, "traceparent": job.traceparent} if job.traceparent else spec


def queued(job: Job) -> NewEvent:
    """The job was admitted."""
    return NewEvent(Status.QUEUED, f"waits for a worker of queue {job.spec.queue if job.spec else ''}")


def cancelled(job: Job) -> NewEvent:
    """The job ends before it has begun."""
    why = "the JobRequest was deleted" if job.gone or job.deleting else "cancelled before it started"
    return NewEvent(Status.CANCELLED, why)
