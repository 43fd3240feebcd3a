"""What a client raises. Each says what failed, which job or setting is meant, and what to do."""

from collections.abc import Mapping, Sequence
from typing import Any


class JobLeaseError(Exception):
    """Of all of them, the base."""


class NotConfigured(JobLeaseError):
    """No dashboard was named and none was found, or its address, token or certificate cannot be used."""


class Unreachable(JobLeaseError):
    """The dashboard gave no answer that could be read in the time that there was, however often it was asked.

    Whether a submission was made is not known then. The same one may be sent again when it has a key.
    """


class Refused(JobLeaseError):
    """The dashboard has answered, and said no."""

    def __init__(self, problem: Mapping[str, Any], what: str) -> None:
        """`problem` as RFC 9457 has it; `what` was asked for."""
        self.status = int(problem.get("status") or 0)
        self.title = str(problem.get("title") or "")
        self.detail = str(problem.get("detail") or self.title or f"status {self.status}")
        self.field: str | None = problem.get("field")
        """The field that is meant, as `spec.parameters.paths`."""
        self.job_id: str | None = problem.get("jobId")
        self.problem = dict(problem)
        hint = (_HINTS_OF_API_SERVER if of_api_server(problem) else _HINTS).get(self.status, "")
        where = f"{self.field}: " if self.field and self.field not in self.detail else ""
        super().__init__(f"{what} was refused ({self.status}): {where}{self.detail}{hint}")


_HINTS = {
    401: ". The token is missing, wrong or expired: pass token=, or check the pod's service account",
    403: ". The token's account needs this right on jobrequests in that namespace (Kubernetes RBAC)",
    429: ". It asks to be left alone for longer than this call may take: raise timeout=, or send less at once",
    502: ". Whoever has installed the dashboard gives it that right: the chart's ClusterRole has it",
}
_HINTS_OF_API_SERVER = {
    401: ". The API server does not accept these credentials",
    403: ". The way to the dashboard by the API server takes get, create and patch on services/proxy (Kubernetes RBAC)",
    404: ". The API server has no such Service: is it the right namespace and name?",
}


class KeyConflict(Refused):
    """The key is that of a job with other content; nothing was submitted. `job_id` is that job's, when it is known."""

    @property
    def differences(self) -> Sequence[Mapping[str, str]]:
        """Of each field that differs `field`, `first` and `now`; the values are JSON, empty when it is not there."""
        found: list[Mapping[str, str]] = self.problem["differences"]
        return found


class JobNotFound(Refused):
    """There is no such job, or none that this token may see."""


class JobEnded(JobLeaseError):
    """A job whose result was asked for has ended without one."""

    def __init__(self, job_id: str, name: str, state: str, error: str) -> None:
        self.job_id, self.name, self.state, self.error = job_id, name, state, error
        super().__init__(f"job {name or job_id} ({job_id}) is {state}: {error}")


class JobFailed(JobEnded):
    """`error` is what it failed with, `state` how: `Failed`, `DeadlineExceeded` or `WorkerCrashed`."""


class JobWasCancelled(JobEnded):
    """It was cancelled. `joblease.JobCancelled` is another thing: what is raised inside a handler."""


class NotYet(JobLeaseError, TimeoutError):
    """A job has not ended in the time that the caller wanted to wait. It goes on."""


def of_api_server(problem: Mapping[str, Any]) -> bool:
    """Whether the API server has answered for the dashboard, to which the request goes by its proxy."""
    return problem.get("kind") == "Status"


def refusal(problem: Mapping[str, Any], what: str) -> Refused:
    """The error that fits a problem."""
    if "differences" in problem:
        return KeyConflict(problem, what)
    found = problem.get("status") != 404 or of_api_server(problem)
    return (Refused if found else JobNotFound)(problem, what)
