"""Publishes a run's events in order, beside the run.

An event is published after it is in the trail. Publishing must not slow down a handler, so it happens in a task of its
own, which goes on from the first unsaid event when the broker was away; at the end of the run the worker asks whether
everything got through before it acknowledges the job's message.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Self

from joblease import tracing
from joblease.broker import Broker, PublishFailed
from joblease.errors import pauses
from joblease.messages import JobEvent
from joblease.topology import EVENTS

if TYPE_CHECKING:
    from types import TracebackType

log = logging.getLogger(__name__)

MAX_WAITING = 1_000
"""Events that wait to be published; more make the run wait, or are left out while the broker is away."""
FINISH_SECONDS = 30.0
"""How long a run's end waits for its last events to be published."""

Reading = Callable[[], Awaitable[Sequence[JobEvent]]]


class Announcer:
    """Use as an async context manager around a run."""

    def __init__(self, broker: Broker, traceparent: str) -> None:
        self._broker = broker
        self._headers = {tracing.HEADER: traceparent}
        self.said = 0
        """The number of the last event that was published."""
        self._unsaid: asyncio.Queue[JobEvent | Reading | None] = asyncio.Queue(MAX_WAITING)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._publish(), name="announcer")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})

    async def announce(self, events: Sequence[JobEvent | Reading]) -> None:
        """Publish events, or what is then read, after those before them.

        Events that find no room are left out: whoever hears of a later one takes them from the trail.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0 if self._broker.problem or self._broker.blocked else self._broker.timeout):
                for event in events:
                    await self._unsaid.put(event)

    async def finish(self, events: Sequence[JobEvent | Reading]) -> bool:
        """Publish the last events; False when not everything got through in `FINISH_SECONDS`."""
        try:
            async with asyncio.timeout(FINISH_SECONDS):
                for event in (*events, None):
                    await self._unsaid.put(event)
                await self._task
        except TimeoutError:
            return False
        return True

    async def _publish(self) -> None:
        while (item := await self._unsaid.get()) is not None:
            for event in [item] if isinstance(item, JobEvent) else await item():
                await self._say(event)

    async def _say(self, event: JobEvent) -> None:
        """Until it is said; ends with the announcer at the latest."""
        for pause in pauses():
            try:
                await self._broker.publish(
                    EVENTS, event.routing_key, event.encode(), message_id=event.event_id, headers=self._headers
                )
            except PublishFailed as error:
                log.warning("event not announced yet, trying again in %.1f s: %s", pause, error)
                await asyncio.sleep(pause)
            except Exception:
                log.exception("%s cannot be announced; it is in the trail", event.event_id)
                return
            else:
                self.said = event.sequence
                return
