"""What is to be done with a delivery, and the one place where it is done.

A message is acknowledged after what it asks for is safe elsewhere: in the trail, or in a copy that the broker has
confirmed. A copy has the body as it came, also what only a newer operator has put into it; only the hint about the head
row is left out, which is out of date when anybody has written since.
"""

import asyncio
import contextlib
import json
import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aio_pika.exceptions import DeliveryError
from joblease import topology, tracing
from joblease.broker import BROKEN, Broker, PublishFailed, acknowledge
from joblease.errors import pauses
from joblease.topology import DEAD, DEFERRALS_HEADER, JOBS, LOOKS_HEADER, REASON_HEADER, SOON_SECONDS, defer_queue

from joblease_worker import metrics

if TYPE_CHECKING:
    from aio_pika.abc import AbstractIncomingMessage

    from joblease_worker.settings import WorkerSettings

log = logging.getLogger(__name__)

GRACE_SECONDS = 10
"""That it takes others to find a lease over that nobody renews."""
ERRORS_HEADER = "x-joblease-errors"
UNKNOWN_HANDLER_HEADER = "x-joblease-unknown-handler"
_KEPT = (tracing.HEADER, ERRORS_HEADER, UNKNOWN_HANDLER_HEADER, LOOKS_HEADER)


@dataclass(frozen=True, slots=True)
class Done:
    """It asks for nothing more."""


@dataclass(frozen=True, slots=True)
class Deferred:
    """It comes back after `JOBLEASE_DEFER_SECONDS`."""

    reason: str
    """For the metric."""
    counter: str = DEFERRALS_HEADER
    """The header that counts it, beside the one for all deferrals."""
    soon: int | None = None
    """It comes back after a second, unless it has done so for longer than a lease lasts because of the same claim: the
    claim's epoch, 0 for whichever was counted last."""


@dataclass(frozen=True, slots=True)
class HandedBack:
    """Another worker is to have it, now."""


@dataclass(frozen=True, slots=True)
class Parked:
    """It goes to `joblease.dead`: nobody can do what it asks for."""

    reason: str
    """For the metric."""
    message: str


Verdict = Done | Deferred | HandedBack | Parked


def count(delivery: "AbstractIncomingMessage", header: str) -> int:
    """The value of a header that counts; 0 when it is not there."""
    value = delivery.headers.get(header)
    return value if isinstance(value, int) else 0


class Settlement:
    """Settles the deliveries of a worker."""

    def __init__(self, settings: "WorkerSettings", broker: Broker) -> None:
        self._settings = settings
        self._broker = broker

    async def settle(self, delivery: "AbstractIncomingMessage", verdict: Verdict) -> None:
        """Do what must be safe first, then acknowledge.

        While the broker takes no copy it is tried again: that ends with the delivery's channel, after which the broker
        delivers the message again, or with the worker.
        """
        for pause in pauses():
            try:
                await self._make_safe(delivery, verdict)
                break
            except PublishFailed as error:
                if _lost(delivery):
                    log.warning("not settled, the message will be delivered again: %s", error)
                    return
                log.warning("not settled yet, trying again in %.1f s: %s", pause, error)
                if isinstance(error.__cause__, DeliveryError):
                    await self._declare_queues()
            await asyncio.sleep(pause)
        if not await acknowledge(delivery):
            log.info("not acknowledged, the channel is gone; the next delivery will be skipped")

    async def _make_safe(self, delivery: "AbstractIncomingMessage", verdict: Verdict) -> None:
        queue = self._settings.worker_queue
        match verdict:
            case Deferred(reason, counter, soon):
                headers: dict[str, Any] = {name: count(delivery, name) + 1 for name in (DEFERRALS_HEADER, counter)}
                seconds = self._settings.defer_seconds
                if soon is not None:
                    epoch, looks = _looks(delivery, soon)
                    headers[LOOKS_HEADER] = f"{epoch}/{looks}"
                    if looks * SOON_SECONDS <= self._settings.lease_seconds + GRACE_SECONDS:
                        seconds = SOON_SECONDS
                await self._copy(delivery, "", defer_queue(queue, seconds), without_hint(delivery.body), headers)
                metrics.DEFERRALS.labels(reason).inc()
            case HandedBack():
                await self._copy(delivery, JOBS, queue, without_hint(delivery.body), {})
            case Parked(reason, message):
                log.error("parked in %s: %s", DEAD, message)
                await self._copy(delivery, "", DEAD, delivery.body, {REASON_HEADER: message[:1000]})
                metrics.DEAD_LETTERS.labels(reason).inc()

    async def _copy(
        self, delivery: "AbstractIncomingMessage", exchange: str, key: str, body: bytes, headers: dict[str, Any]
    ) -> None:
        kept = {name: value for name, value in delivery.headers.items() if name in _KEPT}
        message_id = delivery.message_id or "unnamed"
        await self._broker.publish(exchange, key, body, message_id=message_id, headers={**kept, **headers})

    async def _declare_queues(self) -> None:
        """Somebody has deleted a queue of ours."""
        with contextlib.suppress(PublishFailed):
            await self._broker.declare(
                lambda channel: topology.declare_pool(channel, self._settings.worker_queue, self._settings)
            )


def _looks(delivery: "AbstractIncomingMessage", epoch: int) -> tuple[int, int]:
    """A claim's epoch, and how often the job was found running under it, now included. `epoch`: as in `Deferred`."""
    before = re.fullmatch(r"(\d{1,9})/(\d{1,9})", str(delivery.headers.get(LOOKS_HEADER)), re.ASCII)
    counted, looks = map(int, before.groups()) if before else (0, 0)
    return (counted, looks + 1) if epoch in (0, counted) else (epoch, 1)


def without_hint(body: bytes) -> bytes:
    """A job's message without the hint about its head row, else unchanged."""
    try:
        fields = json.loads(body)
        del fields["head"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return body
    return json.dumps(fields, separators=(",", ":")).encode()


def _lost(delivery: "AbstractIncomingMessage") -> bool:
    """Whether its channel is closed, so that it can only be delivered again."""
    try:
        return delivery.channel.is_closed
    except BROKEN:
        return True
