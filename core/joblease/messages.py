"""What travels between the programs: jobs to workers, events to operator and dashboard, control to workers.

Bodies are JSON with a `version`, camelCase like the custom resource, so that the same thing has the same name
everywhere. A reader ignores fields that it does not know: a newer writer must not stop an older reader.
"""

import time
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, PlainSerializer

from joblease.model import Model, Name
from joblease.policy import HandlerPolicy, JobPolicy
from joblease.states import State


def now() -> datetime:
    """The present time, in UTC."""
    return datetime.fromtimestamp(time.time(), UTC)


def rfc3339(moment: datetime) -> str:
    """A time in UTC with microseconds, always of the same length, so that text order is time order."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


Moment = Annotated[AwareDatetime, PlainSerializer(rfc3339, return_type=str, when_used="json")]


class Wire(Model):
    """Base of everything that is sent or stored."""

    def encode(self) -> bytes:
        """The JSON body."""
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()


class Status(StrEnum):
    """What an event says happened. A step's status is `Step N` (`step`), that of an outcome is `State.event`."""

    SUBMITTED = "Submitted"
    SUSPENDED = "Suspended"
    SCHEDULED = "Scheduled"
    WAITING_FOR_GROUP = "WaitingForGroup"
    QUEUED = "Queued"
    DEFERRED = "Deferred"
    STARTED = "Started"
    RETRYING = "Retrying"
    INTERRUPTED = "Interrupted"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELLED = "Cancelled"

    @staticmethod
    def step(number: int) -> str:
        """The status of a handler's n-th step."""
        return f"Step {number}"


STATUSES = tuple(dict.fromkeys([*map(str, Status), *(state.event for state in State if state.terminal), "Step"]))
"""All words that events can be told apart by: last in their routing key, and the filter of the events page."""


def message_id(job_id: str, attempt: int) -> str:
    """Id of the broker message that asks for an attempt of a job."""
    return f"{job_id}.{attempt}"


class JobEvent(Wire):
    """One row of the audit trail, and the message that tells the others about it."""

    version: Literal[1] = 1
    event_id: str
    job_id: str
    namespace: str
    name: str
    handler: str
    queue: str
    group: str
    submitted_at: Moment
    sequence: int
    """Position in the job's history, from 1, without gaps."""
    status: str
    """One of `Status`, the outcome's `State.event`, or `Step N`."""
    state: State
    """Where the job is after this event."""
    reason: State | None = None
    """What a job that was not admitted waits for, where `state` does not say it."""
    message: str = ""
    timestamp: Moment
    attempt: int
    """The attempt that the event belongs to; 0 before the first."""
    epoch: int
    """How often the job was claimed; 0 before the first time."""
    worker: str | None = None
    progress: int | None = None
    """0 to 100."""
    data: dict[str, Any] | None = None
    """More for this kind of event: parameters, result, error, nextAttemptAt."""

    @property
    def shown(self) -> State:
        """Where the job is after this event, in the word that people see: the reason of its conditions."""
        return self.reason or self.state.reason

    @property
    def routing_key(self) -> str:
        """Key on the events exchange: `<namespace>.<status>`, all steps as `Step`."""
        return f"{self.namespace}.{self.status.split()[0]}"


class RetryPolicy(Wire):
    """`spec.retry`, flattened, with the job's policy."""

    max_attempts: int = 3
    initial_seconds: float = 10
    factor: float = 2
    max_seconds: float = 600


class JobMessage(Wire):
    """A job that was admitted: all that a worker needs to know, since it cannot ask Kubernetes."""

    version: Literal[1] = 1
    job_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")]
    namespace: str
    name: str
    handler: str
    queue: str
    parameters: dict[str, Any] = Field(default={})
    input_file_path: str | None = None
    description: str | None = None
    group: Name
    limit: Annotated[int, Field(ge=0)]
    """How many jobs of the group may run at once; 0 means any number."""
    slot: int | None = None
    """The slot that the operator believes to be free: a hint that saves trying the others."""
    retry: RetryPolicy = RetryPolicy()
    active_deadline_seconds: float | None = None
    provisional: bool = False
    """See `JobPolicy.provisional`."""
    head: "HeadHint | None" = None

    def message_id(self, attempt: int) -> str:
        """Id of the broker message that asks for an attempt."""
        return message_id(self.job_id, attempt)


class HeadHint(Wire):
    """The head row as its last writer left it: it lets a worker claim the job without reading the row first.

    It is only believed under If-Match; when it is out of date the claim fails and the worker reads.
    """

    etag: str
    sequence: int
    attempt: int
    epoch: int
    submitted_at: Moment
    order: int = 0
    announced: int = 0
    checkpoint: str = ""
    policy: JobPolicy | None = None


class ControlMessage(Wire):
    """An order to whichever worker runs the job."""

    version: Literal[1] = 1
    order: Literal["cancel"]
    job_id: str


class HandlerDescription(Wire):
    """What a worker tells of a handler, for whoever wants to submit a job to it."""

    name: str
    description: str = ""
    """The first paragraph of its docstring."""
    parameters: dict[str, Any] = Field(default={})
    """JSON schema of the parameters that its signature names."""
    policy: HandlerPolicy | None = None


class WorkerReport(Wire):
    """What a worker says of itself every few seconds. Nobody stores it: whoever listens knows within one period."""

    version: Literal[1] = 1
    worker: str
    queue: str
    concurrency: int
    lease_seconds: int
    period_seconds: float
    """When the next report is due."""
    started_at: Moment
    timestamp: Moment
    release: str = ""
    """Version of JobLease."""
    state: Literal["serving", "draining", "stopped"] = "serving"
    jobs: list[str] = Field(default=[])
    """Ids of the jobs that it runs."""
    unacknowledged: int = 0
    """Messages that it has taken from its queue and not yet settled."""
    handlers: list[HandlerDescription] = Field(default=[])


JobMessage.model_rebuild()
