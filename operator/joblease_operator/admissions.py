"""Puts jobs in line and marks those that may go.

The scheduler decides and knows nothing of resources; this is what it is told about them, and when it is asked.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from joblease.messages import now
from joblease.states import State

from joblease_operator import alarm, metrics
from joblease_operator.job import Job
from joblease_operator.policies import Policies
from joblease_operator.scheduler import Candidate, Scheduler


class Admissions:
    """Admits nobody until `open` was called: who holds a slot already must be known first."""

    def __init__(self, policies: Policies, jobs: Mapping[str, Job], on_change: Callable[[str], None]) -> None:
        """`on_change` is called with the id of each job that may go, or that waits for something else now."""
        self._policies = policies
        self._jobs = jobs
        self._on_change = on_change
        self._changed = asyncio.Event()
        self.is_open = False
        self.scheduler = Scheduler()
        self.used: dict[str, float] = {}
        """When a job of a group was admitted last; monotonic seconds."""

    def open(self) -> None:
        """Begin to admit: whoever holds a slot has been told with `hold`."""
        self.is_open = True
        self.admit()

    def admit(self, asking: Job | None = None) -> None:
        """Admit all that may go now; the rest of very many in the next turns of the event loop (`keep_time`).

        The job that asks is not told: it looks, and a try of its that fails must be able to pause.
        """
        if not self.is_open:
            return
        for admission in self.scheduler.admit(now()):
            job = self._jobs[admission.uid]
            if admission.slot is not None:
                self.used[self._policies.place(job).group] = time.monotonic()
            metrics.ADMISSION_WAIT_SECONDS.observe(max(0.0, (now() - job.created_at).total_seconds()))
            if job is not asking:
                self._on_change(job.uid)
        for uid in self.scheduler.due():
            self._on_change(uid)
        metrics.JOBS_WAITING.set(self.scheduler.waiting)
        metrics.JOBS_ADMITTED.set(self.scheduler.admitted)
        self._changed.set()

    def enqueue(self, job: Job) -> bool:
        """Put a job in line, or change its place; whether it may go at once.

        One that has ended while whoever asks was waiting for storage stands in nobody's way.
        """
        if job.finished:
            return False
        self.scheduler.enqueue(self._candidate(job))
        self.admit(job)
        return self.admitted(job)

    def stands(self, job: Job) -> bool:
        """Whether the job was admitted, under the rules that it has now."""
        return self.scheduler.is_admitted_as(self._candidate(job))

    def hold(self, job: Job) -> None:
        """Count a job as admitted: the workers have it, and nothing holds it back any more."""
        self.scheduler.hold_slot(replace(self._candidate(job), suspended=False, not_before=None))

    def leave(self, job: Job) -> None:
        """A job needs no slot any more; the next one gets it."""
        self.scheduler.remove(job.uid)
        self.admit()

    def give_back(self, job: Job) -> bool:
        """No worker is there for an admitted job: it takes its slot again when it starts. Whether it had one."""
        had = self.scheduler.give_back(job.uid)
        if had:
            self.admit()
        return had

    def pass_over(self, queues: Collection[str]) -> None:
        """No worker serves these queues: who waits for them holds up nobody."""
        self.scheduler.pass_over(queues)
        self.admit()

    def admitted(self, job: Job) -> bool:
        """Whether the job may go, or has gone already."""
        return self.scheduler.is_admitted(job.uid)

    async def keep_time(self) -> None:
        """Admit what becomes due, and the rest of very many, until cancelled."""
        while True:
            if self.scheduler.behind:
                await asyncio.sleep(0)
            else:
                await alarm.until(self.scheduler.next_due(), self._changed)
            due = self.scheduler.next_due()
            if self.scheduler.behind or (due and due <= now()):
                self.admit()

    def _candidate(self, job: Job) -> Candidate:
        spec = job.spec
        assert spec is not None  # noqa: S101 - only ended jobs have none
        policy = self._policies.place(job)
        due = job.next_attempt_at if job.state is State.RETRYING else spec.start_after
        return Candidate(
            uid=job.uid,
            label=job.label,
            group=policy.group,
            limit=policy.limit,
            submitted_at=job.created_at,
            priority=spec.priority,
            not_before=due if due and due > now() else None,
            suspended=spec.suspend,
            order=job.order,
            queue=spec.queue,
        )
