"""What programs do to jobs, one or all that are selected, with operator, worker and dashboard on real parts."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from joblease_local.control_plane import ControlPlane
from support.accounts import account, program_kubeconfig
from support.attack import NO_TLS
from support.cluster import Cluster
from support.programs import Program, program

Start = Callable[..., AbstractAsyncContextManager[Program]]
VERBS = ("get", "list", "watch", "create", "patch")


class Api:
    """The dashboard's API, as somebody sees it who may do everything in one namespace."""

    def __init__(self, http: httpx.AsyncClient, namespace: str, document: dict[str, Any]) -> None:
        self.http = http
        self.namespace = namespace
        self._document = document

    async def ask(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        """The answer, which is held to the document."""
        answer = await self.http.request(method, path, json=body)
        assert answer.status_code == status, answer.text
        described = path.partition("?")[0]
        for part in described.split("/")[3:4]:
            described = described.replace(part, "{jobId}")
        told = self._document["paths"][described][method.lower()]["responses"][str(status)]["content"]
        schema = told[answer.headers["content-type"]]["schema"]
        jsonschema.validate(answer.json(), {**schema, "components": self._document["components"]})
        return answer.json()

    async def submit(self, handler: str, name: str, labels: dict[str, str] | None = None, **spec: Any) -> str:
        metadata = {"namespace": self.namespace, "name": name, "labels": labels or {}}
        body = {"metadata": metadata, "spec": {"handler": handler, "queue": self.namespace, **spec}}
        made = await self.ask("POST", "/api/requests", body, 201)
        return str(made["jobId"])

    async def reaches(self, job_id: str, *states: str) -> dict[str, Any]:
        """Wait until the job is in one of the states; all that is told of it."""
        answer: Any = None
        try:
            async with asyncio.timeout(30):
                while True:
                    answer = await self.http.get(f"/api/requests/{job_id}")
                    if answer.status_code == 200 and answer.json()["job"]["state"] in states:
                        return dict(answer.json())
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"{states} were not reached: {answer.text}") from None

    async def select(self, action: str, **asked: Any) -> Any:
        selector = {"namespace": self.namespace, **asked.pop("selector", {})}
        return await self.ask("POST", f"/api/requests:{action}", {"selector": selector, **asked})


@pytest.fixture
async def api(
    api_server: ControlPlane, crd: Path, amqp_url: str, storage: str, kube_namespace: str, tmp_path: Path
) -> AsyncIterator[Api]:
    token = account(api_server, tmp_path, kube_namespace, "program", VERBS)
    variables = {
        "KUBECONFIG": str(program_kubeconfig(api_server, "dashboard", tmp_path)),
        "JOBLEASE_AMQP_URL": amqp_url,
        "JOBLEASE_STORAGE_CONNECTION_STRING": storage,
        "JOBLEASE_DASHBOARD_ACCESS": "kubernetes",
    }
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(program("joblease-dashboard", variables, tmp_path / "log"))
        url, headers = f"http://127.0.0.1:{running.port}", {"Authorization": f"Bearer {token}"}
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=url, headers=headers, timeout=20, verify=NO_TLS)
        )
        yield Api(http, kube_namespace, (await http.get("/openapi.json")).json())


@pytest.fixture
def cluster(crd: Path, kube_namespace: str) -> Cluster:
    return Cluster(crd, kube_namespace)


async def test_a_jobs_result_or_error_is_told(api: Api, start_operator: Start, start_worker: Start) -> None:
    async with start_operator(), start_worker():
        good = await api.submit("demo", "good", parameters={"steps": 1, "seconds": 0})
        bad = await api.submit("fail", "bad", retry={"maxAttempts": 1})
        assert (await api.reaches(good, "Completed"))["result"] == {"steps": 1}
        told = await api.reaches(bad, "Failed")
        assert "result" not in told
        assert told["error"]
        await api.ask("GET", f"/api/requests/{good}")
        retried = await api.ask("POST", f"/api/requests/{bad}/retry", {"submissionId": "again-and-again"})
        again = await api.ask("POST", f"/api/requests/{bad}/retry", {"submissionId": "again-and-again"})
        assert (retried["created"], again) == (True, {**retried, "created": False})
        assert (await api.ask("POST", f"/api/requests/{bad}/retry"))["jobId"] != retried["jobId"]
        await api.reaches(retried["jobId"], "Failed")
        for action in ("cancel", "suspend", "resume"):
            assert "is Completed" in (await api.ask("POST", f"/api/requests/{good}/{action}", status=409))["detail"]
        await api.ask("PATCH", f"/api/requests/{good}", {"priority": 1}, 409)
        assert await api.ask("PATCH", f"/api/requests/{good}", {"ttlSecondsAfterFinished": 0}) == {"jobId": good}
        for wrong, field in (({}, "the body"), ({"priority": 10}, "priority"), ({"handler": "x"}, "handler")):
            told = await api.ask("PATCH", f"/api/requests/{good}", wrong, 422)
            assert told["field"] == field
        await api.ask("POST", "/api/requests/nothing/cancel", status=404)


