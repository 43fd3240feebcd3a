"""Lets any job happen, with another one behind it, and holds both to the promise."""

import asyncio
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from joblease.messages import JobEvent
from joblease.trail import UnknownJob
from joblease_local.processes import started_at
from kubernetes import client

from support.any_job import AnyJob
from support.cluster import Cluster
from support.jobs import Jobs
from support.programs import Program

GONE_SECONDS = 5
REFUSALS = (400, 413, 422)
"""What the API server answers to a JobRequest that it does not take."""
PATIENCE_SECONDS = 40
"""Two attempts with a deadline, a grace period and a pause each, on a machine that has much to do."""


class World:
    """An operator and a worker with a namespace and a queue of their own."""

    def __init__(self, jobs: Jobs, cluster: Cluster, programs: list[Program], folder: Path) -> None:
        self._jobs = jobs
        self._cluster = cluster
        self._programs = programs
        self._folder = folder
        self._count = 0

    async def check(self, cases: list[AnyJob]) -> None:
        """Let some jobs happen at once."""
        first = self._count
        self._count += len(cases)
        async with asyncio.TaskGroup() as group:
            for number, case in enumerate(cases, first):
                group.create_task(self._one(number, case))
        for each in self._programs:
            await each.ready()

    async def _one(self, number: int, case: AnyJob) -> None:
        cluster, name, behind = self._cluster, f"{case.name}-{number}", f"behind-{number}"
        record = self._folder / f"{cluster.namespace}-{number}"
        group = {"group": f"{cluster.namespace}-{number}", "limit": 1}
        where: dict[str, Any] = {"queue": cluster.namespace, "concurrency": group}
        parameters = {**case.parameters(), "record": str(record)}
        metadata = {"name": name, "annotations": case.annotations}
        try:
            body = await asyncio.to_thread(
                cluster.create_object, metadata, {**case.spec, **where, "parameters": parameters}
            )
        except client.ApiException as error:
            if error.status not in REFUSALS:
                raise
            return
        await asyncio.to_thread(cluster.create, "noop", behind, **where)
        second = (await asyncio.to_thread(cluster.get, behind))["metadata"]["uid"]
        for pause, change in case.changes:
            await asyncio.sleep(pause)
            await asyncio.to_thread(self._change, name, change)
        try:
            events = await self._outcome(behind, second)
        except AssertionError as error:
            error.add_note(f"before it: {told(await self._history(body['metadata']['uid']))}")
            raise
        said = [event.status for event in events if event.status != "Deferred"]  # a job cancelled while it is claimed
        assert said == ["Submitted", "Queued", "Started", "Completed"], told(events)
        await self._outcome(name, body["metadata"]["uid"])
        await gone(record)

    async def _outcome(self, name: str, uid: str) -> list[JobEvent]:
        """Wait for the outcome and hold it to the promise; the job's history."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not await self._settled(name, uid):
                    await asyncio.sleep(0.1)
        status = await asyncio.to_thread(self._status, name)
        events = await self._history(uid)
        if not events and not status:
            return []  # deleted before anybody had seen it
        outcomes = [event for event in events if event.state.terminal]
        assert len(outcomes) == 1, f"{name} has {len(outcomes)} outcomes; {status}; {told(events)}"
        assert outcomes[0] is events[-1], f"{name} has events after its outcome: {told(events)}"
        assert not status or status.get("reason") == outcomes[0].state, f"{name}: {status}, but {told(events)}"
        return events

    async def _settled(self, name: str, uid: str) -> bool:
        status = await asyncio.to_thread(self._status, name)
        if status.get("reason") in ("Suspended", "Scheduled"):  # it waits, perhaps for ever, as it was told to
            await asyncio.to_thread(self._change, name, {"cancel": True})
        events = await self._history(uid)
        ended = bool(events) and events[-1].state.terminal
        return (ended and (not status or status.get("reason") == events[-1].state)) or (not status and not events)

    async def _history(self, uid: str) -> list[JobEvent]:
        try:
            return await self._jobs.trail.history(uid)
        except UnknownJob:
            return []

    def _status(self, name: str) -> dict[str, Any]:
        """The condition; empty when the resource has gone."""
        try:
            return {"reason": None, **self._cluster.condition(name)}
        except client.ApiException as error:
            if error.status != 404:
                raise
            return {}

    def _change(self, name: str, change: dict[str, Any]) -> None:
        try:
            if change:
                self._cluster.change(name, **change)
            else:
                self._cluster.delete(name)
        except client.ApiException as error:
            if error.status not in (404, *REFUSALS):
                raise


async def gone(record: Path) -> None:
    """Wait until no process lives that a handler has started and written down."""
    lines = await asyncio.to_thread(lambda: record.read_text().splitlines() if record.exists() else [])
    started = [line.split() for line in lines]
    deadline = time.monotonic() + GONE_SECONDS
    while left := [int(pid) for pid, when in started if started_at(int(pid)) == when]:
        if time.monotonic() > deadline:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            raise AssertionError(f"{len(left)} of the processes that the handler has started live on")
        await asyncio.sleep(0.05)


def told(events: list[JobEvent]) -> str:
    """What the trail says, in short."""
    return " / ".join(f"{event.status}: {event.message[:200]}" for event in events[-12:])
