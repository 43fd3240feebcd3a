"""What `Job` and `AsyncJob` have in common: which job it is, and what its end means to whoever waits for the result."""

from collections.abc import Mapping
from typing import Any

from joblease.client.errors import JobEnded, JobFailed, JobWasCancelled
from joblease.client.operations import Ref
from joblease.client.seen import Snapshot
from joblease.states import Kind, State


class AnyJob:
    """A job that a client knows."""

    def __init__(self, made: Mapping[str, Any], snapshot: Snapshot | None = None) -> None:
        self.job_id: str = made["jobId"]
        self.namespace: str = made.get("namespace", "")
        self.name: str = made.get("name", "")
        self.handler: str = made.get("handler", "")
        self.key: str | None = made.get("key")
        self.created: bool = made.get("created", False)
        """Whether this call has made it; otherwise an earlier one has, with the same key."""
        self.snapshot = snapshot
        """How it stood when it was last looked at; None when it was not yet."""

    @property
    def ref(self) -> Ref:
        """Which job it is."""
        return Ref(self.job_id, self.namespace, self.name)

    @property
    def state(self) -> State:
        """When it was last looked at; `Submitted` when it was not yet."""
        return self.snapshot.state if self.snapshot else State.SUBMITTED

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.namespace}/{self.name} {self.job_id} {self.handler}: {self.state}>"


def known(found: Snapshot) -> Mapping[str, Any]:
    """What the API would have said when it was submitted."""
    return {"jobId": found.job_id, "namespace": found.namespace, "name": found.name, "handler": found.handler}


def result_of(end: Snapshot) -> Any:
    """The result of an ended job. Raises `JobEnded`."""
    if end.state.kind is Kind.COMPLETED:
        return end.result
    kinds = {Kind.FAILED: JobFailed, Kind.CANCELLED: JobWasCancelled}
    raise kinds.get(end.state.kind, JobEnded)(end.job_id, end.name, end.state, end.error or end.message)


def changes(priority: int | None, ttl: int | None) -> dict[str, int]:
    """As the API takes them. Raises `ValueError` when there is none."""
    said = {"priority": priority, "ttlSecondsAfterFinished": ttl}
    given = {name: value for name, value in said.items() if value is not None}
    if not given:
        raise ValueError("say what is to be changed: priority= or ttl=")
    return given


def listed(namespace: str | None, state: str | None, handler: str | None, group: str | None) -> dict[str, str]:
    """The query of a list. Raises `TypeError`."""
    said = {"namespace": namespace, "state": state, "handler": handler, "group": group, "page_size": "200"}
    return {name: text_of(name, value) for name, value in said.items() if value}


def text_of(name: str, value: object) -> str:
    """What jobs are looked for by: a handler is meant by its name. Raises `TypeError`."""
    if not isinstance(value, str):
        raise TypeError(f"{name}: text (str) is expected, not {value!r:.80}")
    return str(value)
