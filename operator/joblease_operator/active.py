"""Which jobs the workers have, or should have: those that somebody must look after when they are silent."""

import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from joblease.states import State

if TYPE_CHECKING:
    from joblease_operator.job import Job

HANDED = (State.QUEUED, State.INTERRUPTED)


class Active:
    """Brought up to date with each piece of news about a job."""

    def __init__(self) -> None:
        self.running: dict[str, Job] = {}
        self.handed: dict[str, OrderedDict[str, float]] = {}
        """By queue: the jobs whose messages should lie there, and when each was heard of or looked at last (monotonic
        seconds); the longest silent first."""
        self._queues: dict[str, str] = {}
        self._fresh: set[str] = set()

    def note(self, job: "Job", since: float | None = None) -> None:
        """Put a job where its state says. `since`: when it was heard of last, if that was not now."""
        self.forget(job.uid)
        if job.state is State.RUNNING:
            self.running[job.uid] = job
        elif job.state in HANDED:
            self.miss(job, since)

    def miss(self, job: "Job", since: float | None = None) -> None:
        """Nobody has this job: its message should lie in its queue. `since`: now, or before all others (-inf).

        Unless it has ended, while whoever found that out was asking.
        """
        if job.spec and not job.finished:
            self.forget(job.uid)
            self._queues[job.uid] = job.spec.queue
            jobs = self.handed.setdefault(job.spec.queue, OrderedDict())
            since = time.monotonic() if since is None else since
            first = since <= next(iter(jobs.values()), since)
            jobs[job.uid] = since
            jobs.move_to_end(job.uid, last=not first)
            self.mark(job.uid)

    def mark(self, uid: str) -> None:
        """Count a job among the fresh ones."""
        self._fresh.add(uid)

    def fresh(self) -> set[str]:
        """Jobs that were handed over, or have taken a slot, since this was asked last."""
        fresh, self._fresh = self._fresh, set()
        return fresh

    def forget(self, uid: str) -> None:
        """The workers have nothing to do with it any more."""
        self._fresh.discard(uid)
        self.running.pop(uid, None)
        queue = self._queues.pop(uid, None)
        if queue is not None:
            jobs = self.handed[queue]
            del jobs[uid]
            if not jobs:
                del self.handed[queue]
