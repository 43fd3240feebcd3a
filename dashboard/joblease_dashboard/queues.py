"""How many messages wait, from the broker itself, without its management interface."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from aio_pika.exceptions import ChannelClosed
from joblease.broker import EVENTS
from joblease.topology import DEAD, READERS, defer_queue, jobs_queue

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel
    from joblease.broker import Broker

    from joblease_dashboard.workers import Workers


async def depths(
    broker: "Broker", workers: "Workers", pools: Iterable[str], defer_seconds: int
) -> list[dict[str, Any]]:
    """Each queue: messages ready, messages that workers hold, consumers. Raises `PublishFailed`."""
    rows: list[dict[str, Any]] = []
    for pool in sorted(pools):
        ready = await _depth(broker, jobs_queue(pool))
        deferred = await _depth(broker, defer_queue(pool, defer_seconds))
        rows.append(
            {
                "queue": jobs_queue(pool),
                "ready": ready[0] if ready else None,
                "consumers": ready[1] if ready else 0,
                "unacknowledged": workers.unacknowledged(pool),
                "deferred": deferred[0] if deferred else 0,
            }
        )
    for name in (*(f"{EVENTS}.{reader}" for reader in READERS), DEAD):
        found = await _depth(broker, name)
        rows.append({"queue": name, "ready": found[0] if found else None, "consumers": found[1] if found else 0})
    return rows


async def _depth(broker: "Broker", name: str) -> tuple[int, int] | None:
    """Messages ready and consumers, or None when there is no such queue."""

    async def ask(channel: "AbstractChannel") -> tuple[int, int]:
        queue = await channel.declare_queue(name, passive=True)
        return queue.declaration_result.message_count or 0, queue.declaration_result.consumer_count or 0

    try:
        return await broker.ask(ask)
    except ChannelClosed:
        return None
