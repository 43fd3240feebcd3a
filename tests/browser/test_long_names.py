"""Long names give way to what stands beside them."""

import pytest
from joblease.states import State
from playwright.async_api import Browser, expect
from support.browser import look, open_page
from support.history import History
from support.jobs import Jobs
from support.pages import NAVIGATION
from support.programs import Program

NAME = ("a-very-long-name-of-a-job-" * 4)[:95]
HANDLER = "a-handler-whose-name-is-as-long-as-any-name-can-be-in-kubernetes"
WIDER = "all => all.filter(e => e.scrollWidth > e.clientWidth).map(e => e.ariaLabel)"
WORKER = "joblease-worker-default-with-a-long-release-name-7c9d8b6f5-x2x4z"


@pytest.fixture(scope="module")
async def long(jobs: Jobs, dashboard: Program, browser: Browser) -> History:
    for number, state in enumerate((State.FAILED, State.RUNNING, State.SUBMITTED)):
        history = History(jobs, f"{NAME[:-1]}{number}", handler=HANDLER)
        await history.happen("Submitted", State.SUBMITTED)
        if state is not State.SUBMITTED:
            await history.happen("Started", State.RUNNING, worker=WORKER)
        if state is State.FAILED:
            await history.happen("Failed", State.FAILED, message="ValueError: no")
    async with open_page(browser, dashboard.port) as page:
        await page.goto("/jobs")
        await expect(page.locator("#list a.job")).to_have_count(3)
    return history


@pytest.mark.parametrize(("scheme", "width"), [("light", 1400), ("dark", 1400), ("light", 390), ("dark", 390)])
async def test_no_column_is_pushed_out_of_sight(
    browser: Browser, dashboard: Program, long: History, scheme: str, width: int
) -> None:
    async with open_page(browser, dashboard.port, scheme, width) as page:
        for path in (*NAVIGATION, f"/jobs/{long.job_id}"):
            await look(page, path, f"long-{scheme}-{width}-{path}")
            wider = await page.locator(".scroll:has(.cards)").evaluate_all(WIDER)
            assert wider == [], path
        await page.goto("/jobs")
        await expect(page.locator("#list a.job").first).to_have_attribute("title", f"{NAME[:-1]}2")
