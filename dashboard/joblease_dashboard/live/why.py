"""Why a job does not run yet, in a sentence: the question that people open a dashboard for.

Answered from the events alone, for any number of jobs at once. What they do not tell, a job's own page asks Kubernetes
(`Cluster.read`): whether the job is suspended, and what the operator says about it.

Whoever may not list the jobs of all namespaces is told nothing of other namespaces' jobs but that one has the
group, and nothing of how many workers there are and how they are called.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from joblease.messages import Status, now
from joblease.states import State

if TYPE_CHECKING:
    from joblease_dashboard.live.workers import Workers
    from joblease_dashboard.read_model.rows import Row


@dataclass(frozen=True, slots=True)
class Why:
    """A reason, and when that changes by itself, if that is known."""

    text: str
    until: str = ""
    """RFC 3339."""
    guessed: bool = False
    """Whether the events do not tell, and somebody else may."""


class Reasons:
    """Made anew for each look, from all open jobs."""

    def __init__(self, open_jobs: "Iterable[Row]", workers: "Workers", *, everything: bool) -> None:
        """`everything`: whether they are told to somebody who may list the jobs of all namespaces."""
        self._workers = workers
        self._everything = everything
        self._holders: dict[str, list[Row]] = defaultdict(list)
        line: dict[tuple[str, str], list[Row]] = defaultdict(list)
        for row in open_jobs:
            if State(row["state"]).admitted:
                self._holders[row["group"]].append(row)
            elif row["state"] != State.SUSPENDED and not _due(row):
                line[row["group"], "" if everything else row["namespace"]].append(row)
        self._places = {
            row["jobId"]: place
            for rows in line.values()
            for place, row in enumerate(sorted(rows, key=lambda row: (-row.get("priority", 0), row["submittedAt"])), 1)
        }

    def why(self, row: "Mapping[str, Any]") -> Why:
        """Why an open job that does not run is waiting."""
        state, due = State(row["state"]), _due(row)
        if state is State.SUSPENDED:
            return Why("it is suspended, and waits until somebody resumes it")
        if not state.admitted and due:
            return Why(f"{row['message']}, at" if state is State.RETRYING else "it is scheduled for", due)
        if not state.admitted:
            return self._for_group(row)
        if row["status"] == Status.DEFERRED:
            return Why(f"looked at again in a moment: {row['message']}")
        return self._for_worker(row)

    def _for_group(self, row: "Mapping[str, Any]") -> Why:
        holders = sorted(
            (each for each in self._holders[row["group"]] if each["jobId"] != row["jobId"]),
            key=lambda each: each["state"] != State.RUNNING,
        )
        if not holders:
            return Why("not admitted yet: it is suspended, or no operator serves its namespace", guessed=True)
        place = self._places.get(row["jobId"], 1)
        of = "" if self._everything else f" among the jobs of {row['namespace']}"
        line = f"next in line{of}" if place == 1 else f"number {place} in line{of}"
        return Why(f"{line}: group {row['group']} is taken by {self._named(row, holders)}")

    def _named(self, row: "Mapping[str, Any]", holders: "list[Row]") -> str:
        known = [each for each in holders if self._everything or each["namespace"] == row["namespace"]]
        if not known:
            return "a job of another namespace"
        first = known[0]
        where = f" on {first['worker']}" if first["state"] == State.RUNNING and first.get("worker") else ""
        others = f" and {len(known) - 1} more" if len(known) > 1 else ""
        strangers = " and a job of another namespace" if len(known) < len(holders) else ""
        return f"{first['name']}{where}{others}{strangers}"

    def _for_worker(self, row: "Mapping[str, Any]") -> Why:
        serving = self._workers.serving(row["queue"])
        if not serving:
            return Why(f"no worker serves queue {row['queue']}")
        if row["status"] == Status.INTERRUPTED:
            return Why("its worker let go of it; another one takes it")
        free = any(each.concurrency > len(each.jobs) for each in serving)
        if not self._everything:
            return Why(
                f"about to be taken by a worker of queue {row['queue']}"
                if free
                else f"all workers of queue {row['queue']} are busy"
            )
        if len(serving) == 1:
            return Why(f"{serving[0].worker} is about to take it" if free else f"{serving[0].worker} is busy")
        workers = f"{len(serving)} workers of queue {row['queue']}"
        return Why(f"about to be taken by one of {workers}" if free else f"all {workers} are busy")


def _due(row: "Mapping[str, Any]") -> str:
    """When the job may go at the earliest, while that is still to come."""
    due = str(row.get("nextAttemptAt" if row["state"] == State.RETRYING else "startAfter") or "")
    return due if due and datetime.fromisoformat(due) > now() else ""
