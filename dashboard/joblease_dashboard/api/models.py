"""The bodies that programs send, as models: the API's description is made from them."""

from typing import Annotated, Literal

from joblease.jobrequest import JobRequestSpec
from joblease.model import Model
from pydantic import Field

LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
MAX_BATCH = 1_000
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
        str | None, Field(pattern=rf"^{LABEL}(\.{LABEL})*$", max_length=253, description="Made up when absent.")
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

    requests: Annotated[list[Submission], Field(min_length=1, max_length=MAX_BATCH)]


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
