"""The exchanges and queues, declared by whoever needs them, always in the same way.

Waiting for another holder's lease is a stay in a queue of its own whose messages expire into the jobs queue: neither a
worker nor a connection is kept busy, and the broker's delivery limit is not used up. The delay is part of that queue's
name, since RabbitMQ refuses to change the argument of a queue that exists.

A queue that exists with other arguments (RabbitMQ or JobLease was upgraded, a setting was changed) is used as it is,
with a warning that says how to renew it: an upgrade must go through while jobs wait in that queue.
"""

import contextlib
import logging
from typing import TYPE_CHECKING, Any

from aio_pika import ExchangeType
from aiormq.exceptions import ChannelPreconditionFailed

from joblease.messages import STATUSES, Status
from joblease.reconnecting import BROKEN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from aio_pika.abc import AbstractChannel, AbstractQueue

    from joblease.settings import BrokerSettings

log = logging.getLogger(__name__)

JOBS = "joblease.jobs"
EVENTS = "joblease.events"
CONTROL = "joblease.control"
WORKERS = "joblease.workers"
OPTIONAL = (EVENTS, CONTROL, WORKERS)
"""Exchanges on which it is an ordinary state that nobody listens."""
DEAD = "joblease.dead"
DEAD_LOCK, DEAD_LOCK_MILLISECONDS = f"{DEAD}.lock", 30_000
REASON_HEADER = "x-joblease-reason"
DEFERRALS_HEADER = "x-joblease-deferrals"
LOOKS_HEADER = "x-joblease-looks"
"""`EPOCH/COUNT`: how often the job was found running under the claim of that epoch."""
SOON_SECONDS = 1
"""For how long a message waits whose job's worker may have died: its session may be closed any moment."""
DELIVERY_LIMIT = 20
NO_DELIVERY_LIMIT = 1_000_000_000
"""As good as none, and the same for every release: RabbitMQ 4 has a limit unless told, and only 4 knows -1 as none."""
_OF_OPERATOR = (Status.SUBMITTED, Status.SUSPENDED, Status.SCHEDULED, Status.WAITING_FOR_GROUP, Status.QUEUED)
READERS = {
    "operator": [f"*.{status}" for status in STATUSES if status not in _OF_OPERATOR],
    "index": ["#"],
}
"""Who must not miss an event, and the keys of those that matter to it: the operator knows what it has done itself."""
LIVE = f"{EVENTS}.live"
_LIVE_SEGMENT_BYTES, _LIVE_BYTES = 10_000_000, 100_000_000
_KNOWS_CONSUMER_TIMEOUT = (3, 12)


def jobs_queue(queue: str) -> str:
    """The queue of a worker pool."""
    return f"{JOBS}.{queue}"


def defer_queue(queue: str, seconds: int) -> str:
    """Where a pool's jobs wait for a lease."""
    return f"joblease.defer.{queue}.{seconds}s"


def defer_queues(queue: str, seconds: int) -> list[str]:
    """All of a pool's queues where jobs wait: for what may soon be over, and for `JOBLEASE_DEFER_SECONDS`."""
    return [defer_queue(queue, each) for each in sorted({SOON_SECONDS, seconds})]


async def declare_exchanges(channel: "AbstractChannel") -> None:
    """The exchanges, and the queue of the dead letters."""
    await channel.declare_exchange(JOBS, ExchangeType.DIRECT, durable=True)
    await channel.declare_exchange(EVENTS, ExchangeType.TOPIC, durable=True)
    await channel.declare_exchange(CONTROL, ExchangeType.FANOUT, durable=True)
    await channel.declare_exchange(WORKERS, ExchangeType.FANOUT, durable=True)
    await declare_dead(channel)


async def declare_dead(channel: "AbstractChannel") -> "AbstractQueue":
    """The queue of the dead letters. Looking at them must not use them up."""
    return await _declare(channel, DEAD, {"x-queue-type": "quorum", "x-delivery-limit": NO_DELIVERY_LIMIT})


def parked_for(headers: "Mapping[str, Any]") -> str:
    """Why a dead letter was parked, in a worker's words or RabbitMQ's.

    RabbitMQ's words for its last death: a job that was deferred has died before, of the time in its waiting queue.
    """
    deaths = headers.get("x-death") or [{}]
    reason = headers.get(REASON_HEADER) or deaths[0].get("reason") or "unknown"
    return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)


