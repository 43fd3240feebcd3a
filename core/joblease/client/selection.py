"""All jobs that a selector selects, and what is done to them: the same for both clients.

`Client.select` gives one whose methods return an `Outcome`, `AsyncClient.select` one whose methods are awaited.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from joblease.client.job import changes, text_of
from joblease.client.operations import bulk
from joblease.client.steps import Steps

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it."""

    matched: int
    """Jobs that are selected, and to which it can be done."""
    done: int
    """To which it was done; 0 of a dry run."""
    failed: list[Mapping[str, Any]]
    """Those that could not be done, 100 at most: `jobId`, `name`, `status` and `detail` of each."""
    left: int
    """Those that were too many for one request (10,000): ask again."""


class Selection(Generic[R]):
    """Jobs whose `JobRequest` exists, selected by the client's `select`.

    Each method takes those to which it can be done. `dry_run`: only say how many there are. They raise `Refused`,
    `Unreachable`.
    """

    def __init__(self, run: Callable[[Steps[Outcome]], R], selector: Mapping[str, str], seconds: float) -> None:
        self._run = run
        self._selector = selector
        self._seconds = seconds

    def cancel(self, *, dry_run: bool = False) -> R:
        """Let them end."""
        return self._do("cancel", dry_run=dry_run)

    def suspend(self, *, dry_run: bool = False) -> R:
        """Let them wait until `resume`."""
        return self._do("suspend", dry_run=dry_run)

    def resume(self, *, dry_run: bool = False) -> R:
        """Let them go on after `suspend`."""
        return self._do("resume", dry_run=dry_run)

    def retry(self, *, dry_run: bool = False) -> R:
        """Submit jobs like them; without a `state`, like those that failed. Each once, as long as that job exists."""
        return self._do("retry", dry_run=dry_run)

    def change(self, *, priority: int | None = None, ttl: int | None = None, dry_run: bool = False) -> R:
        """Change their priority, of those that wait, or when their `JobRequest`s are deleted."""
        return self._do("patch", dry_run=dry_run, set=changes(priority, ttl))

    def _do(self, action: str, *, dry_run: bool, **more: Any) -> R:
        return self._run(self._steps(action, {"selector": self._selector, "dryRun": dry_run, **more}))

    def _steps(self, action: str, body: Mapping[str, Any]) -> Steps[Outcome]:
        found = yield from bulk(action, body, self._seconds)
        return Outcome(found["matched"], found["done"], found["failed"], found["left"])


def selector_of(
    namespace: str | None, labels: str | Mapping[str, str] | None, handler: str | None, state: str | None
) -> dict[str, str]:
    """As the API takes it. Raises `TypeError`, `ValueError`."""
    for name, value in {"namespace": namespace, "labels": labels, "handler": handler, "state": state}.items():
        if value is not None and not value:
            raise ValueError(f"{name} is empty, which would select all: leave it out if that is meant")
    label_text = labels if isinstance(labels, str | None) else ",".join(f"{key}={each}" for key, each in labels.items())
    said = {"namespace": namespace or "default", "labels": label_text, "handler": handler, "state": state}
    return {name: text_of(name, value) for name, value in said.items() if value}
