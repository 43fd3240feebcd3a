"""How long JobLease takes to go on after each kind of failure, with default settings: `make bench-recovery`.

For each fault: a job is started (or submitted in the moment of the fault), the fault is injected, and the audit trail
tells when a run started after it. Prints a table, and the same as JSON.
"""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

from azure.core.exceptions import AzureError
from azure.storage.blob.aio import BlobLeaseClient
from joblease.leases import job_blob
from joblease.settings import StorageSettings
from joblease.storage import TRAIL_TABLE, Storage
from joblease.trail import AuditTrail, UnknownJob
from joblease_local.settings import LocalSettings
from joblease_local.stack import Stack
from kubernetes import client, config
from kubernetes.client import ApiException
from pydantic import SecretStr
from urllib3.exceptions import HTTPError

FIRST_PORT = 24800
PATIENCE_SECONDS = 180
STOPPED_SECONDS = 100
Fault = Callable[[str, str], Coroutine[Any, Any, None]]
"""Takes the running job's id and its worker."""


class Bench:
    """A running installation, and the faults."""

    def __init__(self, stack: Stack, settings: LocalSettings, storage: Storage) -> None:
        self._stack = stack
        self._storage = storage
        self._trail = AuditTrail(storage.table(TRAIL_TABLE))
        self._api = client.CustomObjectsApi(config.new_client_from_config(str(settings.folder / "kubeconfig")))
        self._number = 0

    async def submit(self, seconds: float) -> str:
        """Submit a job as soon as the API server takes it; its id."""
        self._number += 1
        body = {
            "apiVersion": "joblease.dev/v1alpha1",
            "kind": "JobRequest",
            "metadata": {"name": f"recovery-{int(time.time())}-{self._number}"},
            "spec": {"handler": "demo", "parameters": {"steps": 1, "seconds": seconds}},
        }
        where: tuple[Any, ...] = ("joblease.dev", "v1alpha1", "default", "jobrequests", body)
        while True:
            try:
                create = self._api.create_namespaced_custom_object
                created: Any = await asyncio.to_thread(create, *where, _request_timeout=2)
            except (ApiException, HTTPError, OSError):
                await asyncio.sleep(0.1)
            else:
                return str(created["metadata"]["uid"])

    async def started(self, job_id: str, since: datetime) -> tuple[str, float]:
        """The worker of the first run that started after a moment, and how many seconds after it that was."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                with contextlib.suppress(UnknownJob, AzureError):
                    for event in await self._trail.history(job_id):
                        if event.status == "Started" and event.timestamp > since:
                            return str(event.worker), (event.timestamp - since).total_seconds()
                await asyncio.sleep(0.05)

    async def ended(self, job_id: str) -> None:
        """Wait for the job's outcome."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (await self._trail.head(job_id)).state.terminal:  # noqa: ASYNC110 - storage has no events
                await asyncio.sleep(0.1)

    async def interrupted(self, fault: Fault) -> float:
        """Seconds from a fault that ends a run to the run that follows it."""
        job_id = await self.submit(4)
        worker, _ = await self.started(job_id, datetime.min.replace(tzinfo=UTC))
        moment = datetime.now(UTC)
        await fault(job_id, worker)
        _, seconds = await self.started(job_id, moment)
        await self.ended(job_id)
        return seconds

    async def submitted(self, fault: Fault) -> float:
        """Seconds from a fault to the start of a job that is submitted as soon as that is possible."""
        moment = datetime.now(UTC)
        faulting = asyncio.create_task(fault("", ""))
        job_id = await self.submit(0.1)
        _, seconds = await self.started(job_id, moment)
        await faulting
        await self.ended(job_id)
        return seconds

    def worker(self, number: int) -> Fault:
        """Signal the worker that runs the job; it is started again, or continued, when it is over."""

        async def fault(_: str, running: str) -> None:
            part: Any = next(each for each in self._stack.programs if each.name == running)
            part.process.signal(number)
            if number == signal.SIGSTOP:
                asyncio.get_running_loop().call_later(STOPPED_SECONDS, part.process.signal, signal.SIGCONT)
            else:
                while part.running:  # noqa: ASYNC110 - a process of another kind than asyncio's
                    await asyncio.sleep(0.05)
                part.start()

        return fault

    async def break_lease(self, job_id: str, _: str) -> None:
        """As an administrator might."""
        await BlobLeaseClient(self._storage.locks().get_blob_client(job_blob(job_id))).break_lease(0)


def restart(part: Any, end: Callable[[], None]) -> Fault:
    """End a part and start it again."""

    async def fault(_: str, __: str) -> None:
        for step in (end, part.start, part.ready):
            await asyncio.to_thread(step)

    return fault


async def measure(stack: Stack, settings: LocalSettings) -> dict[str, float]:
    """All faults, one after the other."""
    connection = SecretStr(stack.environment["JOBLEASE_STORAGE_CONNECTION_STRING"])
    parts: list[Any] = [*stack.parts, stack.programs[0]]
    plane, rabbitmq, azurite, operator = parts
    async with Storage(StorageSettings(storage_connection_string=connection)) as storage:
        bench = Bench(stack, settings, storage)
        rounds: list[tuple[str, Coroutine[Any, Any, float]]] = [
            ("no fault: submitted to started", bench.submitted(_nothing)),
            ("worker SIGTERM", bench.interrupted(bench.worker(signal.SIGTERM))),
            ("worker kill -9", bench.interrupted(bench.worker(signal.SIGKILL))),
            ("worker SIGSTOP", bench.interrupted(bench.worker(signal.SIGSTOP))),
            ("lease broken by somebody else", bench.interrupted(bench.break_lease)),
            ("operator kill -9", bench.submitted(restart(operator, operator.process.kill))),
            ("RabbitMQ kill -9", bench.submitted(restart(rabbitmq, rabbitmq.process.kill))),
            ("Azurite restart", bench.submitted(restart(azurite, azurite.process.stop))),
            ("kube-apiserver kill -9", bench.submitted(restart(plane, plane.server.kill))),
            ("etcd kill -9", bench.submitted(restart(plane, plane.etcd.kill))),
        ]
        taken = {}
        for name, work in rounds:
            taken[name] = round(await work, 2)
            print(f"{name:36}{taken[name]:8.2f} s", flush=True)
            await asyncio.sleep(2)
        return taken


async def _nothing(*_: str) -> None:
    """The fault that is none."""


def main() -> None:
    """Entry point."""
    settings = LocalSettings(
        state=".local/bench-recovery", workers=3, first_port=FIRST_PORT, dashboard_port=FIRST_PORT + 99
    )
    os.environ["JOBLEASE_LOG_FORMAT"] = "json"
    stack = Stack(settings, lambda line: print(line, flush=True))
    stack.prepare()
    try:
        stack.start_parts()
        stack.start_programs()
        print(json.dumps(asyncio.run(measure(stack, settings))))
    finally:
        stack.stop()


if __name__ == "__main__":
    main()