@contextlib.asynccontextmanager
async def alone_with_dead(channel: "AbstractChannel") -> "AsyncIterator[AbstractQueue]":
    """The dead letters, while no other program that asks in this way has any of them in hand.

    Whoever gets a message hides it from everybody else until it goes back, and RabbitMQ has no way to look at a quorum
    queue's messages without getting them. An exclusive queue is the lock: only one connection can declare it, and it
    ends with that. Raises `ChannelLockedResource`.
    """
    lock = await channel.declare_queue(DEAD_LOCK, exclusive=True, arguments={"x-expires": DEAD_LOCK_MILLISECONDS})
    try:
        yield await declare_dead(channel)
    finally:
        with contextlib.suppress(*BROKEN):  # it expires
            await lock.delete()


async def declare_pool(channel: "AbstractChannel", queue: str, settings: "BrokerSettings") -> "AbstractQueue":
    """A worker pool's queue, and those in which its jobs wait."""
    arguments: dict[str, Any] = {
        "x-queue-type": "quorum",
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": DEAD,
        "x-delivery-limit": DELIVERY_LIMIT,
    }
    if await server_version(channel) >= _KNOWS_CONSUMER_TIMEOUT:
        arguments["x-consumer-timeout"] = settings.consumer_timeout_seconds * 1000
    jobs = await _declare(channel, jobs_queue(queue), arguments)
    await jobs.bind(JOBS, queue)
    for seconds in {SOON_SECONDS, settings.defer_seconds}:
        await _declare(
            channel,
            defer_queue(queue, seconds),
            {
                "x-queue-type": "quorum",
                "x-message-ttl": seconds * 1000,
                "x-dead-letter-exchange": JOBS,
                "x-dead-letter-routing-key": queue,
                "x-dead-letter-strategy": "at-least-once",
                "x-overflow": "reject-publish",
            },
        )
    return jobs


async def declare_events(channel: "AbstractChannel", reader: str) -> "AbstractQueue":
    """The durable queue in which the events wait for `reader` (`operator` or `index`)."""
    arguments = {"x-queue-type": "quorum", "x-delivery-limit": DELIVERY_LIMIT}
    queue = await _declare(channel, f"{EVENTS}.{reader}", arguments)
    for key in READERS[reader]:
        await queue.bind(EVENTS, key)
    return queue


async def declare_readers(channel: "AbstractChannel") -> None:
    """Exchanges, and the queues of all who must miss no event: made before the first event, whoever starts first."""
    await declare_exchanges(channel)
    for reader in READERS:
        await declare_events(channel, reader)


async def declare_live(channel: "AbstractChannel") -> "AbstractQueue":
    """The log of the last events, from which any number of dashboards read the same events in the same order."""
    queue = await _declare(
        channel,
        LIVE,
        {
            "x-queue-type": "stream",
            "x-max-age": "1h",
            "x-max-length-bytes": _LIVE_BYTES,
            "x-stream-max-segment-size-bytes": _LIVE_SEGMENT_BYTES,
        },
    )
    await queue.bind(EVENTS, "#")
    return queue


async def declare_private(channel: "AbstractChannel", exchange: str) -> "AbstractQueue":
    """A queue of this connection's own that sees everything on an exchange and goes when the connection goes."""
    queue = await channel.declare_queue(exclusive=True, auto_delete=True)
    await queue.bind(exchange, "#")
    return queue


async def _declare(channel: "AbstractChannel", name: str, arguments: dict[str, Any]) -> "AbstractQueue":
    """A durable queue, with these arguments unless it exists with others."""
    underlay = await channel.get_underlay_channel()
    trial = await underlay.connection.channel()  # what is refused costs its channel
    try:
        await trial.queue_declare(name, durable=True, arguments=arguments)
    except ChannelPreconditionFailed as error:
        log.warning(
            "queue %s is used as it is, although it has other arguments than this program asks for (%s). To renew it: "
            "rabbitmqctl delete_queue --if-empty %s, then restart JobLease's programs",
            name, error, name,
        )  # fmt: skip
    finally:
        await trial.close()
    return await channel.declare_queue(name, durable=True, passive=True)


async def server_version(channel: "AbstractChannel") -> tuple[int, ...]:
    """The broker's version as (major, minor)."""
    underlay = await channel.get_underlay_channel()
    text = underlay.connection.server_properties.get("version", "0.0")
    if isinstance(text, bytes):
        text = text.decode()
    return tuple(int(part) for part in str(text).split(".")[:2])
