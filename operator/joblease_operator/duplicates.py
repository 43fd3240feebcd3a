"""Jobs whose idempotency key is another job's: they never run, and end as that one has ended.

The first `JobRequest` of a key may have been deleted long ago: its outcome is in the audit trail.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from joblease.content import content_of
from joblease.head import Head
from joblease.messages import Status, now
from joblease.states import State
from joblease.trail import AuditTrail, NewEvent, UnknownJob

from joblease_operator.record import facts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from joblease.jobrequest import JobRequestSpec
    from joblease.keys import KeyEntry, Keys

    from joblease_operator.job import Job
    from joblease_operator.record import Record

SHOWN = 5
"""Differences that an error names."""
LOOK_SECONDS = 5.0
"""How often somebody who waits for the outcome of the first job looks."""
UNBEGUN_SECONDS = 60.0
"""After which a job that was deleted before anybody began it is not waited for any more."""


class Duplicates:
    """`first` before a job with a key begins; `end` what is not the first, again after the pause that it returns."""

    def __init__(self, trail: AuditTrail, record: "Record", keys: "Keys", jobs: "Mapping[str, Job]") -> None:
        self._trail = trail
        self._record = record
        self._keys = keys
        self._jobs = jobs

    async def first(self, job: "Job", spec: "JobRequestSpec") -> "KeyEntry | None":
        """What the job's key stands for when that is another job; the key is this job's when nobody has used it."""
        entry = await self._keys.claim(job.namespace, spec, job.name, job.uid)
        return None if entry.job_id == job.uid else entry

    async def end(self, job: "Job", spec: "JobRequestSpec", first: "KeyEntry", new_head: Head) -> float | None:
        """End a job as the first one of its key has ended; the pause before the next look when that goes on.

        Raises `ValueError` when it is other work than the first one: the key was used twice by mistake.
        """
        named = f"key {spec.key!r} is that of job {first.job_id} ({first.name})"
        if differences := first.differences(content_of(spec)):
            shown = "; ".join(map(str, differences[:SHOWN]))
            raise ValueError(f"{named}, which is other work: {shown}. Nothing was run; use another key")
        outcome = await self._outcome(first)
        if outcome is None:
            job.message = f"waits for an outcome, and does not run: {named}"
            return LOOK_SECONDS
        submitted = NewEvent(Status.SUBMITTED, state=State.SUBMITTED, data=facts(job))
        state, event = outcome
        ended = replace(event, message=f"not run: {named}{': ' if event.message else ''}{event.message}")
        await self._record.write(job, [submitted, ended], new_head, state=state)
        return None

    async def _outcome(self, first: "KeyEntry") -> tuple[State, NewEvent] | None:
        """How the first job has ended; None when it has not."""
        try:
            head = await self._trail.head(first.job_id)
        except UnknownJob:
            waited = (now() - first.submitted_at).total_seconds()
            if first.job_id in self._jobs or waited < UNBEGUN_SECONDS:
                return None
            return State.CANCELLED, NewEvent(Status.CANCELLED, "its JobRequest was deleted before it began")
        if not head.state.terminal:
            return None
        [last] = await self._trail.stretch(head, head.sequence - 1, head.sequence)
        return head.state, NewEvent(last.status, last.message, data=last.data)
