"""People of two namespaces in a browser, and a dashboard below a path of its host: what each sees, and for how long."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from joblease.states import State
from joblease.storage import SESSIONS_TABLE
from joblease_local.control_plane import ControlPlane
from playwright.async_api import Browser, Page, expect
from support.accounts import account, program_kubeconfig
from support.browser import open_page, sign_in
from support.history import History
from support.jobs import Jobs
from support.pages import NAVIGATION
from support.programs import program

SEE = ("get", "list", "watch")
BASE = "/joblease"
REFUSED = ("(Forbidden)", "(Not Found)", "(Unauthorized)", "sseError", "[object Event]")


@dataclass
class Shared:
    port: int
    apples: str
    """Token of somebody who may look at the jobs of the namespace `apples`."""
    pears: str


@pytest.fixture(scope="module")
async def shared(
    api_server: ControlPlane, crd: Path, amqp_url: str, storage: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Shared]:
    folder = tmp_path_factory.mktemp("shared")
    kubeconfig = program_kubeconfig(api_server, "dashboard", folder)
    variables = {
        "JOBLEASE_AMQP_URL": amqp_url, "JOBLEASE_STORAGE_CONNECTION_STRING": storage, "KUBECONFIG": str(kubeconfig),
        "JOBLEASE_DASHBOARD_ACCESS": "kubernetes", "JOBLEASE_DASHBOARD_BASE_PATH": BASE,
    }  # fmt: skip
    people = [account(api_server, folder, namespace, "grower", SEE) for namespace in ("apples", "pears")]
    async with program("joblease-dashboard", variables, folder / "dashboard.log") as running:
        yield Shared(running.port, *people)


async def look_around(page: Page, namespace: str) -> str:
    """Go to every page of the navigation in this namespace; what they hold."""
    seen = ""
    for path in NAVIGATION:
        await page.goto(f"{BASE}{path}?namespace={namespace}", wait_until="load")
        seen += await page.content()
    return seen


async def test_each_of_two_tenants_sees_their_own_jobs_live_and_nothing_of_the_other(
    browser: Browser, shared: Shared, jobs: Jobs
) -> None:
    mine, others = History(jobs, "golden", namespace="apples"), History(jobs, "conference", namespace="pears")
    for history in (mine, others):
        await history.complete()
    async with (
        open_page(browser, shared.port, errors=REFUSED) as one,
        open_page(browser, shared.port, errors=REFUSED) as other,
    ):
        for page, token, own in ((one, shared.apples, mine), (other, shared.pears, others)):
            await sign_in(page, token, f"{BASE}/jobs?namespace={own.head.namespace}")
            await expect(page.get_by_role("link", name=own.head.name, exact=True)).to_be_visible()
            await page.locator("#live.on").wait_for()
        await History(jobs, "russet", namespace="apples").happen("Submitted", State.SUBMITTED)
        await one.get_by_role("link", name="russet", exact=True).wait_for()
        for page, own, foreign in (
            (one, mine, ("conference", others.job_id)),
            (other, others, ("russet", mine.job_id)),
        ):
            seen = await look_around(page, own.head.namespace)
            assert own.job_id in seen
            assert not [each for each in foreign if each in seen]
            await page.goto(f"{BASE}/jobs/{foreign[1]}")
            await expect(page.get_by_role("heading", name="No such job")).to_be_visible()


async def test_a_session_that_has_ended_asks_for_a_token_again_and_leads_back(
    browser: Browser, shared: Shared, jobs: Jobs
) -> None:
    async with open_page(browser, shared.port, errors=REFUSED) as page:
        await sign_in(page, shared.apples, f"{BASE}/jobs?namespace=apples")
        await page.locator("#live.on").wait_for()
        sessions = jobs.storage.table(SESSIONS_TABLE)
        async for row in sessions.list_entities():
            await sessions.upsert_entity({**row, "until": "2020-01-01T00:00:00.000000Z"})
        await page.locator("#live.off").wait_for(timeout=90_000)  # it is looked up every 30 s
        await page.get_by_role("link", name="Events", exact=True).click()
        await page.wait_for_url(f"**{BASE}/login?next=%2Fevents**")
        await page.get_by_label("Kubernetes token").fill(shared.apples)
        await page.get_by_role("button", name="Sign in").click()
        await page.wait_for_url(f"**{BASE}/events?namespace=apples")


async def test_signing_out_leaves_nothing_behind_that_going_back_would_show(
    browser: Browser, shared: Shared, jobs: Jobs
) -> None:
    await History(jobs, "pippin", namespace="apples").complete()
    async with open_page(browser, shared.port, errors=REFUSED) as page:
        await sign_in(page, shared.apples, f"{BASE}/jobs?namespace=apples")
        await expect(page.get_by_role("link", name="pippin", exact=True)).to_be_visible()
        await page.get_by_role("button", name="Sign out").click()
        await page.wait_for_url(f"**{BASE}/login")
        await page.go_back()
        await expect(page.get_by_label("Kubernetes token")).to_be_visible()
        assert "pippin" not in await page.content()
