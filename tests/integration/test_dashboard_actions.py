"""What people do from the pages, with operator, worker and dashboard as processes on real parts."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from joblease.messages import WorkerReport
from joblease.states import State
from joblease.storage import ACTIONS_TABLE
from joblease.topology import DEAD, REASON_HEADER
from joblease_local.control_plane import ControlPlane
from joblease_local.manifests import apply_file
from support.cluster import Cluster
from support.jobs import Jobs
from support.programs import program

ROOT = Path(__file__).parent.parent.parent
ACCESS = frozenset({"Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding"})
HTML = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def cluster(crd: Path, kube_namespace: str) -> Cluster:
    return Cluster(crd, kube_namespace)


@pytest.fixture
async def http(
    api_server: ControlPlane, crd: Path, amqp_url: str, storage: str, kube_namespace: str, tmp_path: Path
) -> AsyncIterator[httpx.AsyncClient]:
    """The dashboard's pages; operator and worker serve the namespace."""
    apply_file(crd, ROOT / "manifests" / "install.yaml", ACCESS)
    common = {
        "JOBLEASE_AMQP_URL": amqp_url,
        "JOBLEASE_STORAGE_CONNECTION_STRING": storage,
        "JOBLEASE_DEFER_SECONDS": "1",
    }
    special = {
        "operator": {
            "JOBLEASE_OPERATOR_NAMESPACES": f'["{kube_namespace}"]',
            "JOBLEASE_OPERATOR_DEFAULT_GROUP": kube_namespace,
        },
        "worker": {
            "JOBLEASE_WORKER_NAME": "worker-1", "JOBLEASE_HANDLERS": "support.handlers", "JOBLEASE_LEASE_SECONDS": "15",
            "JOBLEASE_WORKER_REPORT_SECONDS": "0.5",
        },
        "dashboard": {},
    }  # fmt: skip
    async with AsyncExitStack() as stack:
        for name in ("dashboard", "operator", "worker"):
            kubeconfig = crd if name == "dashboard" else tmp_path / f"{name}.kubeconfig"
            if name != "dashboard":  # which acts as itself here, since it asks nobody who they are
                api_server.service_account_kubeconfig("joblease-system", f"joblease-{name}", kubeconfig)
            variables = {**common, "KUBECONFIG": str(kubeconfig), **special[name]}
            running = await stack.enter_async_context(program(f"joblease-{name}", variables, tmp_path / f"{name}.log"))
            if name == "dashboard":
                port = running.port
        yield await stack.enter_async_context(
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=15, headers=HTML)
        )


async def page_says(http: httpx.AsyncClient, path: str, said: Callable[[str], bool], timeout: float = 15) -> str:
    """Look at a page until it says so."""
    text = ""
    try:
        async with asyncio.timeout(timeout):
            while not said(text):
                text = (await http.get(path)).text
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"{path}: {text}") from None
    return text


async def test_a_job_is_submitted_by_its_handlers_form(http: httpx.AsyncClient, jobs: Jobs, cluster: Cluster) -> None:
    await page_says(http, "/submit", lambda text: "handler=demo" in text)
    form = (await http.get("/submit?handler=demo")).text
    assert 'name="json.steps" step="1" value="" placeholder="10"' in form
    assert "Take `steps` steps" in form
    fields = {
        "handler": "demo",
        "namespace": cluster.namespace,
        "json.steps": "2",
        "json.seconds": "0.1",
        "name": "by-form",
    }
    answer = await http.post("/submit", data=fields)
    assert answer.status_code == 303
    job_id = answer.headers["location"].rpartition("/")[2]
    state, events = await jobs.outcome(job_id)
    assert (state, events[-1].data) == (State.COMPLETED, {"result": {"steps": 2}})
    assert cluster.get("by-form")["spec"]["parameters"] == {"steps": 2, "seconds": 0.1}
    page = (await http.get(f"/jobs/{job_id}")).text
    assert "Completed" in page
    assert 'class="span good"' in page
    assert f"/jobs/{job_id}/retry" in page
    assert f"/jobs/{job_id}/cancel" not in page
    for field, wrong in (("json.steps", "{"), ("namespace", "nowhere"), ("priority", "12"), ("name", "No Name")):
        refused = await http.post("/submit", data={**fields, "name": "wrong", field: wrong})
        assert 400 <= refused.status_code < 500, refused.text


