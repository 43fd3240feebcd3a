"""What people do from the pages, with operator, worker and dashboard as processes on real parts."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from joblease.messages import WorkerReport
from joblease.states import State
from joblease.storage import ACTION_FEED_TABLE, ACTIONS_TABLE
from joblease.topology import DEAD, REASON_HEADER
from joblease_local.control_plane import ControlPlane
from joblease_local.manifests import apply_file
from support.accounts import ACCESS
from support.cluster import Cluster
from support.history import History
from support.jobs import Jobs
from support.programs import program

ROOT = Path(__file__).parent.parent.parent
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

    locks = await page_says(http, "/locks", lambda text: f"/jobs/{ids[first]}" in text)
    assert "session of a worker" in locks
    assert "worker-1" in locks
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
    assert {(row["PartitionKey"], row["user"], row["outcome"]) for row in rows} == {
        (job_id, "anonymous", "done") for job_id in (ids[held], new_id)
    }
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
        page = (await http.get("/queues/letters")).text
    assert "because of job" in page
    assert "because of junk" in page
    assert "comes-back" in page
    assert "Replay the only readable message?" in (await http.get("/queues/replay")).text
    assert (await http.post("/queues/replay", data={"message": "nothing"})).status_code == 404
    assert (await http.post("/queues/replay", data={})).status_code == 303
    assert (await jobs.outcome(lost.job_id))[0] is State.COMPLETED
    page = await page_says(
        http, "/queues/letters", lambda text: "because of job" not in text and "because of junk" in text
    )


def field(page: str, name: str) -> str:
    """What a form's hidden field holds."""
    found = re.search(f'name="{name}" value="([^"]+)"', page)
    assert found, page
    return found[1]


async def test_a_double_click_makes_one_job(http: httpx.AsyncClient, jobs: Jobs, cluster: Cluster) -> None:
    await page_says(http, "/submit", lambda text: "handler=demo" in text)
    form = (await http.get(f"/submit?handler=demo&namespace={cluster.namespace}")).text
    fields = {"handler": "demo", "namespace": cluster.namespace, "json.steps": "1", "json.seconds": "0.1"}
    fields["key"] = field(form, "key")
    clicks = await asyncio.gather(*(http.post("/submit", data=fields) for _ in range(3)))
    named = await asyncio.gather(*(http.post("/submit", data={**fields, "name": "by-name"}) for _ in range(3)))
    for answers in (clicks, named):
        assert [answer.status_code for answer in answers] == [303] * 3
        assert len({answer.headers["location"] for answer in answers}) == 1
    changed = await http.post("/submit", data={**fields, "json.steps": "2"})  # the form was sent, and filled in again
    assert changed.headers["location"] != clicks[0].headers["location"]
    other = await http.post("/submit", data={**fields, "name": "by-name", "key": "another-form"})
    assert (other.status_code, "already exists" in other.text) == (409, True)

    job_id = clicks[0].headers["location"].rpartition("/")[2]
    assert (await jobs.outcome(job_id))[0] is State.COMPLETED
    key = field((await http.get(f"/jobs/{job_id}/retry")).text, "key")
    again = [http.post(f"/jobs/{job_id}/retry", data={"key": key}) for _ in range(3)]
    assert len({answer.headers["location"] for answer in await asyncio.gather(*again)}) == 1
    second = await http.post(
        f"/jobs/{job_id}/retry", data={"key": field((await http.get(f"/jobs/{job_id}/retry")).text, "key")}
    )
    assert second.status_code == 303
    assert len(cluster.all()) == 5


async def test_what_people_did_is_on_a_page_of_its_own(http: httpx.AsyncClient, jobs: Jobs, cluster: Cluster) -> None:
    fields = {"handler": "demo", "namespace": cluster.namespace, "name": "recorded", "json.steps": "600"}
    job_id = (await http.post("/submit", data=fields)).headers["location"].rpartition("/")[2]
    assert (await http.post(f"/jobs/{job_id}/cancel")).status_code == 303
    assert (await jobs.outcome(job_id))[0] is State.CANCELLED
    new_id = (await http.post(f"/jobs/{job_id}/retry")).headers["location"].rpartition("/")[2]
    await http.post(f"/jobs/{new_id}/cancel")
    page = (await http.get(f"/actions?namespace={cluster.namespace}")).text
    assert re.findall("<td>(submit|cancel|retry)</td>", page) == ["cancel", "retry", "cancel", "submit"]
    assert page.count(f"/jobs/{job_id}") == 2
    assert "Nobody has done anything that matches" in (await http.get("/actions?namespace=elsewhere")).text
    first = (await http.get(f"/jobs/{job_id}")).text
    assert [f"<strong>{action}</strong> by" in first for action in ("submit", "cancel", "retry")] == [True] * 3
    assert "<strong>retry</strong> by" in (await http.get(f"/jobs/{new_id}")).text


async def test_names_are_checked_before_they_go_anywhere(http: httpx.AsyncClient, jobs: Jobs) -> None:
    for fields in ({"name": "a/b"}, {"name": "x" * 254}, {"namespace": "a/b"}, {"namespace": "x" * 250_000}):
        answer = await http.post("/submit", data={"handler": "demo", **fields}, headers={"Accept": "application/json"})
        assert (answer.status_code, answer.json()["title"][:3]) == (400, "Bad"), fields
        assert len(answer.text) < 1_000
    unknown = await http.post("/submit", data={"handler": "demo", "steps": "3"}, headers={"Accept": "application/json"})
    assert "parameter.steps (text) or json.steps" in unknown.json()["detail"]
    late = {"handler": "demo", "startAfter": "tomorrow"}
    refused = await http.post("/submit", data=late, headers={"Accept": "application/json"})
    expected = "startAfter: a time with its zone is expected, as 2026-11-24T12:00:00Z, not 'tomorrow'"
    assert refused.json()["detail"] == expected
    async for row in jobs.storage.table(ACTION_FEED_TABLE).list_entities():
        assert row["target"] not in ("a/b", "demo")


async def test_a_job_whose_parameters_the_trail_lacks_is_not_submitted_without_them(
    http: httpx.AsyncClient, jobs: Jobs, cluster: Cluster
) -> None:
    history = History(jobs, "too-large", namespace=cluster.namespace)
    await history.happen("Submitted", State.SUBMITTED, data={"handler": "demo"})
    await history.happen("Failed", State.FAILED)
    page = (await http.get(f"/jobs/{history.job_id}")).text
    assert f"/jobs/{history.job_id}/retry" not in page
    assert "copy=" not in page
    for answer in (
        await http.post(f"/jobs/{history.job_id}/retry"),
        await http.get(f"/jobs/{history.job_id}/retry"),
        await http.get(f"/submit?copy={history.job_id}"),
    ):
        assert (answer.status_code, "too large for the trail" in answer.text) == (409, True)
    assert cluster.all() == []


def test_a_report_of_a_newer_worker_can_be_read() -> None:
    report = {
        "worker": "w", "queue": "q", "concurrency": 1, "leaseSeconds": 60, "periodSeconds": 10, "unknown": 1,
        "startedAt": "2026-11-24T00:00:00Z", "timestamp": "2026-11-24T00:00:00Z",
    }  # fmt: skip
    assert WorkerReport.model_validate(report).queue == "q"
