"""A job as the operator remembers it: what the resource wants, and what the audit trail says.

News come as events (from the broker, or read from the trail), in any order and more than once; an event counts when its
sequence is higher than the last one's. Little is kept, and for an ended job next to nothing: there may be many.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from joblease.messages import JobEvent, State, Status, rfc3339
from joblease.resource import MAX_MESSAGE, JobRequestSpec, Reason
from joblease.trail import Head

Body = dict[str, Any]


@dataclass(slots=True)
class Job:
    """One `JobRequest`."""

    uid: str
    namespace: str
    name: str
    created_at: datetime
    spec: JobRequestSpec | None = None
    """None once the job has ended: it is not needed again."""
    generation: int = 0
    traceparent: str | None = None
    ttl: int | None = None
    deleting: bool = False
    gone: bool = False
    """The resource does not exist any more; the job may still run."""

    state: State | None = None
    """None before the audit trail has been read or begun."""
    sequence: int = 0
    attempt: int = 0
    worker: str | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    next_attempt_at: datetime | None = None
    progress: int | None = None
    message: str = ""
    result: Any = None
    last_news: float = 0
    """Monotonic time of the last event, or of the last look into the trail."""

    head: Head | None = None
    """The head row, as long as it is known to be what we wrote last."""
    unannounced: list[JobEvent] = field(default_factory=list)
    """Written to the trail, and still to be published."""
    slot: int | None = None
    published: bool = False
    cancel_sent: bool = False
    trouble: str = ""
    """Why the last reconciliation failed."""
    written: Body = field(default_factory=dict)
    """The status as the API server has it from us."""
    settled: bool = False
    """The API server has its final status, and what that says is not known here any more."""
    written_at: float = 0

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
        return self.deleting or self.gone or bool(self.spec and self.spec.cancel)

    def settle(self) -> None:
        """Forget what the final status says: it is written, once and for all."""
        self.settled, self.written, self.message, self.result = True, {}, "", None

    def apply(self, event: JobEvent) -> None:
        """Take note of an event, unless it is old news; of an ended job there is no other, it has its outcome."""
        if self.finished or event.sequence <= self.sequence:
            return
        self.sequence, self.state, self.attempt = event.sequence, event.state, event.attempt
        self.worker = event.worker or self.worker
        self.message = event.message
        data = event.data or {}
        if event.status == Status.STARTED:
            self.started_at = self.started_at or event.timestamp
            self.progress = None
        if event.progress is not None:
            self.progress = event.progress
        due = data.get("nextAttemptAt")
        self.next_attempt_at = datetime.fromisoformat(due) if due else None
        if event.state.terminal:
            self.completed_at, self.result = event.timestamp, data.get("result")
        if self.head and self.head.sequence < event.sequence:
            self.head = None


def status_of(job: Job, waiting: tuple[Reason, str] | None) -> Body:
    """The status to be written. `waiting` is why the job is not admitted."""
    reason, message = _reason(job, waiting)
    if job.trouble:
        message = f"{message}; {job.trouble}" if message else job.trouble
    message = message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…"
    outcome = {Reason.COMPLETED: "True"}.get(reason, "False" if reason.terminal else "Unknown")
    status = {
        "jobId": job.uid,
        "observedGeneration": job.generation,
        "attempt": job.attempt,
        "worker": job.worker,
        "startedAt": rfc3339(job.started_at) if job.started_at else None,
        "completedAt": rfc3339(job.completed_at) if job.completed_at else None,
        "nextAttemptAt": rfc3339(job.next_attempt_at) if job.next_attempt_at else None,
        "progress": job.progress,
        "message": message,
        "result": job.result,
        "conditions": [
            {
                "type": "Succeeded",
                "status": outcome,
                "reason": reason.value,
                "message": message,
                "observedGeneration": job.generation,
            }
        ],
    }
    return {name: value for name, value in status.items() if value is not None}


def _reason(job: Job, waiting: tuple[Reason, str] | None) -> tuple[Reason, str]:
    if job.state is None or job.state is State.SUBMITTED:
        return waiting or (Reason.QUEUED, "admitted, about to be published")
    if job.state in (State.QUEUED, State.INTERRUPTED):
        return Reason.QUEUED, job.message
    return Reason(job.state.value), job.message


def stamp(status: Body, before: Body, moment: datetime) -> Body:
    """The status with each condition's transition time: kept from `before` while the condition's status stays."""
    known = {each["type"]: each for each in before.get("conditions") or []}
    conditions = []
    for condition in status["conditions"]:
        old = known.get(condition["type"], {})
        since = old.get("lastTransitionTime") if old.get("status") == condition["status"] else None
        conditions.append({**condition, "lastTransitionTime": since or f"{moment:%Y-%m-%dT%H:%M:%SZ}"})
    return {**status, "conditions": conditions}


def without_times(status: Body) -> Body:
    """A status as it can be compared: without transition times."""
    plain = dict(status)
    plain["conditions"] = [
        {name: value for name, value in each.items() if name != "lastTransitionTime"}
        for each in status.get("conditions") or []
    ]
    return plain
