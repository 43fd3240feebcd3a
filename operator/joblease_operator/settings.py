"""The operator's settings."""

from typing import Annotated

from joblease.jobrequest import MAX_TTL, NEVER
from joblease.model import Name
from joblease.settings import BrokerSettings, ProgramSettings, Seconds, StorageSettings
from pydantic import Field


class OperatorSettings(ProgramSettings, BrokerSettings, StorageSettings):
    """Environment variables `JOBLEASE_…` that the operator reads."""

    operator_namespaces: tuple[str, ...] = ()
    """Namespaces to serve, as a JSON list; all of them when empty."""
    operator_default_group: Name = "default"
    """Concurrency group of jobs that name none."""
    operator_default_limit: Annotated[int, Field(ge=0, le=10_000)] = 1
    """Limit of jobs that name none; 0 means no limit."""
    operator_ttl_seconds_after_finished: Annotated[int, Field(ge=NEVER, le=MAX_TTL)] = 86_400
    """When an ended JobRequest that names no time itself is deleted, -1 for never; its audit trail stays."""
    operator_progress_seconds: Seconds = 2
    """Least time between two writes of a job's progress into its status."""
    operator_resync_seconds: Seconds = 60
    """How often running jobs without news are compared with their audit trail, and the resources are counted."""
    operator_republish_seconds: Seconds = 300
    """A published job without news for so long, which nobody holds, is published again if its message was lost."""
    operator_sweep_seconds: Seconds = 3600
    """How often all blobs are listed: for jobs whose resource has gone unseen, and for groups that are not used."""
    operator_api_timeout_seconds: Seconds = 15
    """Bound on each request to the API server."""
