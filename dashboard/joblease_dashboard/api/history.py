"""A job and a stretch of its history. What it costs does not grow with the history.

First the head: it tells whose job it is, so that nothing else is read for somebody who may not see it, and how long its
history is. A short one is read whole. Of a long one the beginning and the end are read, and `JobIndex` tells what lies
between: when the job and its last run began.
"""

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from joblease.trail import UnknownJob

from joblease_dashboard.problems import Problem
from joblease_dashboard.read_model.keys import key
from joblease_dashboard.read_model.rows import Row, fields, job_row

if TYPE_CHECKING:
    from joblease.head import Head
    from joblease.messages import JobEvent
    from starlette.requests import Request

    from joblease_dashboard.api.sources import Sources

JOB_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
FIRST = 10
"""Events at the beginning of a long history: how the job was submitted, and began."""
LAST = 100
"""Events at its end."""
REFUSAL_SECONDS = 0.1
"""Until somebody is told that there is no such job: longer than it takes to look for one, and to ask who may see it."""


@dataclass(frozen=True, slots=True)
class Story:
    """A job."""

    head: "Head"
    row: Row
    """Its present state, as the API shows it."""
    first: "list[JobEvent]"
    """How it began."""
    last: "list[JobEvent]"
    """How it went on to now; of a short history all of it."""

    @property
    def whole(self) -> bool:
        """Whether `last` is everything."""
        return len(self.last) == self.head.sequence


async def story(sources: "Sources", request: "Request", job_id: str, whole: int = LAST) -> Story:
    """A job, for somebody who may see it. Raises `Problem` when there is none, or none for this person.

    Two storage requests for a history of not more than `whole` events, which is read whole; four for a longer one.
    """
    head = await _head(sources, request, job_id)
    count = head.sequence
    if count <= whole:
        events = await sources.trail.stretch(head, 0, count)
        return Story(head, fields(job_row(events) or {}), events, events)
    first, end, found = await asyncio.gather(
        sources.trail.stretch(head, 0, FIRST),
        sources.trail.stretch(head, count - LAST, count),
        sources.jobs.get(*key(head.submitted_at, job_id)),
    )
    known = dict(found or job_row(first) or {})
    return Story(head, fields(known | (job_row(end, known) or {})), first, end)


async def _head(sources: "Sources", request: "Request", job_id: str) -> "Head":
    clock = asyncio.get_running_loop().time
    began = clock()
    try:
        if not JOB_ID.fullmatch(job_id):
            raise UnknownJob(job_id)
        head = await sources.trail.head(job_id)
        if not await sources.access.allows(request, "get", head.namespace):
            raise UnknownJob(job_id)
    except UnknownJob:  # as slowly for a job that there is as for one that there is not
        await asyncio.sleep(began + REFUSAL_SECONDS - clock())
        raise Problem(404, "No such job", f"there is no job {job_id!r} in the audit trail", jobId=job_id) from None
    return head
