"""Somebody who may see one of two namespaces is told nothing of the other: all is looked at that anybody is told.

Everything in the other namespace has a name with HUSH in it: its jobs, their handler, queue and group, the namespace,
and the worker that runs them.
"""

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from joblease.storage import ACTION_FEED_TABLE, ACTIONS_TABLE
from joblease_dashboard.actions.record import Record
from joblease_dashboard.api.routes import ROUTES
from joblease_local.control_plane import ControlPlane
from joblease_local.manifests import apply
from support.accounts import account, program_kubeconfig
from support.cluster import Cluster
from support.jobs import Jobs
from support.pages import OF_A_NAMESPACE, addresses
from support.programs import BIN, program

HUSH = "hush"
RBAC = "rbac.authorization.k8s.io"


@dataclass
class Tenant:
    """Who looks, and what there is."""

    own: Cluster
    kubeconfig: Path
    token: str
    job_id: str
    foreign_id: str
    port: int

    async def says(self, path: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "*/*" if "/api/" in path else "text/html"}
        async with httpx.AsyncClient(timeout=20) as http:
            return await http.get(f"http://127.0.0.1:{self.port}{path}", headers=headers)


async def until_says(own: Cluster, name: str, word: str) -> dict[str, Any]:
    """The job, once its status message has this word."""
    async with asyncio.timeout(60):
        while word not in (found := own.get(name)).get("status", {}).get("message", ""):
            await asyncio.sleep(0.2)
    return found


@pytest.fixture
async def tenant(
    api_server: ControlPlane, crd: Path, operator_kubeconfig: Path, amqp_url: str, storage: str, kube_namespace: str,
    tmp_path: Path, jobs: Jobs,
) -> AsyncIterator[Tenant]:  # fmt: skip
    other = f"{HUSH}-{secrets.token_hex(4)}"
    apply(crd, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}})
    own, foreign = Cluster(crd, kube_namespace), Cluster(crd, other)
    token = account(api_server, tmp_path, kube_namespace, "viewer", ("get", "list", "watch", "create"))
    kubeconfig = program_kubeconfig(api_server, "dashboard", tmp_path)
    common = {
        "JOBLEASE_AMQP_URL": amqp_url,
        "JOBLEASE_STORAGE_CONNECTION_STRING": storage,
        "JOBLEASE_DEFER_SECONDS": "1",
    }
    special = {
        "operator": {
            "KUBECONFIG": str(operator_kubeconfig),
            "JOBLEASE_OPERATOR_NAMESPACES": f'["{kube_namespace}", "{other}"]',
        },
        "worker": {"JOBLEASE_WORKER_NAME": f"{HUSH}-worker", "JOBLEASE_WORKER_REPORT_SECONDS": "0.5"},
        "dashboard": {"KUBECONFIG": str(kubeconfig), "JOBLEASE_DASHBOARD_ACCESS": "kubernetes"},
    }
    spec: dict[str, Any] = {
        "concurrency": {"group": "shared", "limit": 1},
        "parameters": {"steps": 6000, "seconds": 0.1},
    }
    async with AsyncExitStack() as stack:
        for name, variables in special.items():
            log = tmp_path / f"{name}.log"
            running = await stack.enter_async_context(program(f"joblease-{name}", {**common, **variables}, log))
            if name == "dashboard":
                port = running.port
        holder = foreign.create("demo", f"{HUSH}-holds", **spec)
        async with asyncio.timeout(60):
            while "startedAt" not in foreign.get(holder).get("status", {}):
                await asyncio.sleep(0.2)
        for number in range(2):
            foreign.create("demo", f"{HUSH}-waits-{number}", priority=9, **spec)
        nowhere: dict[str, Any] = {"queue": f"{HUSH}-queue", "concurrency": {"group": f"{HUSH}-group", "limit": 1}}
        foreign.create(f"{HUSH}-handler", f"{HUSH}-of-another-handler", **nowhere)
        mine = own.create("demo", "mine", **spec)
        job_id = (await until_says(own, mine, "waits for group"))["metadata"]["uid"]
        foreign_id = foreign.get(holder)["metadata"]["uid"]
        record = Record(jobs.storage.table(ACTIONS_TABLE), jobs.storage.table(ACTION_FEED_TABLE))
        who = {"user": f"{HUSH}-user", "address": "192.0.2.1", "namespace": other}
        await record.keep({"action": "cancel", "target": holder, **who}, asyncio.sleep(0), foreign_id)
        yield Tenant(own, tmp_path / "viewer", token, job_id, foreign_id, port)


async def test_somebody_sees_nothing_of_another_namespace(tenant: Tenant) -> None:
    own, said = tenant.own.namespace, dict[str, str]()
    async with asyncio.timeout(30):
        while (await tenant.says(f"/jobs/{tenant.job_id}")).status_code != 200:
            await asyncio.sleep(0.2)
    for path in (*addresses(tenant.job_id), *addresses(tenant.foreign_id), "/submit?handler=demo"):
        said[path] = (await tenant.says(path)).text
        scoped = f"{path}{'&' if '?' in path else '?'}namespace={own}"
        said[scoped] = (await tenant.says(scoped)).text
    for route in ROUTES:
        if route != "/api/stream":
            for job_id in (tenant.job_id, tenant.foreign_id):
                for query in ("", f"?namespace={own}"):
                    path = f"{route.replace('{job_id}', job_id)}{query}"
                    said[path] = (await tenant.says(path)).text
    for query in (f"namespace={own}", f"namespace={own}&jobId={tenant.foreign_id}", f"jobId={tenant.foreign_id}", ""):
        said[f"stream {query}"] = await listen(tenant, f"/api/stream?{query}")
    said["status"] = str(tenant.own.get("mine"))
    for arguments in (["list", "-o", "wide"], ["describe", "mine"], ["list", "-o", "json"]):
        said[str(arguments)] = await command(tenant, *arguments, "-n", own)
    told = {
        where: text[max(text.find(HUSH) - 80, 0) : text.find(HUSH) + 40] for where, text in said.items() if HUSH in text
    }
    assert told == {}

    # What is useful is said all the same, and no number tells how many of the others there are.
    taken = "next in line among the jobs of"
    assert taken in said[f"/jobs/{tenant.job_id}"]
    assert taken in said[f"/?namespace={own}"]
    assert "held by a job of another namespace" in said["status"]
    assert "held by a job of another namespace" in said["['describe', 'mine']"]
    for path in OF_A_NAMESPACE:
        assert (await tenant.says(f"{path}?namespace={own}")).status_code == 200, path
    assert "mine-" in said[f"stream namespace={own}"]
    assert tenant.foreign_id not in said[f"stream namespace={own}"]


async def listen(tenant: Tenant, path: str) -> str:
    """What a stream says while jobs of both namespaces go on, and one is submitted in the own; or the refusal."""
    text = ""
    headers = {"Authorization": f"Bearer {tenant.token}"}
    url = f"http://127.0.0.1:{tenant.port}{path}"
    async with httpx.AsyncClient(timeout=20) as http, http.stream("GET", url, headers=headers) as stream:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(3):
                async for piece in stream.aiter_text():
                    if not text and stream.status_code == 200:
                        await asyncio.to_thread(tenant.own.create, "demo", f"mine-{uuid4().hex[:8]}", suspend=True)
                    text += piece
    return text


async def command(tenant: Tenant, *arguments: str) -> str:
    environment = {**os.environ, "KUBECONFIG": str(tenant.kubeconfig), "COLUMNS": "200"}
    process = await asyncio.create_subprocess_exec(
        BIN / "joblease", *arguments, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, output
    return output.decode()
