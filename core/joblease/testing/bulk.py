"""`POST /api/requests:cancel` and the like over jobs in memory."""

import re
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
    """The jobs that a request means. Raises `ValueError`.

    Of label selectors the double knows `name=value`, `name!=value`, `name` and `!name`, also several of them.
    """
    wanted = body["selector"]
    if (state := wanted.get("state") or "") and state not in [*State]:
        raise ValueError(f"state: there is no {state!r}")
    terms = [_term(text.strip()) for text in (wanted.get("labels") or "").split(",") if text.strip()]
    found = []
    for job in [*jobs.values()]:
        if not all(term(job.labels) for term in terms):
            continue
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


def _term(text: str) -> Callable[[Mapping[str, str]], bool]:
    term = re.fullmatch(r"(!?)([\w./-]+)\s*(?:(!?)==?\s*([\w.-]*))?", text, re.ASCII)
    if term is None or (term[1] and term[4] is not None):
        raise ValueError(f"labels: the double does not know {text!r}; it knows name=value, name!=value, name and !name")
    absent, name, other, value = term.groups()
    if value is None:
        return lambda labels: (name in labels) != bool(absent)
    return lambda labels: (labels.get(name) == value) != bool(other)
