"""`JobRequest`s that benchmarks submit, and what API server and audit trail say about them.

The load comes from the machine that it measures, so answers are hardly looked at.
"""

import asyncio
import contextlib
import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml
from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector
from azure.core.exceptions import AzureError
from joblease.messages import JobEvent
from joblease.settings import StorageSettings
from joblease.storage import TRAIL_TABLE, Storage
from joblease.trail import AuditTrail, UnknownJob
from processes import attempts

AT_ONCE = 32
_PATH = "/apis/joblease.dev/v1alpha1/namespaces/default/jobrequests"


class Refused(SystemExit):
    """The API server has said no; that ends the program."""


class Jobs:
    """`JobRequest`s of the namespace `default`, as administrator, and their trail."""

    def __init__(self, session: ClientSession, storage: Storage) -> None:
        self.storage = storage
        self.trail = AuditTrail(storage.table(TRAIL_TABLE))
        self._session = session

    async def create(self, name: str, spec: dict[str, Any]) -> str:
        """Create one; its uid, which is the job's id."""
        kind = {"apiVersion": "joblease.dev/v1alpha1", "kind": "JobRequest"}
        answer = await self._send("POST", _PATH, {**kind, "metadata": {"name": name}, "spec": spec})
        return str(json.loads(answer)["metadata"]["uid"])

    async def submit(self, seconds: float, patience: float = 0, **spec: Any) -> str:
        """Create one of the built-in handler that takes so long; `spec` are more of its fields. Gives its id.

        An API server that is away is tried again for `patience` seconds.
        """
        whole = {"handler": "demo", "parameters": {"steps": 1, "seconds": seconds}, **spec}
        for _ in attempts(max(patience, 1), "the API server takes a JobRequest"):
            try:
                async with asyncio.timeout(2 if patience else 30):
                    return await self.create(f"bench-{uuid4().hex[:8]}", whole)
            except (ClientError, OSError, Refused):
                if not patience:
                    raise
                await asyncio.sleep(0.1)
        raise AssertionError

    async def event(
        self, job_id: str, wanted: Callable[[JobEvent], bool], patience: float, pause: float = 0.05
    ) -> JobEvent:
        """The job's first event that is wanted. Raises `SystemExit` when there is none within `patience` seconds."""
        for _ in attempts(patience, f"what job {job_id} was to say"):
            with contextlib.suppress(UnknownJob, AzureError):
                if found := next(filter(wanted, await self.trail.history(job_id)), None):
                    return found
            await asyncio.sleep(pause)
        raise AssertionError

    async def write_status(self, name: str, uid: str, reason: str, status: str) -> None:
        """Write a status as the operator does: one condition, and the identity of the object."""
        said = {"observedGeneration": 1, "message": "waits for a worker of queue default"}
        when = {"type": "Succeeded", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        new = {"jobId": uid, "attempt": 0, **said, "conditions": [{**when, "status": status, "reason": reason, **said}]}
        patch = [
            {"op": "replace", "path": "/metadata/uid", "value": uid},
            {"op": "add", "path": "/status", "value": new},
        ]
        await self._send("PATCH", f"{_PATH}/{name}/status", patch, "application/json-patch+json")

    async def all(self, limit: int = 0) -> list[dict[str, Any]]:
        """All of them, or some."""
        items: list[dict[str, Any]] = json.loads(await self._send("GET", f"{_PATH}?limit={limit}"))["items"]
        return items

    async def reasons(self) -> Counter[str]:
        """How many there are, by the reason of their condition; `""` for those without a status."""
        statuses = [item.get("status", {}).get("conditions", []) for item in await self.all()]
        return Counter(next((each["reason"] for each in conditions), "") for conditions in statuses)

    async def delete_all(self) -> None:
        await self._send("DELETE", _PATH)

    async def _send(self, method: str, path: str, body: Any = None, content: str = "application/json") -> bytes:
        data = None if body is None else json.dumps(body)
        async with self._session.request(method, path, data=data, headers={"Content-Type": content}) as answer:
            text = await answer.read()
            if not answer.ok:
                raise Refused(f"the API server answers {method} {path} with {answer.status}: {text.decode()}")
            return text


@asynccontextmanager
async def open_jobs(folder: Path) -> AsyncIterator[Jobs]:
    """Jobs of the installation in a folder, whose storage the environment names."""
    config = yaml.safe_load((folder / "kubeconfig").read_text())
    cluster, token = config["clusters"][0]["cluster"], config["users"][0]["user"]["token"]
    trust = ssl.create_default_context(cafile=cluster["certificate-authority"])
    async with (
        ClientSession(
            cluster["server"],
            headers={"Authorization": f"Bearer {token}"},
            connector=TCPConnector(limit=AT_ONCE, ssl=trust),
            timeout=ClientTimeout(300),
        ) as session,
        Storage(StorageSettings()) as storage,
    ):
        yield Jobs(session, storage)


async def each(count: int, work: Callable[[int], Awaitable[object]], at_once: int = AT_ONCE) -> None:
    """Do something for every number below `count`, `at_once` of them side by side."""
    numbers = iter(range(count))

    async def some() -> None:
        for number in numbers:
            await work(number)

    await asyncio.gather(*(some() for _ in range(at_once)))
