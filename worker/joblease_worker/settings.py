"""The worker's settings."""

import socket
from typing import Annotated, Self

from joblease.limits import HEADER_PATTERN
from joblease.model import Name
from joblease.settings import BrokerSettings, ProgramSettings, Seconds, StorageSettings
from pydantic import BeforeValidator, Field, FilePath, model_validator


class WorkerSettings(ProgramSettings, BrokerSettings, StorageSettings):
    """Environment variables `JOBLEASE_…` that a worker reads."""

    worker_name: Annotated[str, Field(max_length=253, pattern=HEADER_PATTERN)] = Field(
        default_factory=socket.gethostname
    )
    """Who holds a lease and runs a job, as it is shown everywhere; the pod's name in a cluster. ASCII, as storage
    wants it beside a lease."""
    worker_identity: Annotated[str, Field(max_length=200, pattern=r"^[A-Za-z0-9._-]*$")] = ""
    """What no two workers have at once, and a worker keeps when it is restarted: the pod's UID in a cluster. A worker
    takes it as proof that its predecessor is dead, whose jobs go on at once. Empty: they wait for its lease to end."""
    worker_queue: Name = "default"
    """The queue (worker pool) that this worker serves."""
    worker_concurrency: Annotated[int, Field(ge=1, le=64)] = 1
    """Jobs that this worker runs at once, each in a process of its own."""
    lease_seconds: Annotated[int, Field(ge=15, le=60)] = 60
    """Length of a lease: how long a job of a dead worker stays locked. With less than 25, set
    JOBLEASE_STORAGE_TIMEOUT_SECONDS to 3: a renewal that nobody answers is waited for so long."""
    lease_safety_seconds: Seconds = 5
    """How long before a lease can expire its handler is killed when no renewal got through."""
    cancel_grace_seconds: Annotated[float, Field(ge=0)] = 10
    """How long a cancelled handler may clean up before it is killed."""
    drain_grace_seconds: Annotated[float, Field(ge=0)] = 30
    """How long running jobs may go on after SIGTERM before they are handed to another worker."""
    worker_report_seconds: Seconds = 10
    """How often the worker tells the dashboards that it lives."""
    handlers: str = ""
    """Modules with handlers, comma-separated; handlers of installed packages are found by their entry points."""
    commands: Annotated[FilePath | None, BeforeValidator(lambda value: value or None)] = None
    """A TOML file with handlers that are commands: any program is a handler (docs/handlers.md)."""
    import_timeout_seconds: Seconds = 60
    """How long importing the handlers may take before the worker gives up."""
    jobs_per_process: Annotated[int, Field(ge=0)] = 0
    """Jobs that a handler process runs before another one takes its place, as a remedy for handlers that leak.
    0: any number, because imports can take longer than many jobs."""
    process_memory_mib: Annotated[int, Field(ge=0)] = 0
    """A handler process that takes more resident memory than this when a job has ended is replaced. 0: never."""
    job_memory_limit_mib: Annotated[int, Field(ge=0)] = 0
    """Data memory that each process of a job may use (the kernel's RLIMIT_DATA); beyond it the handler gets a
    MemoryError, and its attempt has failed. 0: no limit but the pod's."""
    output_limit_bytes: Annotated[int, Field(ge=0)] = 1 << 20
    """How much of what a run prints goes into the logs; the rest is dropped, and it is said."""

    @model_validator(mode="after")
    def _check_lease(self) -> Self:
        if self.lease_safety_seconds * 3 > self.lease_seconds:
            raise ValueError("lease_safety_seconds: at most a third of lease_seconds, or no renewal could be late")
        return self

    @property
    def renew_seconds(self) -> float:
        """A third of the lease: two renewals may fail before it is in danger."""
        return self.lease_seconds / 3
