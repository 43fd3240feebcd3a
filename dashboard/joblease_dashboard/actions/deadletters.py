"""Messages that could not be processed: look at them without taking them away, and send them back.

Looking means getting them from the queue and giving them back; the queue is declared so that this does not use them
up, and one dashboard looks at a time, since what one has got the others do not see. Replaying publishes a message to
where it came from, and takes it away only after the broker has confirmed that. A message of a job that has ended would
do nothing: it is not sent, stays, and whoever wanted to send it is told.
"""

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from aiormq.exceptions import ChannelLockedResource
from joblease.broker import PublishFailed
from joblease.errors import pauses
from joblease.states import State
from joblease.topology import DEAD, alone_with_dead
from joblease.trail import AuditTrail, UnknownJob

from joblease_dashboard.actions.letters import DeadLetter, describe, dropped

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue
    from joblease.broker import Broker

MAX_SHOWN = 100
MAX_REPLAYED = 1_000
"""Messages that one replay looks at; what is behind them comes with the next."""
GIVE_BACK_SECONDS = 2.0
TURN_SECONDS = 30.0
"""How long one waits for the others that look, and looks."""
T = TypeVar("T")
_one_at_a_time = asyncio.Lock()


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of those that somebody wanted to send back."""

    sent: list[DeadLetter]
    ended: list[tuple[DeadLetter, State]]
    """Not sent: their jobs have their outcomes."""

    def ended_jobs(self) -> list[dict[str, str]]:
        """As the API says it."""
        return [{"jobId": each.job_id, "name": each.name, "state": str(state)} for each, state in self.ended]


async def look(broker: "Broker") -> list[DeadLetter]:
    """The oldest of them. Raises `PublishFailed`."""

    async def get(channel: "AbstractChannel") -> list[DeadLetter]:
        async with alone_with_dead(channel) as queue:
            taken: list[AbstractIncomingMessage] = []
            while len(taken) < MAX_SHOWN and (message := await queue.get(no_ack=False, fail=False)):
                taken.append(message)
            await _give_back(channel, taken)
        return [describe(message) for message in taken]

    return await _alone(broker, get)


async def replay(broker: "Broker", trail: AuditTrail, wanted: str | None) -> Replayed:
    """Send one of them back, or all that can be read. Raises `PublishFailed`, `AzureError`.

    Costs a storage request for each message of a job. What there is no time for comes with the next replay.
    """
    done = Replayed([], [])
    in_time = asyncio.get_running_loop().time() + broker.timeout / 2

    async def send(channel: "AbstractChannel") -> None:
        async with alone_with_dead(channel) as queue:
            await send_all(channel, queue)

    async def send_all(channel: "AbstractChannel", queue: "AbstractQueue") -> None:
        kept: list[AbstractIncomingMessage] = []
        for _ in range(MAX_REPLAYED):
            message = await queue.get(no_ack=False, fail=False)
            if message is None:
                break
            letter = describe(message)
            if not letter.queue or wanted not in (None, letter.id):
                kept.append(message)
                continue
            if letter.is_job and (state := await _outcome(trail, letter.job_id)):
                done.ended.append((letter, state))
                kept.append(message)
            else:
                headers = {name: value for name, value in message.headers.items() if not dropped(name)}
                await broker.publish(
                    "", letter.queue, message.body, message_id=message.message_id or "unnamed", headers=headers
                )
                await message.ack()
                done.sent.append(letter)
            if wanted or asyncio.get_running_loop().time() > in_time:
                break
        await _give_back(channel, kept)

    await _alone(broker, send)
    return done


async def _alone(broker: "Broker", work: "Callable[[AbstractChannel], Awaitable[T]]") -> T:
    """Ask the broker once nobody else looks at the letters. Raises `PublishFailed`."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(TURN_SECONDS), _one_at_a_time:
            for pause in pauses():
                with contextlib.suppress(ChannelLockedResource):
                    return await broker.ask(work)
                await asyncio.sleep(pause)
    raise PublishFailed("another dashboard looks at the dead letters just now; try again")


async def _outcome(trail: AuditTrail, job_id: str) -> State | None:
    """How a job has ended; None when it has not, or is not known."""
    try:
        head = await trail.head(job_id)
    except UnknownJob:
        return None
    return head.state if head.state.terminal else None


async def _give_back(channel: "AbstractChannel", messages: "list[AbstractIncomingMessage]") -> None:
    """Return messages, and wait a moment until the broker has them: whoever looks next is to find them."""
    for message in messages:
        await message.nack(requeue=True)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GIVE_BACK_SECONDS):
            while await _count(channel) < len(messages):  # noqa: ASYNC110
                await asyncio.sleep(0.02)


async def _count(channel: "AbstractChannel") -> int:
    return (await channel.declare_queue(DEAD, passive=True)).declaration_result.message_count or 0
