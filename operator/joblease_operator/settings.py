"""The operator's settings."""

import socket
from typing import Annotated, Self

from joblease.jobrequest import MAX_TTL, NEVER
from joblease.model import Name
from joblease.settings import BrokerSettings, ProgramSettings, Seconds, StorageSettings
from pydantic import Field, model_validator

KubernetesName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]


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
    """How often open jobs and blobs are listed: for jobs whose resource has gone, dead sessions, unused groups."""
    operator_api_timeout_seconds: Seconds = 15
    """Bound on each request to the API server."""
    operator_name: str = Field(default_factory=socket.gethostname, min_length=1)
    """Its name in the Lease that says which operator leads; in a pod, the pod's. One that starts again under its name
    takes the lead back at once, so two operators of one machine need two names."""
    operator_pod_uid: str = ""
    """Uid of the pod, in the Lease behind the name: a platform may run two pods of one name."""
    operator_lease_namespace: KubernetesName = "joblease-system"
    """Namespace of the Lease, which must exist."""
    operator_lease_name: KubernetesName = "joblease-operator"
    """Name of the Lease; each installation of a namespace needs one of its own."""
    operator_lease_seconds: Annotated[int, Field(ge=3, le=60)] = 10
    """How long no renewal must have been seen before another operator takes the lead."""
    operator_renew_deadline_seconds: Seconds = 6
    """An operator that leads ends itself after so long without a renewal; at least 1 s less than the Lease."""
    operator_renew_seconds: Seconds = 2
    """How often the leader renews the Lease, and how long it waits for an answer; half the deadline at most."""

    @model_validator(mode="after")
    def _check_lease(self) -> Self:
        deadline = self.operator_renew_deadline_seconds
        if deadline > self.operator_lease_seconds - 1:
            raise ValueError("operator_renew_deadline_seconds: at least 1 s less than operator_lease_seconds")
        if self.operator_renew_seconds > deadline / 2:
            raise ValueError("operator_renew_seconds: half of operator_renew_deadline_seconds at most")
        return self

    @property
    def operator_identity(self) -> str:
        """Who holds the Lease."""
        return "_".join(filter(None, (self.operator_name, self.operator_pod_uid)))
