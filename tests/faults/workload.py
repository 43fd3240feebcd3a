"""Submits jobs of all kinds while things break, and cancels and deletes some."""

import asyncio
import time
from typing import Any

from azure.core.exceptions import AzureError, ResourceNotFoundError
from faults.history import Submitted
from faults.installation import NAMESPACE, Installation
from faults.kinds import CANCEL, CANCEL_AFTER_THE_NEXT, DELETE, RUN, Asked, Kinds
from joblease.leases import LeaseBlobs
from joblease.settings import StorageSettings
from joblease.states import State
from joblease.storage import Storage
from kubernetes import client
from pydantic import SecretStr
from support.cluster import Cluster
from urllib3.exceptions import HTTPError

API_TROUBLE = (client.ApiException, HTTPError, OSError)
LOOK_SECONDS = 0.5
MAX_OPEN = 50
"""Jobs that may be open at once: a fault finds jobs at work, and not a line that grows for as long as faults last."""


class Workload:
    """Use `run` as a task for as long as jobs are to come, then `finish`."""

    def __init__(self, installation: Installation, seed: str, pause: float, nuisances: list[str]) -> None:
        """`pause`: mean seconds between two submissions. `nuisances`: as for `Kinds`."""
        self._kinds = Kinds(seed, installation.record, nuisances)
        self._pause = pause
        self._installation = installation
        self._cluster = Cluster(installation.api.kubeconfig, NAMESPACE)
        self._acts: set[asyncio.Task[None]] = set()
        self.jobs: list[Submitted] = []

    async def first(self, patience: float) -> float:
        """Have one job run, before anything breaks; the seconds that it took. Raises `TimeoutError`."""
        began = time.monotonic()
        async with asyncio.timeout(patience):
            await self._submitted(
                "first", self._kinds.behind(Asked({"concurrency": {"group": "first", "limit": 1}}, RUN))
            )
            while not await self._persist(self._has_ended, "first"):
                await asyncio.sleep(LOOK_SECONDS)
        return time.monotonic() - began

    async def run(self) -> None:
        """Begin with a job after the other until cancelled."""
        number = 0
        connection = SecretStr(self._installation.connection_string)
        async with Storage(StorageSettings(storage_connection_string=connection)) as storage:
            while True:
                await asyncio.sleep(self._kinds.pause(self._pause))
                while await _open_jobs(storage) >= MAX_OPEN:
                    await asyncio.sleep(LOOK_SECONDS)
                number += 1
                asked = self._kinds.draw(number)
                self._acts.add(asyncio.create_task(self._act(f"job-{number:05d}", asked)))

    async def finish(self, patience: float) -> None:
        """Let what has begun come to its end, within `patience` seconds: what needs longer is left as it is."""
        acts, late = await asyncio.wait(self._acts, timeout=patience)
        for act in late:
            act.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        for act in acts:
            act.result()

    async def _act(self, name: str, asked: Asked) -> None:
        """A job's part in the play, from its submission to what is done to its resource."""
        await self._submitted(name, asked)
        if asked.fate == RUN:
            return
        if asked.fate == CANCEL_AFTER_THE_NEXT:
            await self._submitted(f"{name}-next", self._kinds.behind(asked))
            while not await self._persist(self._has_ended, f"{name}-next"):
                await asyncio.sleep(LOOK_SECONDS)
        await asyncio.sleep(asked.pause)
        await self._persist(self._change, name, DELETE if asked.fate == DELETE else CANCEL)

    async def _submitted(self, name: str, asked: Asked) -> None:
        body = await self._persist(self._submit, name, asked.spec)
        concurrency = asked.spec["concurrency"]
        outcomes = asked.outcomes if asked.fate == RUN else asked.outcomes | {State.CANCELLED}
        self.jobs.append(
            Submitted(
                body["metadata"]["uid"], name, concurrency["group"], concurrency["limit"],
                outcomes=outcomes, deleted=asked.fate == DELETE,
            )
        )  # fmt: skip

    async def _persist(self, request: Any, *arguments: Any) -> Any:
        """Go on until the API server has taken it."""
        while True:
            try:
                return await asyncio.to_thread(request, *arguments)
            except API_TROUBLE:
                await asyncio.sleep(LOOK_SECONDS)

    def _submit(self, name: str, spec: dict[str, Any]) -> dict[str, Any]:
        try:
            self._cluster.create("witness", name, **spec)
        except client.ApiException as error:
            if error.status != 409:  # there already: the first try's answer was lost
                raise
        return self._cluster.get(name)

    def _change(self, name: str, fate: str) -> None:
        try:
            if fate == DELETE:
                self._cluster.delete(name)
            else:
                self._cluster.change(name, cancel=True)
        except client.ApiException as error:
            if error.status not in (404, 422):  # it has gone, or a finished one cannot be cancelled
                raise

    def _has_ended(self, name: str) -> bool:
        reason = self._cluster.condition(name).get("reason")
        return reason is not None and State(reason).terminal


async def _open_jobs(storage: Storage) -> int:
    """How many jobs have been begun and have not ended: each has a blob. Too many while storage does not say."""
    try:
        async with asyncio.timeout(5):
            return len([job async for job in LeaseBlobs(storage.locks()).jobs()])
    except ResourceNotFoundError:  # no program has lived long enough to make the container
        return 0
    except (AzureError, TimeoutError):
        return MAX_OPEN
