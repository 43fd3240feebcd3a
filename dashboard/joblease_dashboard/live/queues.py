"""How many messages wait, from the broker itself, without its management interface."""

from typing import TYPE_CHECKING, Any

from aio_pika.exceptions import ChannelClosed
from joblease.topology import DEAD, EVENTS, READERS, defer_queues, jobs_queue

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel
    from joblease.broker import Broker

    from joblease_dashboard.live.board import Board
    from joblease_dashboard.live.workers import Workers

PURPOSES = {"index": "dashboard"}


async def depths(broker: "Broker", workers: "Workers", board: "Board", defer_seconds: int) -> list[dict[str, Any]]:
    """Each queue: messages ready, messages that workers hold, consumers. Raises `PublishFailed`.

    The pools are those that have workers or open jobs.
    """
    rows: list[dict[str, Any]] = []
    for pool in sorted({"default"} | workers.queues() | board.queues()):
        waiting = [await _depth(broker, each) for each in defer_queues(pool, defer_seconds)]
        deferred = sum(found[0] for found in waiting if found)
        row = await _row(broker, jobs_queue(pool), f"jobs for the workers of {pool}")
        rows.append({**row, "unacknowledged": workers.unacknowledged(pool), "deferred": deferred})
    others = {f"{EVENTS}.{reader}": f"events for the {PURPOSES.get(reader, reader)}" for reader in READERS}
    others[DEAD] = "what could not be processed"
    return rows + [await _row(broker, name, purpose) for name, purpose in others.items()]


async def _row(broker: "Broker", name: str, purpose: str) -> dict[str, Any]:
    found = await _depth(broker, name)
    ready, consumers = found or (None, 0)
    unknown = {"unacknowledged": None, "deferred": None}
    return {"queue": name, "purpose": purpose, "ready": ready, "consumers": consumers, **unknown}


async def _depth(broker: "Broker", name: str) -> tuple[int, int] | None:
    """Messages ready and consumers, or None when there is no such queue."""

    async def ask(channel: "AbstractChannel") -> tuple[int, int]:
        queue = await channel.declare_queue(name, passive=True)
        return queue.declaration_result.message_count or 0, queue.declaration_result.consumer_count or 0

    try:
        return await broker.ask(ask)
    except ChannelClosed:
        return None