async def test_a_job_is_suspended_resumed_cancelled_and_retried(
    http: httpx.AsyncClient, jobs: Jobs, cluster: Cluster
) -> None:
    first = cluster.create("demo", steps_name := "holder", parameters={"steps": 600, "seconds": 0.1})
    await page_says(http, "/", lambda text: f"Progress of {steps_name}" in text)
    held = cluster.create("demo", "waits", parameters={"steps": 1, "seconds": 0.1})
    ids = {name: cluster.get(name)["metadata"]["uid"] for name in (first, held)}
    overview = await page_says(http, "/", lambda text: f"taken by {steps_name} on worker-1" in text)
    assert "1 on 1 worker" in overview

    assert "held back until somebody resumes it" in (await http.get(f"/jobs/{ids[held]}/suspend")).text
    assert (await http.post(f"/jobs/{ids[held]}/suspend")).status_code == 303
    assert cluster.get(held)["spec"]["suspend"] is True
    assert (await http.post(f"/jobs/{ids[held]}/resume")).status_code == 303
    assert cluster.get(held)["spec"]["suspend"] is False

    locks = await page_says(http, "/locks", lambda text: "worker-1" in text)
    assert f"/jobs/{ids[first]}" in locks
    workers = await page_says(http, "/workers", lambda text: steps_name in text)
    assert "serving</span>" in workers
    assert "joblease.jobs.default" in (await http.get("/queues")).text

    assert (await http.post(f"/jobs/{ids[first]}/cancel")).status_code == 303
    assert (await jobs.outcome(ids[first]))[0] is State.CANCELLED
    assert (await jobs.outcome(ids[held]))[0] is State.COMPLETED
    late = await http.post(f"/jobs/{ids[first]}/cancel")
    assert (late.status_code, "Too late" in late.text) == (409, True)

    again = await http.post(f"/jobs/{ids[held]}/retry")
    new_id = again.headers["location"].rpartition("/")[2]
    assert (await jobs.outcome(new_id))[0] is State.COMPLETED
    page = await page_says(http, f"/jobs/{ids[held]}", lambda text: "What people did" in text)
    assert "<strong>suspend</strong> by anonymous" in page
    rows = [row async for row in jobs.storage.table(ACTIONS_TABLE).query_entities("action eq 'retry'")]
    assert [(row["user"], row["outcome"]) for row in rows] == [("anonymous", "done")]
    stats = (await http.get("/api/stats?window=6h")).json()
    assert stats["ended"] >= 3
    assert len(stats["points"]) == 72
    assert sum(point["cancelled"] for point in stats["points"]) == 1


async def test_dead_letters_are_looked_at_and_replayed(http: httpx.AsyncClient, jobs: Jobs) -> None:
    lost = await jobs.submit("noop", publish=False, name="comes-back")
    for body, message_id in ((lost.encode(), "job"), (b"no job at all", "junk")):
        await jobs.broker.publish(
            "", DEAD, body, message_id=message_id, headers={REASON_HEADER: f"because of {message_id}"}
        )
    for _ in range(30):  # looking must not use them up: RabbitMQ counts deliveries
        page = (await http.get("/queues")).text
    assert "because of job" in page
    assert "because of junk" in page
    assert "comes-back" in page
    assert "Replay the only readable message?" in (await http.get("/queues/replay")).text
    assert (await http.post("/queues/replay", data={"message": "nothing"})).status_code == 404
    assert (await http.post("/queues/replay", data={})).status_code == 303
    assert (await jobs.outcome(lost.job_id))[0] is State.COMPLETED
    page = await page_says(http, "/queues", lambda text: "because of job" not in text and "because of junk" in text)


def test_a_report_of_a_newer_worker_can_be_read() -> None:
    report = {
        "worker": "w", "queue": "q", "concurrency": 1, "leaseSeconds": 60, "periodSeconds": 10, "unknown": 1,
        "startedAt": "2026-11-24T00:00:00Z", "timestamp": "2026-11-24T00:00:00Z",
    }  # fmt: skip
    assert WorkerReport.model_validate(report).queue == "q"
