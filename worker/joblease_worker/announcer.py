"""Publishes a run's events in order, beside the run.

An event is published after it is in the trail. Publishing must not slow down a handler, so it happens in a task of its
own; at the end of the run the worker asks whether everything got through before it acknowledges the job's message.
"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from joblease import tracing
from joblease.broker import EVENTS, Broker, PublishFailed
from joblease.messages import JobEvent

if TYPE_CHECKING:
    from types import TracebackType

log = logging.getLogger(__name__)

MAX_WAITING = 1_000
"""Events that wait to be published; more make the run wait."""


class Announcer:
    """Use as an async context manager around a run."""

    def __init__(self, broker: Broker, traceparent: str) -> None:
        self._broker = broker
        self._headers = {tracing.HEADER: traceparent}
        self._events: asyncio.Queue[JobEvent] = asyncio.Queue(MAX_WAITING)
        self._failed = False

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._publish(), name="announcer")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def announce(self, events: Sequence[JobEvent]) -> None:
        """Publish the events after those before them."""
        for event in events:
            await self._events.put(event)

    async def finished(self) -> bool:
        """Wait for the last one. False when any of them may not have got through."""
        await self._events.join()
        return not self._failed

    async def _publish(self) -> None:
        while True:
            event = await self._events.get()
            try:
                if not self._failed:  # the rest would come out of order; the trail has them all
                    await self._broker.publish(
                        EVENTS, event.routing_key, event.encode(), message_id=event.event_id, headers=self._headers
                    )
            except PublishFailed as error:
                self._failed = True
                log.warning("event not announced, the job's message will be delivered again: %s", error)
            finally:
                self._events.task_done()
