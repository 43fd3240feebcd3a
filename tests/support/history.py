"""Jobs' histories, written as the programs write them, at times of the test's choosing."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from joblease.head import Head
from joblease.messages import JobEvent, Status
from joblease.states import State
from joblease.topology import EVENTS
from joblease.trail import NewEvent

from support.jobs import Jobs


class History:
    """A job whose history is written as the programs write it, at times of our choosing."""

    def __init__(self, jobs: Jobs, name: str, submitted: datetime | None = None, **fields: str) -> None:
        self._jobs = jobs
        self.at = submitted or datetime.now(UTC)
        self.job_id = str(uuid4())
        values = {"namespace": "default", "handler": "noop", "queue": "default", "group": "default", **fields}
        where = values["namespace"], name, values["handler"], values["queue"], values["group"]
        self.head = Head(self.job_id, *where, self.at)
        self.events: list[JobEvent] = []

    async def happen(
        self, status: str, state: State, *, after: float = 0.01, publish: bool = True, **event: Any
    ) -> JobEvent:
        """Something happens, `after` seconds; `event` as in `NewEvent`."""
        self.at += timedelta(seconds=after)
        changes: dict[str, Any] = {"state": state}
        if status == Status.STARTED:
            changes |= {
                "attempt": self.head.attempt + 1,
                "epoch": self.head.epoch + 1,
                "worker": "worker-1",
                **_given(event, "worker"),
            }
        new = NewEvent(status, timestamp=self.at, **event)
        self.head, written = await self._jobs.trail.append(self.head, [new], **changes)
        self.events += written
        if publish:
            await self.publish(written[0])
        return written[0]

    async def publish(self, event: JobEvent) -> None:
        await self._jobs.broker.publish(EVENTS, event.routing_key, event.encode(), message_id=event.event_id)

    async def complete(self, *, publish: bool = True) -> None:
        await self.happen("Submitted", State.SUBMITTED, publish=publish, data={"parameters": {"a": 1}})
        await self.happen("Started", State.RUNNING, publish=publish)
        await self.happen("Step 1", State.RUNNING, publish=publish, progress=50, message="half")
        await self.happen("Completed", State.COMPLETED, publish=publish, progress=100, data={"result": {"n": 2}})


def _given(event: dict[str, Any], name: str) -> dict[str, Any]:
    return {name: event[name]} if name in event else {}
