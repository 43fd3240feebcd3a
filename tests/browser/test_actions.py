"""Everything that people do from the pages, done in a browser by somebody who has signed in with a Kubernetes token.

API server, RBAC, operator, worker and dashboard are the real ones.
"""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from joblease.states import State
from joblease.storage import ACTION_FEED_TABLE
from joblease.topology import DEAD, REASON_HEADER
from joblease_local.control_plane import ControlPlane
from joblease_local.manifests import apply, apply_file
from joblease_local.settings import ROOT
from playwright.async_api import Browser, Page, expect
from support.accounts import ACCESS, account
from support.browser import check, open_page, sign_in
from support.cluster import Cluster
from support.jobs import Jobs
from support.programs import program

NAMESPACE = "actions"


@dataclass
class Installation:
    port: int
    cluster: Cluster
    operator: str
    """Token of somebody who may do everything with jobs."""
    reader: str
    """Token of somebody who may look at the jobs of one namespace."""


@pytest.fixture(scope="module")
async def installation(
    api_server: ControlPlane, crd: Path, amqp_url: str, storage: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Installation]:
    folder = tmp_path_factory.mktemp("installation")
    apply_file(crd, ROOT / "manifests" / "install.yaml", ACCESS)
    apply(crd, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    common = {
        "JOBLEASE_AMQP_URL": amqp_url, "JOBLEASE_STORAGE_CONNECTION_STRING": storage, "JOBLEASE_DEFER_SECONDS": "1",
    }  # fmt: skip
    special = {
        "dashboard": {"JOBLEASE_DASHBOARD_ACCESS": "kubernetes"},
        "operator": {"JOBLEASE_OPERATOR_NAMESPACES": json.dumps([NAMESPACE])},
        "worker": {
            "JOBLEASE_WORKER_NAME": "worker-1", "JOBLEASE_HANDLERS": "support.handlers", "JOBLEASE_LEASE_SECONDS": "15",
            "JOBLEASE_WORKER_REPORT_SECONDS": "0.5",
        },
    }  # fmt: skip
    async with AsyncExitStack() as stack:
        ports = {}
        for name, variables in special.items():
            kubeconfig = folder / f"{name}.kubeconfig"
            api_server.service_account_kubeconfig("joblease-system", f"joblease-{name}", kubeconfig)
            environment = {**common, "KUBECONFIG": str(kubeconfig), **variables}
            running = program(f"joblease-{name}", environment, folder / f"{name}.log")
            ports[name] = (await stack.enter_async_context(running)).port
        everything = ["get", "list", "watch", "create", "patch"]
        yield Installation(
            ports["dashboard"],
            Cluster(crd, NAMESPACE),
            account(api_server, folder, NAMESPACE, "alice", everything, everywhere=True),
            account(api_server, folder, NAMESPACE, "bob", ["get", "list", "watch"]),
        )


@pytest.fixture
async def page(browser: Browser, installation: Installation) -> AsyncIterator[Page]:
    """A page of somebody who has signed in and may do everything."""
    async with open_page(browser, installation.port, errors=("(Bad Request)", "(Unprocessable Entity)")) as opened:
        await sign_in(opened, installation.operator)
        await expect(opened.get_by_role("heading", name="Overview")).to_be_visible()
        yield opened


async def do(page: Page, action: str) -> None:
    """Press a job's button, and say yes."""
    await page.get_by_role("link", name=action, exact=True).click()
    await check(page, f"ask-{action.lower()}")
    await page.get_by_role("button", name=f"Yes, {action.lower()}").click()
    await page.wait_for_url("**/jobs/*")


async def recorded(jobs: Jobs, action: str) -> set[tuple[str, str]]:
    rows = jobs.storage.table(ACTION_FEED_TABLE).query_entities("action eq @action", parameters={"action": action})
    return {(row["user"], row["outcome"]) async for row in rows}


ALICE = f"system:serviceaccount:{NAMESPACE}:alice"


async def test_somebody_signs_in_to_where_he_wanted_and_out_again(browser: Browser, installation: Installation) -> None:
    async with open_page(browser, installation.port, errors=("401", "404")) as page:
        await sign_in(page, "not a token", "/jobs?state=Failed")
        await expect(page.get_by_role("alert")).to_have_text("The API server does not accept this token.")
        await check(page, "sign-in-refused")
        await page.get_by_label("Kubernetes token").fill(installation.operator)
        await page.get_by_role("button", name="Sign in").click()
        await page.wait_for_url("**/jobs?state=Failed")
        await expect(page.get_by_text("alice")).to_be_visible()
        await page.get_by_role("button", name="Sign out").click()
        await page.wait_for_url("**/login")
        await page.goto("/workers")
        await page.wait_for_url("**/login?next=%2Fworkers")


async def test_somebody_who_may_only_look_is_offered_nothing_else(
    browser: Browser, installation: Installation, jobs: Jobs
) -> None:
    name = installation.cluster.create("noop", name="looked-at")
    done = await installation.cluster.reaches(name, "Completed")
    async with open_page(browser, installation.port, errors=("403",)) as page:
        await sign_in(page, installation.reader)
        await expect(page.get_by_role("heading", name="Not allowed")).to_be_visible()
        await check(page, "not-allowed")
        await page.get_by_label("Namespace").fill(NAMESPACE)
        await page.get_by_role("button", name="Show").click()
        await expect(page.get_by_text("which you may not list")).to_be_visible()
        await page.get_by_role("link", name="Jobs", exact=True).click()  # it stays in the namespace
        await page.get_by_role("link", name=name).click()
        await expect(page.get_by_text("Completed").first).to_be_visible()
        await expect(page.get_by_role("group", name="Actions")).to_have_count(0)
        await page.goto(f"/jobs/{done['metadata']['uid']}/retry")
        await expect(page.get_by_role("heading", name="Not allowed")).to_be_visible()


async def test_a_job_is_submitted_by_a_form_and_followed(page: Page, installation: Installation, jobs: Jobs) -> None:
    await page.get_by_role("link", name="Submit job").click()
    await check(page, "submit-choose")
    await page.get_by_role("link", name="demo").click()
    await page.get_by_label("steps").fill("3")
    await page.get_by_label("seconds", exact=False).first.fill("0.2")
    await page.get_by_label("Namespace").fill(NAMESPACE)
    await page.get_by_label("Name made up").fill("Not A Name")
    await page.get_by_role("button", name="Submit").click()
    await expect(page.get_by_role("alert")).to_contain_text("a job cannot be called 'Not A Name'")
    assert await page.get_by_label("steps").input_value() == "3"  # what was typed is still there
    await check(page, "submit-wrong")
    await page.get_by_label("Name made up").fill("by-form")
    await page.get_by_role("button", name="Submit").click()
    await page.wait_for_url("**/jobs/*")
    await expect(page.get_by_role("heading", name="by-form")).to_be_visible()
    await expect(page.get_by_role("heading", name="Result")).to_be_visible(timeout=30_000)  # without a reload
    assert installation.cluster.get("by-form")["spec"]["parameters"] == {"steps": 3, "seconds": 0.2}
    assert await recorded(jobs, "submit") >= {(ALICE, "done")}

    await page.get_by_role("link", name="Submit a copy").click()
    assert await page.get_by_label("steps").input_value() == "3"
    await page.get_by_label("steps").fill("1")
    await page.get_by_role("button", name="Submit").click()
    await page.wait_for_url("**/jobs/*")
    await expect(page.get_by_role("heading", name="Result")).to_be_visible(timeout=30_000)
    await expect(page.locator("pre").first).to_contain_text('"steps": 1')


async def test_a_waiting_job_is_suspended_resumed_and_cancelled(
    page: Page, installation: Installation, jobs: Jobs
) -> None:
    cluster = installation.cluster
    holder = cluster.create("demo", name="holder", parameters={"steps": 6000, "seconds": 0.1})
    running = await cluster.reaches(holder, "Running")
    waiting = cluster.create("noop", name="waiting")
    await cluster.reaches(waiting, "WaitingForGroup")
    await page.goto("/")
    row = page.get_by_role("row", name="waiting")
    await expect(row).to_contain_text("next in line: group default is taken by holder on worker-1")
    await row.get_by_role("link").click()
    await expect(page.get_by_role("link", name="Resume", exact=True)).to_have_count(0)

    await do(page, "Suspend")
    await expect(page.locator(".why")).to_contain_text("it is suspended, and waits until somebody resumes it")
    await expect(page.get_by_role("link", name="Suspend", exact=True)).to_have_count(0)
    await do(page, "Resume")
    assert cluster.get(waiting)["spec"]["suspend"] is False
    await expect(page.get_by_text("suspend by")).to_be_visible()

    await page.goto(f"/jobs/{running['metadata']['uid']}")
    await expect(page.locator(".facts")).to_contain_text("held by worker-1 until")
    await do(page, "Cancel")
    await expect(page.get_by_text("Cancelled", exact=True).first).to_be_visible(timeout=30_000)
    assert (await jobs.outcome(running["metadata"]["uid"]))[0] is State.CANCELLED
    await cluster.reaches(waiting, "Completed")
    for action in ("suspend", "resume", "cancel"):
        assert (ALICE, "done") in await recorded(jobs, action)


async def test_an_ended_job_is_retried(page: Page, installation: Installation, jobs: Jobs) -> None:
    name = installation.cluster.create("noop", name="again", parameters={"a": 1})
    first = await installation.cluster.reaches(name, "Completed")
    await page.goto(f"/jobs/{first['metadata']['uid']}")
    await do(page, "Retry")
    await expect(page.get_by_role("heading", name="again-retry-")).to_be_visible()
    await expect(page.locator(".state .badge", has_text="Completed")).to_be_visible(timeout=30_000)
    await expect(page.locator("pre").first).to_contain_text('"a": 1')
    assert (ALICE, "done") in await recorded(jobs, "retry")


async def test_dead_letters_are_read_and_replayed(page: Page, installation: Installation, jobs: Jobs) -> None:
    lost = [await jobs.submit("noop", publish=False, name=f"lost-{number}") for number in range(3)]
    for message in lost:
        await jobs.broker.publish(
            "", DEAD, message.encode(), message_id=message.job_id, headers={REASON_HEADER: f"why {message.name}"}
        )
    await jobs.broker.publish("", DEAD, b"no job at all", message_id="junk", headers={REASON_HEADER: "unreadable"})
    await page.goto("/queues")
    await page.get_by_role("link", name="look at them").click()
    letter = page.get_by_role("article").filter(has_text="why lost-1")
    await letter.get_by_text("Message").click()
    await expect(letter.locator("pre")).to_contain_text('"handler": "noop"')
    await letter.get_by_role("link", name="Replay").click()
    await expect(page.get_by_role("listitem")).to_have_count(1)
    await check(page, "ask-replay-one")
    await page.get_by_role("button", name="Yes, replay").click()
    await page.wait_for_url("**/queues/letters")
    await expect(page.get_by_text("why lost-1")).to_have_count(0)
    assert (await jobs.outcome(lost[1].job_id))[0] is State.COMPLETED

    await page.get_by_role("link", name="Replay all").click()
    await expect(page.get_by_role("heading", name="Replay all 2 readable messages?")).to_be_visible()
    await page.get_by_role("button", name="Yes, replay").click()
    await page.wait_for_url("**/queues/letters")
    for message in lost:
        assert (await jobs.outcome(message.job_id))[0] is State.COMPLETED
    await expect(page.get_by_role("article")).to_have_count(1)
    await expect(page.get_by_role("article")).to_contain_text("unreadable")
    assert await recorded(jobs, "replay") == {(ALICE, "done")}
