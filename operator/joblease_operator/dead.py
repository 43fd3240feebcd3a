"""Which jobs' messages are among the dead letters, and why.

Workers end a job before they park its message. RabbitMQ does not: it parks a message by itself when that was delivered
`DELIVERY_LIMIT` times to workers that died or lost the broker before they could say anything, and when a policy of the
broker's administrators limits the length or the age of a pool's queue. To publish such a job again would repeat it for
ever, so it ends, and whoever has mended the cause may submit it again.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from joblease.messages import message_id
from joblease.states import State
from joblease.topology import DEAD, declare_dead, parked_for

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
    from joblease.broker import Broker

    from joblease_operator.job import Job

MAX_LETTERS = 65_535
"""AMQP's limit on messages that are delivered and not acknowledged."""
MAX_REASON = 1_000


async def reasons(broker: "Broker") -> dict[str, str]:
    """Why messages are in `joblease.dead`, in a worker's words or RabbitMQ's, by their ids; they stay there.

    Raises `PublishFailed`.

    It reads the oldest of them, as many as there is time for: half of the broker's timeout. They may be many, since
    nobody but people takes them away, and the one that matters is among the last. So they are consumed: to get each by
    itself takes its time.
    """
    found: dict[str, str] = {}

    async def read(channel: "AbstractChannel") -> None:
        queue, enough = await declare_dead(channel), asyncio.Event()
        left = queue.declaration_result.message_count or 0

        async def note(letter: "AbstractIncomingMessage") -> None:
            nonlocal left
            found[letter.message_id or ""] = parked_for(letter.headers)[:MAX_REASON]
            left -= 1
            if left <= 0:
                enough.set()

        if left:
            await channel.set_qos(prefetch_count=min(left, MAX_LETTERS))
            await queue.consume(note)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(broker.timeout / 2):
                    await enough.wait()
        # with its channel, all of them go back to their places

    await broker.ask(read)
    return found


def why_dead(job: "Job", letters: Mapping[str, str]) -> str | None:
    """Why nobody will get the message that asks for a job's attempt; None when it is not among the dead letters.

    A letter of an attempt before is of no matter. What a worker hands back still asks for the attempt that it began.
    """
    attempts = [job.attempt + 1] if job.state is State.QUEUED else [job.attempt, job.attempt + 1]
    for attempt in attempts:
        if reason := letters.get(message_id(job.uid, attempt)):
            return f"its message was parked in {DEAD}: {reason}"
    return None
