"""The bodies that programs send, as models: the API's description is made from them."""

from typing import Annotated, Any, Literal, Self

from joblease.jobrequest import MAX_TTL, NEVER, JobRequestSpec
from joblease.model import Model, Name
from joblease.states import REASONS, State
from pydantic import ConfigDict, Field, field_validator, model_validator

from joblease_dashboard.actions.submission import LABEL, LONGEST_NAME

KEY_HEADER = "Idempotency-Key"
MAX_BATCH = 1_000
STATES = (State.SUBMITTED, *REASONS)
"""Of a `JobRequest`: the first is that of one that no operator has noticed yet."""
MAX_NOTES = 262_144
"""Bytes of all annotations, as Kubernetes has it; ours come on top."""
Namespace = Annotated[str, Field(pattern=f"^{LABEL}$", description="Small letters, a to z, digits and -.")]
SubmissionId = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9-]{8,64}$",
        description="Made up by whoever submits. Sent again, with the same content, it leads to the job that it has "
        "made, as long as that JobRequest exists.",
    ),
]


class Metadata(Model):
    """Of the `JobRequest` to be made."""

    namespace: Namespace = "default"
    name: Annotated[
        str | None,
        Field(pattern=rf"^{LABEL}(\.{LABEL})*$", max_length=LONGEST_NAME, description="Made up when absent."),
    ] = None
    labels: dict[str, str] = Field(default={}, max_length=1_000)
    annotations: dict[str, str] = Field(default={}, max_length=1_000)


class Submission(Model):
    """A job to be made. A JobRequest's own JSON is one."""

    api_version: Literal["joblease.dev/v1alpha1"] = "joblease.dev/v1alpha1"
    kind: Literal["JobRequest"] = "JobRequest"
    metadata: Metadata = Metadata()
    spec: JobRequestSpec
    submission_id: SubmissionId | None = None


class Batch(Model):
    """Jobs to be made; each has an answer of its own."""

    requests: Annotated[
        list[Submission | Any],
        Field(min_length=1, max_length=MAX_BATCH, description="One that is no submission is told so in its place."),
    ]


class Again(Model):
    """What a retry may say."""

    submission_id: SubmissionId | None = None


class Changes(Model):
    """What may be changed of a job; one of them at least."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    priority: int = Field(default=0, ge=0, le=9, description="While the job is not running.")
    ttl_seconds_after_finished: int = Field(default=0, ge=NEVER, le=MAX_TTL)

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("priority or ttlSecondsAfterFinished is expected")
        return self

    def fields(self) -> dict[str, Any]:
        """As the spec has them."""
        return self.model_dump(by_alias=True, exclude_unset=True)


class Selector(Model):
    """Which `JobRequest`s are meant: those to which all of it applies."""

    namespace: Namespace
    handler: Name | None = None
    labels: Annotated[str | None, Field(max_length=4_096, description="A Kubernetes label selector, as a=b,c!=d.")] = (
        None
    )
    state: Annotated[str | None, Field(description=f"One of {', '.join(STATES)}.")] = None

    @field_validator("state")
    @classmethod
    def _known(cls, state: str | None) -> str | None:
        if state is not None and state not in STATES:
            raise ValueError(f"one of {', '.join(STATES)} is expected")
        return state


class Selected(Model):
    """What is to be done to all that a selector selects."""

    selector: Selector
    dry_run: Annotated[bool, Field(description="Only say how many there are.")] = False


class SelectedChanges(Selected):
    """What is to be changed of all that a selector selects."""

    set: Changes


class Refused(Model):
    """A job to which it could not be done."""

    job_id: str
    name: str
    status: int
    detail: str


class Outcome(Model):
    """What came of it."""

    matched: Annotated[int, Field(description="Jobs that are selected, and to which it can be done.")]
    done: int
    failed: Annotated[list[Refused], Field(description="100 at most.")]
    left: Annotated[int, Field(description="Jobs that were too many for one request: ask again.")]


class Changed(Model):
    """A job that was changed."""

    job_id: str


class MadeJob(Model):
    """A job that is there now."""

    job_id: str
    namespace: str
    name: str
    handler: str
    key: Annotated[str | None, Field(description="Its idempotency key.")] = None
    created: Annotated[bool, Field(description="False: an earlier try of the same submission has made it.")]


class FieldDifference(Model):
    """A field of a job that is not as it was submitted first; values are JSON, or a digest of a long one."""

    field: str
    first: str
    now: str


class ProblemDetails(Model):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    field: Annotated[str | None, Field(description="The field that is meant, as spec.parameters.paths.")] = None
    job_id: Annotated[str | None, Field(description="The job that a key has submitted.")] = None
    differences: Annotated[list[FieldDifference] | None, Field(description="From what a key has submitted.")] = None


class Result(Model):
    """The answer to one of many."""

    status: int
    job: MadeJob | None = None
    problem: ProblemDetails | None = None


class Results(Model):
    """The answers, in the order of what was sent."""

    results: list[Result]
