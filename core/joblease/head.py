"""A job's present state, as its head row has it and as the message of a job carries it along."""

from dataclasses import dataclass, field
from datetime import datetime

from joblease.leases import Grant, job_blob, session_blob
from joblease.messages import HeadHint, JobMessage
from joblease.policy import JobPolicy
from joblease.states import State


@dataclass(frozen=True, slots=True)
class Head:
    """A job's present state. `etag` is empty for a job that has no trail yet."""

    job_id: str
    namespace: str
    name: str
    handler: str
    queue: str
    group: str
    submitted_at: datetime
    state: State = State.SUBMITTED
    reason: State | None = None
    """That of the last event."""
    epoch: int = 0
    attempt: int = 0
    sequence: int = 0
    worker: str | None = None
    session: str = ""
    """That of the worker, under which it has claimed the job; empty in what releases up to 0.1 have written."""
    slot: Grant | None = None
    """The slot that the run holds, for whoever finds its session closed."""
    cancel_requested: bool = False
    next_attempt_at: datetime | None = None
    attempt_started_at: datetime | None = None
    """When the present attempt began, on whichever worker that was."""
    updated_at: datetime | None = None
    write: str = ""
    announced: int = 0
    """The last event that a run is known to have announced, as of its last write: others can lack those after it."""
    order: int = 0
    """Place among jobs of the same second: the resourceVersion with which the API server accepted the JobRequest."""
    checkpoint: str = ""
    """The last one that a run has recorded, as compact JSON; empty when there is none. An ended job has none."""
    policy: JobPolicy | None = None
    """Under which rules the job was admitted. One that waits has it when its handler has given some of them."""
    etag: str = field(default="", compare=False)

    @property
    def claim_blob(self) -> str:
        """The blob whose lease ends with the claim: once it is deleted, nobody can run the job under this claim."""
        return session_blob(self.session) if self.session else job_blob(self.job_id)

    @property
    def shown(self) -> State:
        """Where the job is, in the word that people see: the reason of its conditions."""
        return self.reason or self.state.reason


def hint_of(head: Head) -> HeadHint:
    """What a job's message says of its head; of a queued job alone, for `hinted` takes it for one."""
    return HeadHint(
        etag=head.etag, sequence=head.sequence, attempt=head.attempt, epoch=head.epoch, order=head.order,
        submitted_at=head.submitted_at, announced=head.announced, checkpoint=head.checkpoint,
        policy=head.policy,
    )  # fmt: skip


def hinted(message: JobMessage) -> Head | None:
    """The head as it was when a job's message was published; None when the message does not say."""
    hint = message.head
    if hint is None:
        return None
    return Head(
        job_id=message.job_id,
        namespace=message.namespace,
        name=message.name,
        handler=message.handler,
        queue=message.queue,
        group=message.group,
        submitted_at=hint.submitted_at,
        order=hint.order,
        state=State.QUEUED,
        epoch=hint.epoch,
        attempt=hint.attempt,
        sequence=hint.sequence,
        announced=hint.announced,
        checkpoint=hint.checkpoint,
        policy=hint.policy,
        etag=hint.etag,
    )
