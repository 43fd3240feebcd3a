"""Collects what there is to know when all is quiet: the trail, the resources, the dashboard's tables, what is left."""

import asyncio
import os
import signal
import sys
import time
from contextlib import suppress
from typing import Any

import aio_pika
from azure.core.exceptions import ResourceNotFoundError
from faults.checker import dashboard_knows
from faults.history import History, Submitted, living, read_activities
from faults.installation import LEASE_SECONDS, NAMESPACE, Installation
from joblease import topology
from joblease.messages import JobEvent
from joblease.settings import StorageSettings
from joblease.states import State
from joblease.storage import FEED_TABLE, INDEX_TABLE, TRAIL_TABLE, Storage
from joblease.topology import EVENTS
from joblease.trail import AuditTrail
from pydantic import SecretStr
from support.cluster import Cluster

TAP = "tap"
LOOK_SECONDS = 2.0


class Collector:
    """`tap` before the programs start, `collect` after the last fault."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._cluster = Cluster(installation.api.kubeconfig, NAMESPACE)

    async def tap(self) -> None:
        """From now on, keep a copy of every event that is published."""
        connection = await aio_pika.connect(self._installation.broker.url)
        async with connection:
            channel = await connection.channel()
            await topology.declare_exchanges(channel)
            queue = await channel.declare_queue(TAP, durable=True, arguments={"x-queue-type": "quorum"})
            await queue.bind(EVENTS, "#")

    async def collect(self, jobs: list[Submitted], patience: float) -> History:
        """Wait until all is quiet, and collect. It is given up when no job has ended for `patience` seconds."""
        connection = SecretStr(self._installation.connection_string)
        async with Storage(StorageSettings(storage_connection_string=connection)) as storage:
            trail = AuditTrail(storage.table(TRAIL_TABLE))
            history = History(list(jobs), [], {}, {})
            await self._wait_for_quiet(trail, history, patience)
            with suppress(TimeoutError):
                async with asyncio.timeout(LEASE_SECONDS + 20):  # what a killed worker held, and what was deferred
                    while not await self._empty(storage, history):
                        await asyncio.sleep(1)
            await self._read_trail(trail, history)
            await self._read_tables(storage, history)
            with suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    while list(dashboard_knows(history)):
                        await asyncio.sleep(LOOK_SECONDS)
                        await self._read_tables(storage, history)
        history.activities = await asyncio.to_thread(read_activities, self._installation.record)
        history.left = living(history.activities)
        for process in history.left:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        history.announced = await self._announced()
        return history

    async def _wait_for_quiet(self, trail: AuditTrail, history: History, patience: float) -> None:
        """What was submitted faster than it could run under faults is run now, so the wait goes on while jobs end."""
        least, since = sys.maxsize, time.monotonic()
        while (still_open := await self._open(trail, history)) and time.monotonic() - since < patience:
            if still_open < least:
                least, since = still_open, time.monotonic()
            await asyncio.sleep(LOOK_SECONDS)

    def _reasons(self) -> dict[str, str]:
        """The reason of each job whose resource exists."""
        reasons = {}
        for body in self._cluster.all():
            conditions = body.get("status", {}).get("conditions", [])
            reason = next((each["reason"] for each in conditions if each["type"] == "Succeeded"), "")
            reasons[body["metadata"]["uid"]] = reason
        return reasons

    async def _open(self, trail: AuditTrail, history: History) -> int:
        """How many jobs have no outcome, or a resource that does not say so. The trail is only read at the end."""
        history.statuses = await asyncio.to_thread(self._reasons)
        if waiting := sum(not (reason and State(reason).terminal) for reason in history.statuses.values()):
            return waiting
        await self._read_trail(trail, history)
        heads, statuses = history.heads, history.statuses
        not_begun = sum(job.job_id not in heads and not job.deleted for job in history.jobs)
        not_ended = sum(not head.state.terminal for head in heads.values())
        return not_begun + not_ended + sum(uid in heads and heads[uid].state != statuses[uid] for uid in statuses)

    async def _read_trail(self, trail: AuditTrail, history: History) -> None:
        with suppress(ResourceNotFoundError):  # no program has lived long enough to make the table
            async for head, events in trail.everything():
                history.heads[head.job_id], history.events[head.job_id] = head, events

    async def _read_tables(self, storage: Storage, history: History) -> None:
        """What the dashboard has made of the events."""
        with suppress(ResourceNotFoundError):  # it has not made the tables yet
            fed = storage.table(FEED_TABLE).list_entities(select=["eventId"])
            history.fed = {row["eventId"] async for row in fed}
            rows = storage.table(INDEX_TABLE).list_entities(select=["jobId", "state"])
            history.indexed = {row["jobId"]: row["state"] async for row in rows}

    async def _empty(self, storage: Storage, history: History) -> bool:
        """Whether no lease is held and no message waits."""
        blobs = [blob async for blob in storage.locks().list_blobs()]
        history.leases = [b.name for b in blobs if b.lease.state == "leased" and b.name.startswith("group/")]
        connection = await aio_pika.connect(self._installation.broker.url)
        async with connection:
            channel = await connection.channel()
            for queue in (topology.jobs_queue("default"), *topology.defer_queues("default", 1), topology.DEAD):
                found = await channel.get_queue(queue)
                history.messages[queue] = found.declaration_result.message_count or 0
        return not history.leases and not any(history.messages.values())

    async def _announced(self) -> list[JobEvent]:
        connection = await aio_pika.connect(self._installation.broker.url)
        async with connection:
            channel = await connection.channel()
            queue: Any = await channel.get_queue(TAP)
            found = []
            while (message := await queue.get(no_ack=True, fail=False)) is not None:
                found.append(JobEvent.model_validate_json(message.body))
        return found
