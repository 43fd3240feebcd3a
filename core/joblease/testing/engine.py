"""Jobs in memory: each is run where it is submitted, by the rules of operator and worker as far as a test sees them."""

import asyncio
import inspect
import json
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from joblease import values
from joblease.handlers import ENDINGS, JobCancelled, JobContext, UnknownHandler, find
from joblease.jobrequest import JobRequestSpec
from joblease.messages import Status, now, rfc3339
from joblease.names import job_name
from joblease.parameters import fit
from joblease.policy import JobPolicy
from joblease.states import State


@dataclass(slots=True)
class MemoryJob:
    """A job."""

    namespace: str
    name: str
    spec: JobRequestSpec
    content: Mapping[str, str]
    """What another submission with its key has to have in common with it."""
    policy: JobPolicy
    submission_id: str
    labels: Mapping[str, str] = field(default_factory=dict)
    job_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    submitted_at: datetime = field(default_factory=now)
    state: State = State.SUBMITTED
    attempt: int = 0
    steps: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)
    context: JobContext | None = None
    """Of its run."""

    @property
    def key_expired(self) -> bool:
        """Whether its key may be used anew."""
        ttl = self.spec.key_ttl_seconds
        return ttl is not None and self.submitted_at + timedelta(seconds=ttl) <= now()

    def tell(self, status: str, state: State, message: str = "", **more: Any) -> None:
        """Another event."""
        self.state = state
        self.events.append({
            "jobId": self.job_id, "namespace": self.namespace, "name": self.name, "handler": self.spec.handler,
            "sequence": len(self.events) + 1, "status": str(status), "state": str(state), "message": message,
            "attempt": self.attempt, "timestamp": rfc3339(now()), **more,
        })  # fmt: skip

    def hear(self, said: Mapping[str, Any]) -> None:
        """A step or a checkpoint of its handler."""
        if "checkpoint" in said:
            return
        self.steps += 1
        progress = said["progress"]
        more = {"progress": round(100 * progress)} if progress is not None else {}
        self.tell(Status.step(self.steps), State.RUNNING, said["message"], **more, data=said["data"] or {})


class Engine:
    """All jobs of a test."""

    def __init__(self, *, held: bool) -> None:
        self._held = held
        self.jobs: dict[str, MemoryJob] = {}

    def add(self, job: MemoryJob) -> None:
        """A job that is submitted now."""
        self.jobs[job.job_id] = job
        job.tell(Status.SUBMITTED, State.SUBMITTED)
        self.consider(job)

    def consider(self, job: MemoryJob) -> None:
        """Run it, unless it is to wait."""
        later = job.spec.start_after is not None and job.spec.start_after > now()
        if job.spec.suspend:
            job.tell(Status.SUSPENDED, State.SUSPENDED)
        elif later:
            job.tell(Status.SCHEDULED, State.SCHEDULED)
        else:
            job.tell(Status.QUEUED, State.QUEUED, data={"policy": job.policy.plain()})
            if not self._held:
                run(job)

    def run_waiting(self) -> int:
        """Run what waits; how many jobs."""
        waiting = [each for each in self.jobs.values() if each.state in (State.QUEUED, State.SCHEDULED)]
        for job in waiting:
            run(job)
        return len(waiting)

    def cancel(self, job: MemoryJob) -> None:
        """End it, or ask its handler to stop."""
        if job.context:
            job.context.cancelled = True
        else:
            job.tell(Status.CANCELLED, State.CANCELLED, "cancelled before it was started")

    def new_name(self, handler: str) -> str:
        """Of a job that has none."""
        return job_name(handler)


def run(job: MemoryJob) -> None:
    """All attempts of a job, without pauses."""
    checkpoint = None
    most = job.policy.max_attempts
    for job.attempt in range(1, most + 1):
        job.tell(Status.STARTED, State.RUNNING)
        job.context = JobContext(
            job.job_id, job.name, job.namespace, job.spec.handler, json.loads(json.dumps(job.spec.parameters)),
            job.spec.input_file_path, job.spec.description, job.attempt, job.attempt, "joblease.testing",
            last_checkpoint=checkpoint, report=job.hear,
        )  # fmt: skip
        try:
            result = values.result(_call(job.context))
        except JobCancelled:
            return job.tell(Status.CANCELLED, State.CANCELLED, "cancelled while it was running")
        except tuple(ENDINGS) as error:
            text = f"attempt {job.attempt} failed for good: {error}"
            return job.tell(Status.FAILED, State.FAILED, text, data={"error": str(error)})
        except (Exception, SystemExit) as error:  # noqa: BLE001 - of whatever kind, it is the handler's
            said = f"{type(error).__name__}: {error}"
            if job.attempt == most:
                text = f"attempt {job.attempt} of {most} failed: {said}"
                return job.tell(Status.FAILED, State.FAILED, text, data={"error": said})
            job.tell(Status.RETRYING, State.RETRYING, f"attempt {job.attempt} of {most} failed: {said}")
        else:
            data = {} if result is None else {"result": result}
            return job.tell(Status.COMPLETED, State.COMPLETED, f"attempt {job.attempt} completed", data=data)
        finally:
            checkpoint, job.context = job.context.last_checkpoint, None
    return None


def _call(context: JobContext) -> Any:
    function = find(context.handler)
    arguments = fit(context.handler, function, context.parameters)
    value = function(context, **arguments)
    return _awaited(value) if inspect.isawaitable(value) else value


def _awaited(value: Any) -> Any:
    """What a coroutine returns, from a loop of its own; in a thread, since this one may have a loop that runs."""

    async def wait() -> Any:
        return await value

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, wait()).result()


def unknown(handler: str) -> str:
    """Why there is no such handler; nothing when there is."""
    try:
        find(handler)
    except UnknownHandler as error:
        return str(error)
    return ""
