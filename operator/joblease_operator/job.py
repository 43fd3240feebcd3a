"""A job as the operator remembers it: what the resource wants, and what the audit trail says.

News come as events (from the broker, or read from the trail), in any order and more than once; an event counts when its
sequence is higher than the last one's. Little is kept, and for an ended job next to nothing: there may be many.
"""

import math
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from joblease import tracing
from joblease.head import Head
from joblease.jobrequest import JobRequestSpec
from joblease.messages import JobEvent, Status, now
from joblease.policy import JobPolicy
from joblease.states import State
from pydantic import ValidationError

Body = dict[str, Any]


@dataclass(slots=True)
class Job:
    """One `JobRequest`."""

    uid: str
    namespace: str
    name: str
    created_at: datetime
    order: int = 0
    """Place among those of the same second: the resourceVersion with which the API server took it."""
    spec: JobRequestSpec | None = None
    """None once the job has ended, when it is not needed again, and while the resource cannot be read."""
    unsupported: str = ""
    """Why `spec` cannot be read: the custom resource is of another release than the operator."""
    generation: int = 0
    traceparent: str | None = None
    ttl: int | None = None
    cancel: bool = False
    deleting: bool = False
    gone: bool = False
    """The resource does not exist any more; the job may still run."""

    state: State | None = None
    """None before the audit trail has been read or begun."""
    shown: State | None = None
    """The word for it that the trail has, as people see it."""
    sequence: int = 0
    attempt: int = 0
    worker: str | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    next_attempt_at: datetime | None = None
    progress: int | None = None
    message: str = ""
    result: Any = None
    last_news: float = -math.inf
    """Monotonic time of the last event, or of the last message to the workers."""

    policy: JobPolicy | None = None
    """As the trail has it: under which rules the job was admitted, or what its handler gives to one that waits."""
    head: Head | None = None
    """The head row, as long as it is known to be what we wrote last."""
    unannounced: list[JobEvent] = field(default_factory=list)
    """Written to the trail, and still to be published."""
    published: int = 0
    """The attempt that the last message to the workers asks for."""
    trouble: str = ""
    """Why the last reconciliation failed."""
    written: Body = field(default_factory=dict)
    """The status as the API server has it; of a settled job only while it is to be changed."""
    listed: bool = True
    """Whether it may be in the list of open jobs."""
    settled: bool = False
    """The API server has the outcome, and what that says is not known here any more."""
    written_at: float = -math.inf
    """Monotonic time of the last write of the status."""

    @classmethod
    def of(cls, body: Body) -> "Job":
        """A job that is seen for the first time."""
        metadata = body["metadata"]
        job = cls(metadata["uid"], metadata["namespace"], metadata["name"], _moment(metadata["creationTimestamp"]))
        version = metadata["resourceVersion"]
        job.order = int(version) if version.isdecimal() else 0  # comparable by Kubernetes' word (KEP-5504)
        job.written = body.get("status") or {}
        if job.written:  # by the operator of before; all of them together would be too many to look at again at once
            age = max(0.0, (now() - job.created_at).total_seconds())
            job.written_at = time.monotonic() - random.uniform(0, age)
        return job

    def see(self, kind: str | None, body: Body) -> bool:
        """Take note of the resource as the API server has it now; whether that is anything new.

        `kind` is `DELETED` when it has gone.
        """
        metadata, spec = body["metadata"], body.get("spec") or {}
        known = self.generation, self.deleting, self.gone
        self.generation = metadata.get("generation", 0)
        self.deleting = bool(metadata.get("deletionTimestamp"))
        self.gone = kind == "DELETED"
        trace = (metadata.get("annotations") or {}).get(tracing.ANNOTATION)
        if trace and tracing.is_valid(trace):
            self.traceparent = trace
        if (self.generation, self.deleting, self.gone) == known:
            return False  # its status was written: that was us
        self.ttl, self.cancel = spec.get("ttlSecondsAfterFinished"), spec.get("cancel") is True
        if not self.finished:
            try:
                self.spec, self.unsupported = JobRequestSpec.model_validate(spec), ""
            except ValidationError as error:
                self.unsupported = "; ".join(
                    f"spec.{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()
                )
        return True

    @property
    def label(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @property
    def finished(self) -> bool:
        """Whether the job has its outcome."""
        return self.state is not None and self.state.terminal

    @property
    def wants_cancel(self) -> bool:
        """Whether it was cancelled, or its resource deleted."""
        return self.cancel or self.deleting or self.gone

    def mark_settled(self) -> None:
        """Forget what the final status says: it is written, once and for all."""
        self.settled, self.written, self.message, self.result = True, {}, "", None

    def apply(self, event: JobEvent) -> None:
        """Take note of an event, unless it is old news; of an ended job there is no other, it has its outcome."""
        if self.finished or event.sequence <= self.sequence:
            return
        self.sequence, self.state, self.attempt = event.sequence, event.state, event.attempt
        self.worker = event.worker or self.worker
        self.shown, self.message = event.shown, event.message
        self.last_news = time.monotonic()
        if event.state is State.SUBMITTED:  # not yet, or not any more
            self.policy, self.published = None, 0
        data = event.data or {}
        if event.status == Status.STARTED:
            self.started_at = self.started_at or event.timestamp
            self.progress = None
        if event.progress is not None:
            self.progress = event.progress
        if event.status == Status.QUEUED and "policy" in data:
            self.policy = JobPolicy.model_validate(data["policy"])
        if event.status == Status.RETRYING and "nextAttemptAt" in data:  # what a handler says of a step is its own
            self.next_attempt_at = datetime.fromisoformat(data["nextAttemptAt"])
        elif event.state is not State.RETRYING:
            self.next_attempt_at = None
        if event.state.terminal:
            self.completed_at, self.result = event.timestamp, data.get("result")
        if self.head and self.head.sequence < event.sequence:
            self.head = None

    def recall(self, head: Head) -> None:
        """After a restart: what the head row knows, and for the rest what the status said."""
        said: Mapping[str, Any] = self.written
        self.head = None if head.checkpoint else head  # of many jobs it would take much memory
        self.state, self.order, self.policy = head.state, head.order, head.policy
        self.shown = head.shown
        self.sequence, self.attempt = head.sequence, head.attempt
        self.worker, self.next_attempt_at = head.worker, head.next_attempt_at
        self.started_at = _moment(said["startedAt"]) if "startedAt" in said else None
        self.progress, self.message = said.get("progress"), said.get("message", "")


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
