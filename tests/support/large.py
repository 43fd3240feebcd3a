"""A job with very many steps, in tables that find a range as Azure's do: Azurite looks at every row for each answer."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from queue import Queue
from typing import Any
from uuid import UUID

from indexed_tables import Rows, Service
from joblease.head import Head
from joblease.messages import JobEvent
from joblease.states import State
from joblease.storage import ACTION_FEED_TABLE, ACTIONS_TABLE, FEED_TABLE, INDEX_TABLE, STATS_TABLE, TRAIL_TABLE
from joblease.trail import MAX_EVENTS, AuditTrail, NewEvent
from joblease_dashboard.read_model.rows import job_row

BEGAN = datetime(2026, 11, 24, 12, tzinfo=UTC)
TABLES = (TRAIL_TABLE, INDEX_TABLE, FEED_TABLE, STATS_TABLE, ACTIONS_TABLE, ACTION_FEED_TABLE)


def job_id(steps: int) -> str:
    return str(UUID(int=steps))


async def write(file: Path, *jobs: int) -> None:
    """Jobs with so many steps, each in its second run."""
    database = sqlite3.connect(file)
    tables: dict[str, Any] = {name: Rows(database, name) for name in TABLES}
    for steps in jobs:
        await _job(tables, steps)
    database.commit()
    database.close()


async def _job(tables: dict[str, Any], steps: int) -> None:
    trail, at = AuditTrail(tables[TRAIL_TABLE]), BEGAN
    head = Head(job_id(steps), "large", f"steps-{steps}", "noop", "default", "default", BEGAN)
    told: list[JobEvent] = []

    async def tell(events: list[NewEvent], **changes: Any) -> None:
        nonlocal head
        head, written = await trail.append(head, events, **changes)
        told[3:] = written

    await tell(
        [NewEvent("Submitted", timestamp=at, data={"handler": "noop", "parameters": {"n": steps}})],
        state=State.SUBMITTED,
    )
    for epoch in (1, 2):
        at += timedelta(seconds=1)
        started = {"state": State.RUNNING, "attempt": epoch, "epoch": epoch, "worker": f"worker-{epoch}"}
        await tell([NewEvent("Started", f"attempt {epoch}", timestamp=at)], **started)
        row = job_row(told, None) or {}
        if epoch == 1:
            at += timedelta(seconds=1)
            await tell([NewEvent("Interrupted", timestamp=at)], state=State.INTERRUPTED)
    for first in range(1, steps + 1, MAX_EVENTS):
        numbers = range(first, min(first + MAX_EVENTS, steps + 1))
        await tell(
            [
                NewEvent(f"Step {n}", f"at {n}", progress=100 * n // steps, timestamp=at + timedelta(milliseconds=n))
                for n in numbers
            ]
        )
    row |= job_row(told, row) or {}
    await tables[INDEX_TABLE].upsert_entity(row)


@contextmanager
def served(file: Path) -> Iterator[str]:
    """The tables, as a connection string; served by another thread, so that a test's event loop is its own."""
    began: Queue[tuple[int, Callable[[], object]]] = Queue()

    async def serve() -> None:
        service, ended, loop = Service(file), asyncio.Event(), asyncio.get_running_loop()
        began.put((await service.start(), partial(loop.call_soon_threadsafe, ended.set)))
        await ended.wait()
        await service.stop()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    port, end = began.get(timeout=20)
    try:
        where = f"TableEndpoint=http://127.0.0.1:{port}/a;BlobEndpoint=http://127.0.0.1:1/a;"
        yield f"DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5;{where}"
    finally:
        end()
        thread.join(20)
