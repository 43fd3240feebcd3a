"""The `JobRequest` resource as Python sees it: the same fields, bounds and defaults as `manifests/crd.yaml`.

The API server checks a resource before anybody else sees it; these models are for the programs that write one (the
CLI, which wants the error before the request) or read one (the operator). A test holds the two together.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import AwareDatetime, Field, model_validator

from joblease.limits import KEY_PATTERN, MAX_DEPTH, MAX_KEY, MAX_PARAMETERS_BYTES
from joblease.model import Model, Name

GROUP = "joblease.dev"
VERSION = "v1alpha1"
KIND = "JobRequest"
PLURAL = "jobrequests"

MAX_MESSAGE = 1_024
"""Characters of a message in the status; the API server refuses a status with a longer one."""

NEVER = -1
"""A time to live that does not end."""
MAX_TTL = 315_360_000
"""Seconds of the longest time to live that ends: ten years."""


class Concurrency(Model):
    """`spec.concurrency`: at most `limit` jobs of `group` run at once."""

    group: Name | None = None
    limit: Annotated[int, Field(ge=0, le=10_000)] | None = None


class Backoff(Model):
    """`spec.retry.backoff`: the pauses between attempts."""

    initial_seconds: Annotated[int, Field(ge=0, le=86_400)] = 10
    factor: Annotated[float, Field(ge=1, le=10)] = 2
    max_seconds: Annotated[int, Field(ge=0, le=86_400)] = 600

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_seconds < self.initial_seconds:
            raise ValueError("maxSeconds must not be less than initialSeconds")
        return self


class Retry(Model):
    """`spec.retry`."""

    max_attempts: Annotated[int, Field(ge=1, le=100)] | None = None
    """None: the handler's policy says it, or the default."""
    backoff: Backoff = Backoff()


class JobRequestSpec(Model):
    """`spec`."""

    handler: Name
    parameters: dict[str, Any] = Field(default={}, max_length=1_000)
    input_file_path: Annotated[str, Field(min_length=1, max_length=2_048)] | None = None
    description: Annotated[str, Field(max_length=1_024)] | None = None
    queue: Name = "default"
    priority: Annotated[int, Field(ge=0, le=9)] = 0
    concurrency: Concurrency | None = None
    retry: Retry = Retry()
    active_deadline_seconds: Annotated[int, Field(ge=1, le=31_536_000)] | None = None
    start_after: AwareDatetime | None = None
    ttl_seconds_after_finished: Annotated[int, Field(ge=NEVER, le=MAX_TTL)] | None = None
    key: Annotated[str, Field(max_length=MAX_KEY, pattern=KEY_PATTERN)] | None = None
    key_ttl_seconds: Annotated[int, Field(ge=1, le=MAX_TTL)] | None = Field(default=None, alias="keyTTLSeconds")
    suspend: bool = False
    cancel: bool = False


class Condition(Model):
    """A condition in the Kubernetes form."""

    type: str
    status: str
    reason: str
    message: str = ""
    last_transition_time: AwareDatetime | None = None
    observed_generation: int | None = None


class Policy(Model):
    """`status.policy`: under which rules the job was admitted."""

    group: str | None = None
    limit: int | None = None
    max_attempts: int | None = None
    active_deadline_seconds: int | None = None
    from_handler: list[str] = Field(default=[])


class JobRequestStatus(Model):
    """`status`."""

    job_id: str | None = None
    observed_generation: int | None = None
    attempt: int | None = None
    worker: str | None = None
    started_at: AwareDatetime | None = None
    completed_at: AwareDatetime | None = None
    next_attempt_at: AwareDatetime | None = None
    progress: Annotated[int, Field(ge=0, le=100)] | None = None
    policy: Policy | None = None
    message: Annotated[str, Field(max_length=MAX_MESSAGE)] | None = None
    result: Any = None
    conditions: list[Condition] = Field(default=[])


def repeated(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The spec, as written in JSON, of another job like this one. With the same key, that would not run."""
    own = ("cancel", "suspend", "key", "keyTTLSeconds")
    return {name: value for name, value in spec.items() if name not in own}


def parameters_size(parameters: Mapping[str, Any]) -> int:
    """Bytes that the parameters take as compact JSON in UTF-8."""
    return len(json.dumps(parameters, separators=(",", ":"), ensure_ascii=False).encode())


def check_parameters(parameters: Mapping[str, Any]) -> None:
    """Raise `ValueError` when the parameters are too deep or too large. The API server has no rule for either."""
    if deeper_than(MAX_DEPTH, parameters):
        raise ValueError(
            f"the parameters are nested more than {MAX_DEPTH} levels deep. "
            "Put such input into a file and pass its address as inputFilePath."
        )
    size = parameters_size(parameters)
    if size > MAX_PARAMETERS_BYTES:
        raise ValueError(
            f"the parameters take {size} bytes as JSON; at most {MAX_PARAMETERS_BYTES} fit. "
            "Put large input into a file and pass its address as inputFilePath."
        )


def deeper_than(levels: int, value: Any) -> bool:
    """Whether a JSON value has more levels of lists and objects. Without recursion, which is what is to be avoided."""
    layer = [value]
    for _ in range(levels + 1):
        layer = [each for each in layer if isinstance(each, dict | list)]
        if not layer:
            return False
        layer = [child for each in layer for child in (each.values() if isinstance(each, dict) else each)]
    return True
