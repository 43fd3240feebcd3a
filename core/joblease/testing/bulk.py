"""`POST /api/requests:cancel` and the like over jobs in memory."""

from collections.abc import Callable, Mapping
from typing import Any

from joblease.states import Kind, State
from joblease.testing.engine import MemoryJob

_FITS: Mapping[str, Callable[[MemoryJob], bool]] = {
    "cancel": lambda job: not job.state.terminal,
    "suspend": lambda job: job.state.kind is Kind.WAITING and not job.spec.suspend,
    "resume": lambda job: job.state.kind is Kind.WAITING and job.spec.suspend,
    "retry": lambda job: job.state.terminal,
    "patch": lambda _: True,
}


def selected(action: str, body: Mapping[str, Any], jobs: Mapping[str, MemoryJob]) -> list[MemoryJob]:
    """The jobs that a request means. Labels are not looked at: the double keeps none."""
    wanted = body["selector"]
    state = wanted.get("state") or ""
    found = []
    for job in jobs.values():
        if job.namespace != wanted["namespace"] or job.spec.handler != (wanted.get("handler") or job.spec.handler):
            continue
        if state and job.state != State(state):
            continue
        if action == "retry" and not state and job.state.kind is not Kind.FAILED:
            continue
        if action == "patch" and "priority" in body["set"] and job.state.kind is not Kind.WAITING:
            continue
        if _FITS[action](job):
            found.append(job)
    return found
