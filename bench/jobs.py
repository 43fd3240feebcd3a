"""`JobRequest`s that benchmarks submit, and what the audit trail says about them."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from azure.core.exceptions import AzureError
from joblease.messages import JobEvent
from joblease.settings import StorageSettings
from joblease.storage import TRAIL_TABLE, Storage
from joblease.trail import AuditTrail, UnknownJob
from joblease_local.stack import Stack
from kubernetes import client, config
from kubernetes.client import ApiException
from pydantic import SecretStr
from urllib3.exceptions import HTTPError


class Jobs:
    """Jobs of the built-in handler in an installation."""

    def __init__(self, stack: Stack, storage: Storage) -> None:
        self.storage = storage
        self._trail = AuditTrail(storage.table(TRAIL_TABLE))
        kubeconfig = Path(stack.environment["KUBECONFIG"]).with_name("kubeconfig")  # the administrator's
        self._api = client.CustomObjectsApi(config.new_client_from_config(str(kubeconfig)))

    async def submit(self, seconds: float, patience: float = 0, **spec: Any) -> str:
        """Submit a job that takes so long; `spec` are more of its fields. Gives its id.

        An API server that is away is tried again for `patience` seconds.
        """
        body = {
            "apiVersion": "joblease.dev/v1alpha1",
            "kind": "JobRequest",
            "metadata": {"name": f"bench-{uuid4().hex[:8]}"},
            "spec": {"handler": "demo", "parameters": {"steps": 1, "seconds": seconds}, **spec},
        }
        where: tuple[Any, ...] = ("joblease.dev", "v1alpha1", "default", "jobrequests", body)
        deadline = time.monotonic() + patience
        while True:
            try:
                create = self._api.create_namespaced_custom_object
                created: Any = await asyncio.to_thread(create, *where, _request_timeout=2)
            except (ApiException, HTTPError, OSError):
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.1)
            else:
                return str(created["metadata"]["uid"])

    async def event(
        self, job_id: str, wanted: Callable[[JobEvent], bool], patience: float, pause: float = 0.05
    ) -> JobEvent:
        """The job's first event that is wanted. Raises `SystemExit` when there is none within `patience` seconds."""
        deadline = time.monotonic() + patience
        history: list[JobEvent] = []
        while time.monotonic() < deadline:
            with contextlib.suppress(UnknownJob, AzureError):
                history = await self._trail.history(job_id)
                if found := next(filter(wanted, history), None):
                    return found
            await asyncio.sleep(pause)
        told = ", ".join(f"{event.status} {event.timestamp:%H:%M:%S}" for event in history) or "nothing"
        raise SystemExit(f"job {job_id}: not within {patience:.0f} s; its trail says: {told}")


@asynccontextmanager
async def open_jobs(stack: Stack) -> AsyncIterator[Jobs]:
    """Jobs of a running installation."""
    connection = SecretStr(stack.environment["JOBLEASE_STORAGE_CONNECTION_STRING"])
    async with Storage(StorageSettings(storage_connection_string=connection)) as storage:
        yield Jobs(stack, storage)
