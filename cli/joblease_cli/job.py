"""A JobRequest as the commands look at it.

Read leniently from the API server's JSON rather than through the strict models of `joblease.jobrequest`: a command line
of last year must still be able to show a job of this year's operator.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from joblease.jobrequest import GROUP, VERSION
from joblease.states import Kind, State

from joblease_cli.failures import Exit

API_VERSION = f"{GROUP}/{VERSION}"


@dataclass(frozen=True, slots=True)
class Job:
    """One JobRequest at one resource version."""

    raw: Mapping[str, Any]

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Name, namespace, uid, annotations."""
        return self.raw.get("metadata") or {}

    @property
    def spec(self) -> Mapping[str, Any]:
        """What was asked for."""
        return self.raw.get("spec") or {}

    @property
    def status(self) -> Mapping[str, Any]:
        """What has become of it; empty until the operator has seen the job."""
        return self.raw.get("status") or {}

    @property
    def name(self) -> str:
        """The name in its namespace."""
        return str(self.metadata.get("name", ""))

    @property
    def namespace(self) -> str:
        """The namespace."""
        return str(self.metadata.get("namespace", ""))

    @property
    def uid(self) -> str:
        """The job id."""
        return str(self.metadata.get("uid", ""))

    @property
    def version(self) -> str:
        """The resource version, to be compared for equality only."""
        return str(self.metadata.get("resourceVersion", ""))

    @property
    def reference(self) -> str:
        """What kubectl prints and takes: `jobrequest.joblease.dev/<name>`."""
        return f"jobrequest.{GROUP}/{self.name}"

    @property
    def condition(self) -> Mapping[str, Any]:
        """The condition `Succeeded`, or an empty one."""
        return self._condition("Succeeded")

    def _condition(self, kind: str) -> Mapping[str, Any]:
        conditions = self.status.get("conditions") or []
        return next((each for each in conditions if each.get("type") == kind), {})

    @property
    def reason(self) -> str:
        """The column STATUS; empty until the operator has seen the job."""
        return str(self.condition.get("reason", ""))

    @property
    def message(self) -> str:
        """What it waits for, does, or ended with."""
        return str(self.status.get("message") or self.condition.get("message") or "")

    @property
    def progress(self) -> int | None:
        """Percent."""
        return self.status.get("progress")

    @property
    def created(self) -> datetime | None:
        """When it was submitted."""
        return instant(self.metadata.get("creationTimestamp"))

    @property
    def ended(self) -> bool:
        """Whether the job has its outcome."""
        return self.condition.get("status") in ("True", "False") or self._condition("Finished").get("status") == "True"

    @property
    def exit(self) -> Exit:
        """The exit code for the outcome of an ended job."""
        if self.condition.get("status") == "True":
            return Exit.OK
        failed = State(self.reason).kind in (Kind.FAILED, Kind.UNKNOWN)
        return Exit.JOB_FAILED if failed else Exit.JOB_CANCELLED


def instant(text: str | None) -> datetime | None:
    """A time of the API; None when there is none or it is unreadable."""
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
