"""Which jobs' messages are among the dead letters, and why.

Workers end a job before they park its message. RabbitMQ does not: it parks a message by itself when that was delivered
`DELIVERY_LIMIT` times to workers that died or lost the broker before they could say anything, and when a policy of the
broker's administrators limits the length or the age of a pool's queue. To publish such a job again would repeat it for
ever, so it ends, and whoever has mended the cause may submit it again.
"""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from joblease.messages import message_id
from joblease.states import State
from joblease.topology import DEAD, REASON_HEADER, declare_dead

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel
    from joblease.broker import Broker

    from joblease_operator.job import Job


async def reasons(broker: "Broker") -> dict[str, str]:
    """Why messages are in `joblease.dead`, in a worker's words or RabbitMQ's, by their ids; they stay there.

    Raises `PublishFailed`.

    It reads the oldest of them, as many as there is time for: half of the broker's timeout.
    """

    async def read(channel: "AbstractChannel") -> dict[str, str]:
        queue, found = await declare_dead(channel), {}
        loop = asyncio.get_running_loop()
        in_time = loop.time() + broker.timeout / 2
        while loop.time() < in_time and (letter := await queue.get(no_ack=False, fail=False)):
            reason = letter.headers.get(REASON_HEADER) or letter.headers.get("x-first-death-reason") or "unknown"
            found[letter.message_id or ""] = reason.decode() if isinstance(reason, bytes) else str(reason)
        return found  # with its channel, all of them go back to their places

    return await broker.ask(read)


def why_dead(job: "Job", letters: Mapping[str, str]) -> str | None:
    """Why nobody will get the message that asks for a job's attempt; None when it is not among the dead letters.

    A letter of an attempt before is of no matter. What a worker hands back still asks for the attempt that it began.
    """
    attempts = [job.attempt + 1] if job.state is State.QUEUED else [job.attempt, job.attempt + 1]
    for attempt in attempts:
        if reason := letters.get(message_id(job.uid, attempt)):
            return f"its message was parked in {DEAD}: {reason}"
    return None
