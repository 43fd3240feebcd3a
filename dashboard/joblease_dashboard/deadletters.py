"""Messages that could not be processed: look at them without taking them away, and send them back.

Looking means getting them from the queue and giving them back; the queue is declared so that this does not use them
up. Replaying publishes a message to where it came from, and takes it away only after the broker
has confirmed that.
"""

import asyncio
import contextlib
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aio_pika import DeliveryMode, Message
from joblease.broker import EVENTS
from joblease.messages import JobEvent, JobMessage
from joblease.topology import DEFERRALS_HEADER, JOBS, REASON_HEADER, declare_dead
from pydantic import ValidationError

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
    from joblease.broker import Broker

MAX_SHOWN = 100
MAX_REPLAYED = 1_000
"""Messages that one replay looks at; what is behind them comes with the next."""
SHOWN_BYTES = 4_096
GIVE_BACK_SECONDS = 2.0
_one_at_a_time = asyncio.Lock()
DROPPED_HEADERS = (REASON_HEADER, DEFERRALS_HEADER, "x-joblease-errors", "x-death", "x-delivery-count")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One of them."""

    id: str
    reason: str
    queue: str
    """Where a replay puts it; empty when it cannot be read, so that it would only come back."""
    job_id: str
    name: str
    body: str


async def look(broker: "Broker") -> list[DeadLetter]:
    """The oldest of them. Raises `PublishFailed`."""

    async def get(channel: "AbstractChannel") -> list[DeadLetter]:
        queue = await declare_dead(channel)
        taken: list[AbstractIncomingMessage] = []
        while len(taken) < MAX_SHOWN and (message := await queue.get(no_ack=False, fail=False)):
            taken.append(message)
        await _give_back(channel, taken)
        return [describe(message) for message in taken]

    async with _one_at_a_time:
        return await broker.ask(get)


async def replay(broker: "Broker", wanted: str | None) -> list[DeadLetter]:
    """Send one of them back, or all that can be read; what was sent. Raises `PublishFailed`."""

    async def send(channel: "AbstractChannel") -> list[DeadLetter]:
        queue = await declare_dead(channel)
        sent: list[DeadLetter] = []
        kept: list[AbstractIncomingMessage] = []
        for _ in range(MAX_REPLAYED):
            message = await queue.get(no_ack=False, fail=False)
            if message is None:
                break
            letter = describe(message)
            if not letter.queue or wanted not in (None, letter.id):
                kept.append(message)
                continue
            again = Message(
                message.body, message_id=message.message_id, content_type=message.content_type,
                delivery_mode=DeliveryMode.PERSISTENT,
                headers={name: value for name, value in message.headers.items() if not _dropped(name)},
            )  # fmt: skip
            await channel.default_exchange.publish(again, letter.queue, mandatory=True, timeout=broker.timeout)
            await message.ack()
            sent.append(letter)
            if wanted:
                break
        await _give_back(channel, kept)
        return sent

    async with _one_at_a_time:
        return await broker.ask(send)


async def _give_back(channel: "AbstractChannel", messages: "list[AbstractIncomingMessage]") -> None:
    """Return messages, and wait a moment until the broker has them: whoever looks next is to find them."""
    for message in messages:
        await message.nack(requeue=True)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GIVE_BACK_SECONDS):
            while ((await declare_dead(channel)).declaration_result.message_count or 0) < len(messages):  # noqa: ASYNC110
                await asyncio.sleep(0.02)


def describe(message: "AbstractIncomingMessage") -> DeadLetter:
    """What a dead message is."""
    headers = message.headers
    job_id, name, queue = "", "", ""
    try:
        job = JobMessage.model_validate_json(message.body)
        job_id, name, queue = job.job_id, job.name, f"{JOBS}.{job.queue}"
    except ValidationError:
        try:
            event = JobEvent.model_validate_json(message.body)
            job_id, name, queue = event.job_id, event.name, f"{EVENTS}.index"
        except ValidationError:
            pass
    if queue and (origin := headers.get("x-first-death-queue")):
        queue = str(origin)
    reason = headers.get(REASON_HEADER) or headers.get("x-first-death-reason") or "unknown"
    digest = hashlib.sha256(f"{message.message_id} ".encode() + message.body).hexdigest()[:16]
    return DeadLetter(digest, _text(reason), queue, job_id, name, _pretty(message.body))


def _dropped(name: str) -> bool:
    return name in DROPPED_HEADERS or name.startswith(("x-first-death-", "x-last-death-"))


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _pretty(body: bytes) -> str:
    text = body[:SHOWN_BYTES].decode(errors="backslashreplace")
    try:
        return json.dumps(json.loads(body), indent=2, ensure_ascii=False)[:SHOWN_BYTES]
    except ValueError:
        return text
