"""A worker's part in a job's history, without a worker."""

from datetime import datetime
from typing import Any

from joblease.messages import JobEvent, Status
from joblease.states import State
from joblease.topology import EVENTS
from joblease.trail import NewEvent

from support.jobs import Jobs


async def play(jobs: Jobs, uid: str, *steps: tuple[str, State], publish: bool = True, **event: Any) -> None:
    """What a worker does, without a worker."""
    head = await jobs.trail.head(uid)
    for status, state in steps:
        changes: dict[str, Any] = {"state": state}
        if status == Status.STARTED:
            changes |= {"attempt": head.attempt + 1, "epoch": head.epoch + 1, "worker": "worker-1"}
        if due := (event.get("data") or {}).get("nextAttemptAt"):
            changes["next_attempt_at"] = datetime.fromisoformat(due)
        head, written = await jobs.trail.append(head, [NewEvent(status, **event)], **changes)
        for each in written if publish else ():
            await tell(jobs, each)


async def tell(jobs: Jobs, event: JobEvent) -> None:
    await jobs.broker.publish(EVENTS, event.routing_key, event.encode(), message_id=event.event_id)
