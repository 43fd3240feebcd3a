"""A job's audit trail as the operator writes and reads it: never over what somebody else has written meanwhile."""

from collections.abc import Callable, Sequence
from typing import Any

from joblease.head import Head
from joblease.messages import JobEvent, Status
from joblease.policy import JobPolicy
from joblease.states import State
from joblease.trail import AuditTrail, HeadChanged, NewEvent

from joblease_operator.job import Job
from joblease_operator.status import tells

READ_ROWS = 1_000
"""Of a history that is read as a whole: one answer of storage. Of a longer one, the last row must do."""


class Record:
    """Notes in the job what is written and read."""

    def __init__(
        self,
        trail: AuditTrail,
        take_note: Callable[[Job, Sequence[JobEvent]], None],
        changed: Callable[[Job], None],
    ) -> None:
        """`take_note` is called with what has happened to a job, `changed` when the job is not as it was thought."""
        self._trail = trail
        self._take_note = take_note
        self._changed = changed

    async def write(self, job: Job, events: Sequence[NewEvent], head: Head | None = None, **changes: Any) -> None:
        """Write if the job is still in the state that led here, and nobody has claimed it since; else learn what it is.

        `head` is for a new job's first events; `changes` are fields of the head.
        """
        before = job.state
        head = head or job.head or await self._trail.head(job.uid)
        epoch = head.epoch
        while before is None or (head.state, head.epoch) == (before, epoch):
            try:
                head, written = await self._trail.append(head, events, **changes)
            except HeadChanged as changed:
                if before is None:  # begun by a try whose answer was lost: it may not have told anybody
                    await self.recall(job)
                    return
                head = changed.current
                continue
            job.unannounced += written
            self._take_note(job, written)
            _keep(job, head)
            return
        await self._catch_up(job, head)

    async def recall(self, job: Job) -> None:
        """Learn what became of a job that was begun, perhaps by an operator that died. Raises `UnknownJob`.

        What the status does not tell may not have been announced: the rows of the operator, or an outcome.
        """
        head = await self._trail.head(job.uid)
        if tells(job.written, head) and head.sequence >= job.sequence:
            job.recall(head)
            job.published = job.attempt + 1 if job.state is State.QUEUED else 0
        else:
            whole = head.sequence <= READ_ROWS
            events = await self._trail.history(job.uid, after=0 if whole else head.sequence - 1)
            for event in events:
                job.apply(event)
            job.policy = head.policy
            job.head, job.order = head if job.sequence == head.sequence and not head.checkpoint else None, head.order
            if job.state in (State.SUBMITTED, State.QUEUED):
                job.unannounced = events
            elif job.finished:
                job.unannounced = events[-1:]
        self._changed(job)

    async def look(self, job: Job) -> bool:
        """Read the head of a job that is silent; whether there was news, which has been taken note of.

        That may have been heard of while the head was read.
        """
        known = job.sequence
        head = await self._trail.head(job.uid)
        if head.sequence > job.sequence:
            await self._catch_up(job, head)
        else:
            _keep(job, head)
        return job.sequence != known

    async def _catch_up(self, job: Job, head: Head) -> None:
        after = job.sequence if head.sequence - job.sequence <= READ_ROWS else head.sequence - 1
        events = await self._trail.history(job.uid, after=after)
        known = job.sequence
        self._take_note(job, events)
        job.policy = head.policy or job.policy
        if job.finished and job.sequence > known:  # its worker may have died before it told anybody
            job.unannounced += events[-1:]  # after what is still to be said; one of those may be under way


def _keep(job: Job, head: Head) -> None:
    """Note a head row as it was written or read, unless its answer came after the news of a later one."""
    if head.sequence == job.sequence:
        job.head, job.policy = head, head.policy


def facts(job: Job, *, parameters: bool = True) -> dict[str, Any]:
    """What the trail keeps of the resource, which will be deleted one day."""
    if job.spec is None:
        return {}
    hidden = {"suspend", "cancel"} | (set() if parameters else {"parameters"})
    spec = job.spec.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=hidden)
    return {**spec, "traceparent": job.traceparent} if job.traceparent else spec


def waiting(job: Job, reason: State) -> NewEvent:
    """A job that was not admitted waits for something else now. It does not say who holds the group: see the status."""
    spec = job.spec
    if reason is State.RETRYING:  # it was suspended meanwhile
        return NewEvent(Status.SCHEDULED, f"the next attempt is due at {job.next_attempt_at:%Y-%m-%dT%H:%M:%SZ}")
    text = {
        State.SUSPENDED: "held back by spec.suspend",
        State.SCHEDULED: f"waits until {spec.start_after:%Y-%m-%dT%H:%M:%SZ}" if spec and spec.start_after else "",
    }.get(reason, "waits for its group")
    return NewEvent(reason.value, text, reason=reason)


def queued(job: Job, policy: JobPolicy) -> NewEvent:
    """The job was admitted; for the first time it says under which rules."""
    data = None if job.attempt else {"policy": policy.plain()}
    return NewEvent(Status.QUEUED, f"waits for a worker of queue {job.spec.queue if job.spec else ''}", data=data)


def cancelled(job: Job) -> NewEvent:
    """The job ends without a worker."""
    why = {
        State.RETRYING: "cancelled before its next attempt",
        State.INTERRUPTED: "cancelled before another worker took it",
        State.RUNNING: "cancelled; its worker was lost",
    }.get(job.state or State.SUBMITTED, "cancelled before it started")
    return NewEvent(Status.CANCELLED, "the JobRequest was deleted" if job.gone or job.deleting else why)


def failed(error: Exception) -> NewEvent:
    """The job can never run."""
    return NewEvent(Status.FAILED, describe(error), data={"reason": State.FAILED.value})


def describe(error: Exception) -> str:
    """An error for whoever reads a status or a trail: a `ValueError` of ours says all by itself."""
    text = str(error).splitlines()[0] if str(error) else ""
    return text if type(error) is ValueError else f"{type(error).__name__}: {text}"
