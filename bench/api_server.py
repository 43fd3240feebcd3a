"""Many `JobRequest`s at once: what `kubectl` and a typed client would do, with as little work of our own as possible.

The load comes from the machine that it measures, so bodies are made beforehand and answers are hardly looked at.
"""

import asyncio
import json
import re
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml
from aiohttp import ClientSession, TCPConnector

AT_ONCE = 32
_JOB_REQUESTS = "/apis/joblease.dev/v1alpha1/namespaces/default/jobrequests"
_HEADERS = {"Content-Type": "application/json"}
_PATCH = {"Content-Type": "application/json-patch+json"}
_WRITE = re.compile(
    r'^apiserver_request_total\{.*resource="jobrequests".*verb="(POST|PUT|PATCH|APPLY|DELETE)".*\} (\S+)$', re.MULTILINE
)


class ApiServer:
    """`JobRequest`s of the namespace `default`, as administrator."""

    def __init__(self, session: ClientSession) -> None:
        self._session = session

    async def create(self, name: str, spec: dict[str, Any]) -> str:
        """Create one; its uid."""
        body = {
            "apiVersion": "joblease.dev/v1alpha1",
            "kind": "JobRequest",
            "metadata": {"name": name},
            "spec": spec,
        }
        answer = await self._send("POST", _JOB_REQUESTS, body, _HEADERS)
        return str(json.loads(answer)["metadata"]["uid"])

    async def write_status(self, name: str, uid: str, reason: str, status: str) -> None:
        """Write a status as the operator does: one condition, and the identity of the object."""
        condition = {
            "type": "Succeeded",
            "status": status,
            "reason": reason,
            "message": "waits for a worker of queue default",
            "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        new = {"jobId": uid, "observedGeneration": 1, "attempt": 0, "message": condition["message"]}
        patch = [
            {"op": "replace", "path": "/metadata/uid", "value": uid},
            {"op": "add", "path": "/status", "value": {**new, "conditions": [condition]}},
        ]
        await self._send("PATCH", f"{_JOB_REQUESTS}/{name}/status", patch, _PATCH)

    async def reasons(self) -> Counter[str]:
        """How many there are, by the reason of their condition; `""` for those without a status."""
        items = json.loads(await self._send("GET", _JOB_REQUESTS))["items"]
        return Counter(
            next((each["reason"] for each in item.get("status", {}).get("conditions", [])), "") for item in items
        )

    async def delete_all(self) -> None:
        """Delete every one."""
        await self._send("DELETE", _JOB_REQUESTS)

    async def writes(self) -> int:
        """How many writes of `JobRequest`s the API server has counted since it was started, creations included."""
        return sum(int(count) for _, count in _WRITE.findall((await self._send("GET", "/metrics")).decode()))

    async def _send(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> bytes:
        data = None if body is None else json.dumps(body)
        async with self._session.request(method, path, data=data, headers=headers) as answer:
            content = await answer.read()
            if not answer.ok:
                raise SystemExit(f"the API server answers {method} {path} with {answer.status}: {content.decode()}")
            return content


@asynccontextmanager
async def api_server(kubeconfig: Path) -> AsyncIterator[ApiServer]:
    """A connection with the rights of a kubeconfig that holds a token."""
    config = yaml.safe_load(kubeconfig.read_text())  # noqa: ASYNC240 - before anything is timed
    cluster, token = config["clusters"][0]["cluster"], config["users"][0]["user"]["token"]
    trust = ssl.create_default_context(cafile=cluster["certificate-authority"])
    async with ClientSession(
        cluster["server"],
        headers={"Authorization": f"Bearer {token}"},
        connector=TCPConnector(limit=AT_ONCE, ssl=trust),
    ) as session:
        yield ApiServer(session)


async def each(count: int, work: Callable[[int], Awaitable[object]]) -> None:
    """Do something for every number below `count`, `AT_ONCE` of them side by side."""
    numbers = iter(range(count))

    async def some() -> None:
        for number in numbers:
            await work(number)

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))