async def test_a_waiting_job_whose_priority_is_raised_goes_first(
    api: Api, cluster: Cluster, start_operator: Start, start_worker: Start
) -> None:
    async with start_operator(), start_worker():
        holder = await api.submit("demo", "holder", parameters={"steps": 600, "seconds": 0.1})
        await api.reaches(holder, "Running")
        first = await api.submit("noop", "first")
        await api.reaches(first, "WaitingForGroup")
        last = await api.submit("noop", "last")
        await api.reaches(last, "WaitingForGroup")
        assert await api.ask("PATCH", f"/api/requests/{last}", {"priority": 5}) == {"jobId": last}
        assert cluster.get("last")["spec"]["priority"] == 5
        assert await api.ask("POST", f"/api/requests/{holder}/cancel") == {"jobId": holder}
        assert (await api.reaches(holder, "Cancelled"))["error"]
        began = [(await api.reaches(each, "Completed"))["job"]["startedAt"] for each in (last, first)]
        assert began == sorted(began)


async def test_a_job_that_the_operator_has_not_noticed_is_found_by_its_name(api: Api, cluster: Cluster) -> None:
    job_id = await api.submit("noop", "unnoticed")
    path, named = f"/api/requests/{job_id}", f"?namespace={api.namespace}&name=unnoticed"
    await api.ask("GET", path, status=404)
    assert (await api.ask("GET", path + named))["job"]["state"] == "Submitted"
    assert await api.ask("PATCH", path + named, {"priority": 2}) == {"jobId": job_id}
    assert await api.ask("POST", f"{path}/suspend{named}") == {"jobId": job_id}
    assert cluster.get("unnoticed")["spec"].items() >= {"priority": 2, "suspend": True}.items()
    await api.ask("GET", "/api/requests/another" + named, status=404)
    await api.ask("GET", f"{path}?namespace={api.namespace}&name=..", status=400)
    await api.ask("GET", f"{path}?namespace=kube-system&name=unnoticed", status=404)


async def test_what_is_selected_is_counted_and_then_changed(
    api: Api, cluster: Cluster, start_operator: Start, start_worker: Start
) -> None:
    ids = list[str]()
    for number in range(120):
        handler, labels = ("demo", "noop")[number % 2], {"team": "ab"[number % 3 == 0]}
        ids.append(await api.submit(handler, f"job-{number}", labels, suspend=True))

    async def count(action: str, **selector: str) -> int:
        asked = {"set": {"priority": 1}} if action == "patch" else {}
        told = await api.select(action, selector=selector, dryRun=True, **asked)
        assert (told["done"], told["failed"]) == (0, [])
        return int(told["matched"])

    assert await count("cancel") == 120
    assert await count("cancel", handler="noop") == 60
    assert await count("cancel", labels="team=b") == 40
    assert await count("cancel", labels="team!=b", handler="noop") == 40
    assert [await count("cancel", state="Submitted"), await count("cancel", state="Running")] == [120, 0]
    assert [await count("suspend"), await count("resume"), await count("retry")] == [0, 120, 0]
    patched = await api.select("patch", selector={"labels": "team=b"}, set={"priority": 7})
    assert patched == {"matched": 40, "done": 40, "failed": [], "left": 0}
    assert sum(each["spec"]["priority"] == 7 for each in cluster.all()) == 40
    assert (await api.select("cancel", selector={"labels": "team=b"}))["done"] == 40
    assert await count("cancel") == 80  # those are being cancelled already
    assert (await api.select("resume", selector={"handler": "noop", "labels": "team=a"}))["done"] == 40
    async with start_operator(), start_worker():
        for place in (0, 3):
            await api.reaches(ids[place], "Cancelled")
        for place in (1, 5):
            await api.reaches(ids[place], "Completed")
        assert await count("retry") == 0  # nothing has failed
        assert await count("retry", state="Cancelled", handler="demo") == 20
        again = [await api.select("retry", selector={"state": "Cancelled", "handler": "demo"}) for _ in range(2)]
        assert [(each["matched"], each["done"]) for each in again] == [(20, 20)] * 2
        retried = [each for each in cluster.all() if "-retry-" in each["metadata"]["name"]]
        assert len(retried) == 20
        assert {each["metadata"]["labels"]["team"] for each in retried} == {"b"}


async def test_what_cannot_be_selected_is_refused(api: Api) -> None:
    async def refused(action: str, body: Any, status: int, field: str | None) -> None:
        told = await api.ask("POST", f"/api/requests:{action}", body, status)
        assert told.get("field") == field

    selector = {"namespace": api.namespace}
    await refused("cancel", {}, 422, "selector")
    await refused("cancel", {"selector": {}}, 422, "selector.namespace")
    await refused("cancel", {"selector": {"namespace": "default"}}, 403, None)
    await refused("cancel", {"selector": {**selector, "state": "Nonsense"}}, 422, "selector.state")
    await refused("cancel", {"selector": {**selector, "labels": "a in ("}}, 400, None)
    await refused("cancel", {"selector": {**selector, "handler": "x,metadata.name=y"}}, 422, "selector.handler")
    await refused("cancel", {"selector": selector, "dryRun": "yes"}, 422, "dryRun")
    await refused("patch", {"selector": selector}, 422, "set")
    await refused("patch", {"selector": selector, "set": {}}, 422, "set")
    await refused("cancel", {"selector": selector, "set": {"priority": 1}}, 422, "set")
