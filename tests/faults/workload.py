"""Submits jobs of all kinds while things break, cancels and deletes some, and collects the history at the end."""

import asyncio
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import aio_pika
from faults.checker import dashboard_knows
from faults.history import History, Submitted, read_activities
from faults.installation import LEASE_SECONDS, NAMESPACE, Installation
from joblease import topology
from joblease.broker import EVENTS
from joblease.messages import JobEvent
from joblease.settings import StorageSettings
from joblease.storage import FEED_TABLE, INDEX_TABLE, TRAIL_TABLE, Storage
from joblease.trail import AuditTrail
from kubernetes import client
from pydantic import SecretStr
from support.cluster import Cluster
from urllib3.exceptions import HTTPError

TAP = "tap"
GROUPS = [("one", 1), ("two", 1), ("three", 1), ("wide", 3), ("free", 0)]
API_TROUBLE = (client.ApiException, HTTPError, OSError)


class Workload:
    """Use `run` as a task for as long as jobs are to come, then `finish`."""

    def __init__(self, installation: Installation, seed: str, pause: float) -> None:
        """`pause`: mean seconds between two submissions."""
        self._installation = installation
        self._dice = random.Random(f"{seed} workload")
        self._pause = pause
        self._cluster = Cluster(installation.api.kubeconfig, NAMESPACE)
        self.jobs: list[Submitted] = []

    async def run(self) -> None:
        """Submit jobs until cancelled."""
        async with asyncio.TaskGroup() as group:
            number = 0
            while True:
                await asyncio.sleep(self._dice.expovariate(1 / self._pause))
                number += 1
                fate = self._dice.choices(["run", "cancel", "delete"], [85, 10, 5])[0]
                group.create_task(self._one(f"job-{number:05d}", self._spec(), fate, self._dice.uniform(0, 4)))

    def _spec(self) -> dict[str, Any]:
        dice = self._dice
        group, limit = dice.choice(GROUPS)
        return {
            "priority": dice.randint(0, 9),
            "concurrency": {"group": group, "limit": limit},
            "retry": {"maxAttempts": 20, "backoff": {"initialSeconds": 1, "factor": 1, "maxSeconds": 1}},
            "parameters": {
                "record": str(self._installation.record),
                "seconds": round(dice.choice([0.05, 0.3, 1.0, 3.0]), 2),
                "steps": dice.choice([1, 3, 30]),
                "failures": dice.choice([0, 0, 0, 1]),
            },
        }

    async def _one(self, name: str, spec: dict[str, Any], fate: str, pause: float) -> None:
        body = await self._persist(self._submit, name, spec)
        concurrency = spec["concurrency"]
        self.jobs.append(
            Submitted(body["metadata"]["uid"], name, concurrency["group"], concurrency["limit"], fate == "delete")
        )
        if fate == "run":
            return
        await asyncio.sleep(pause)
        await self._persist(self._change, name, fate)

    async def _persist(self, request: Any, *arguments: Any) -> Any:
        """Once begun, go on until the API server has taken it, also when the run is over."""

        async def again() -> Any:
            while True:
                try:
                    return await asyncio.to_thread(request, *arguments)
                except API_TROUBLE:
                    await asyncio.sleep(0.5)

        return await asyncio.shield(asyncio.ensure_future(again()))

    def _submit(self, name: str, spec: dict[str, Any]) -> dict[str, Any]:
        try:
            self._cluster.create("witness", name, **spec)
        except client.ApiException as error:
            if error.status != 409:  # there already: the first try's answer was lost
                raise
        return self._cluster.get(name)

    def _change(self, name: str, fate: str) -> None:
        try:
            if fate == "delete":
                self._cluster.delete(name)
            else:
                self._cluster.change(name, cancel=True)
        except client.ApiException as error:
            if error.status not in (404, 422):  # it has gone, or a finished one cannot be cancelled
                raise

    def _reasons(self) -> dict[str, str]:
        """The reason of each job whose resource exists."""
        reasons = {}
        for body in self._cluster.all():
            conditions = body.get("status", {}).get("conditions", [])
            reason = next((each["reason"] for each in conditions if each["type"] == "Succeeded"), "")
            reasons[body["metadata"]["uid"]] = reason
        return reasons

    async def finish(self, patience: float) -> History:
        """Wait until all is quiet, for `patience` seconds at most, and collect what there is to know."""
        connection = SecretStr(self._installation.connection_string)
        async with Storage(StorageSettings(storage_connection_string=connection)) as storage:
            trail = AuditTrail(storage.table(TRAIL_TABLE))
            history = History(list(self.jobs), [], {}, {})
            with suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    while not await self._quiet(trail, history):
                        await asyncio.sleep(1)
            with suppress(TimeoutError):
                async with asyncio.timeout(LEASE_SECONDS + 20):  # what a killed worker held, and what was deferred
                    while not await self._empty(storage, history):
                        await asyncio.sleep(1)
            await self._read_trail(trail, history)
            with suppress(TimeoutError):
                async with asyncio.timeout(20):
                    while list(dashboard_knows(history)):
                        await self._read_tables(storage, history)
        history.activities = await asyncio.to_thread(read_activities, Path(self._installation.record))
        history.announced = await self._announced()
        return history

    async def _quiet(self, trail: AuditTrail, history: History) -> bool:
        """Whether every job has its outcome, and every resource says so."""
        history.statuses = await asyncio.to_thread(self._reasons)
        await self._read_trail(trail, history)
        heads = history.heads
        begun = all(job.job_id in heads or job.deleted for job in history.jobs)
        ended = all(head.state.terminal for head in heads.values())
        return (
            begun
            and ended
            and all(heads[uid].state == reason for uid, reason in history.statuses.items() if uid in heads)
        )

    async def _read_trail(self, trail: AuditTrail, history: History) -> None:
        async for head, events in trail.everything():
            history.heads[head.job_id], history.events[head.job_id] = head, events

    async def _read_tables(self, storage: Storage, history: History) -> None:
        """What the dashboard has made of the events."""
        history.fed = {row["eventId"] async for row in storage.table(FEED_TABLE).list_entities()}
        rows = storage.table(INDEX_TABLE).list_entities()
        history.indexed = {row["jobId"]: row["state"] async for row in rows}

    async def _empty(self, storage: Storage, history: History) -> bool:
        """Whether no lease is held and no message waits."""
        blobs = [blob async for blob in storage.locks().list_blobs()]
        history.leases = [b.name for b in blobs if b.lease.state == "leased" or b.name.startswith("job/")]
        connection = await aio_pika.connect(self._installation.broker.url)
        async with connection:
            channel = await connection.channel()
            for queue in (topology.jobs_queue("default"), topology.defer_queue("default", 1), topology.DEAD):
                found = await channel.get_queue(queue)
                history.messages[queue] = found.declaration_result.message_count or 0
        return not history.leases and not any(history.messages.values())

    async def tap(self) -> None:
        """From now on, keep a copy of every event that is published."""
        connection = await aio_pika.connect(self._installation.broker.url)
        async with connection:
            channel = await connection.channel()
            await topology.declare_exchanges(channel)
            queue = await channel.declare_queue(TAP, durable=True, arguments={"x-queue-type": "quorum"})
            await queue.bind(EVENTS, "#")

    async def _announced(self) -> list[JobEvent]:
        connection = await aio_pika.connect(self._installation.broker.url)
        async with connection:
            channel = await connection.channel()
            queue = await channel.get_queue(TAP)
            found = []
            while (message := await queue.get(no_ack=True, fail=False)) is not None:
                found.append(JobEvent.model_validate_json(message.body))
        return found
