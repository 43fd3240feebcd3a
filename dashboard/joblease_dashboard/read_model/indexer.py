"""Feeds the read model from the events queue, in batches.

Messages are acknowledged after their rows are written; while storage is away they wait, and the prefetch bounds how
many.
"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from azure.core.exceptions import AzureError
from joblease.broker import Broker, PublishFailed, acknowledge
from joblease.messages import JobEvent, now
from joblease.topology import DEAD, REASON_HEADER
from joblease.transactions import MAX_WRITES
from pydantic import ValidationError

from joblease_dashboard import metrics

if TYPE_CHECKING:
    from aio_pika.abc import AbstractIncomingMessage

    from joblease_dashboard.read_model.writer import Writer

log = logging.getLogger(__name__)

BATCH_SECONDS = 0.1
RETRY_SECONDS = 1.0


class Indexer:
    """Takes events and writes them. Use `run` as a task."""

    def __init__(self, writer: "Writer", broker: Broker) -> None:
        self._writer = writer
        self._broker = broker
        self._waiting: asyncio.Queue[tuple[JobEvent, AbstractIncomingMessage]] = asyncio.Queue()

    async def on_event(self, delivery: "AbstractIncomingMessage") -> None:
        """Take an event for the next batch; an unreadable one is parked."""
        try:
            event = JobEvent.model_validate_json(delivery.body)
        except ValidationError as error:
            await self._park(delivery, f"not an event: {error.errors()[0]['msg']}")
        else:
            self._waiting.put_nowait((event, delivery))

    async def run(self) -> None:
        """Write batches until cancelled."""
        while True:
            batch = [await self._waiting.get()]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BATCH_SECONDS):
                    while len(batch) < MAX_WRITES:
                        batch.append(await self._waiting.get())
            await self._write([event for event, _ in batch])
            for _, delivery in batch:
                await acknowledge(delivery)  # or it is delivered again on the next connection, and skipped

    async def _write(self, events: Sequence[JobEvent]) -> None:
        while True:
            try:
                await self._writer.add(events)
            except AzureError as error:
                log.warning("%d events wait, the read model cannot be written: %s", len(events), error)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                for event in events:
                    metrics.INDEX_LAG_SECONDS.observe(max(0.0, (now() - event.timestamp).total_seconds()))
                return

    async def _park(self, delivery: "AbstractIncomingMessage", reason: str) -> None:
        log.error("an event was parked in %s: %s", DEAD, reason)
        try:
            await self._broker.publish(
                "", DEAD, delivery.body, message_id=delivery.message_id or "unnamed", headers={REASON_HEADER: reason}
            )
        except PublishFailed as error:
            log.warning("not parked, it will be delivered again: %s", error)
            return
        await acknowledge(delivery)
