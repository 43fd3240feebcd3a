"""Pages of an installation with 10,000 jobs: complete, in order, and as cheap as with a hundred."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from joblease.messages import now
from joblease.states import State
from joblease.topology import EVENTS
from playwright.async_api import Browser, Page, expect
from support.browser import look, open_page
from support.history import History
from support.jobs import Jobs
from support.many import event, fill, job_id, name
from support.programs import Program, program

COUNT = 10_000
SECONDS = 12
SCREEN = 50
"""Rows of a page of the list."""


@pytest.fixture(scope="module")
async def first(jobs: Jobs) -> datetime:
    """When the first of the jobs was submitted."""
    return await fill(jobs, COUNT, SECONDS)


@pytest.fixture(scope="module")
async def dashboard(
    first: datetime, amqp_url: str, storage: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Program]:
    """Started when the jobs are there already, as after an upgrade."""
    variables = {"JOBLEASE_AMQP_URL": amqp_url, "JOBLEASE_STORAGE_CONNECTION_STRING": storage, "KUBECONFIG": "/none"}
    log: Path = tmp_path_factory.mktemp("dashboard") / "dashboard.log"
    async with program("joblease-dashboard", variables, log) as running:
        yield running


@pytest.fixture
async def page(browser: Browser, dashboard: Program) -> AsyncIterator[Page]:
    async with open_page(browser, dashboard.port) as opened:
        yield opened


async def names(page: Page) -> list[str]:
    found: list[str] = await page.locator("#list a.job").all_text_contents()
    return found


async def scroll(page: Page, rows: int) -> None:
    """Scroll until the list has so many rows, as a reader does."""
    before = await page.locator("#list a.job").count()
    while before < rows:
        await page.locator("#more").scroll_into_view_if_needed()
        await expect(page.locator("#list a.job").nth(before)).to_be_attached()
        before = await page.locator("#list a.job").count()


async def scroll_to_the_end(page: Page) -> list[str]:
    older = page.locator("#older")
    while await older.count():
        following = await older.get_attribute("href")
        await older.scroll_into_view_if_needed()
        await page.wait_for_function(
            "before => document.getElementById('older')?.getAttribute('href') !== before", arg=following
        )
    return await names(page)


async def test_pages_are_complete_and_cost_the_same_however_far_one_scrolls(page: Page, dashboard: Program) -> None:
    await page.goto("/jobs")
    before, costs = dashboard.metric("joblease_storage_requests_total"), []
    for screens in range(2, 12):
        await scroll(page, screens * SCREEN)
        after = dashboard.metric("joblease_storage_requests_total")
        costs.append(after - before)
        before = after
    assert await names(page) == [name(COUNT - 1 - n) for n in range(11 * SCREEN)]
    assert max(costs) <= 2 * 2, costs  # one page more may have been loaded, as its end came into sight


async def test_a_list_that_was_scrolled_follows_the_events_without_gap_or_repeat(
    page: Page, jobs: Jobs, first: datetime
) -> None:
    await page.goto("/jobs?name=job-")
    await page.locator("#live.on").wait_for()
    await scroll(page, 3 * SCREEN)
    there = await names(page)
    number = COUNT - 99  # on the third screen
    old = page.locator(f"[data-job='{job_id(number)}']")
    await expect(old).to_contain_text("WaitingForGroup")
    started = event(number, first + timedelta(seconds=SECONDS * number), 2, "Started", State.RUNNING, now())
    await jobs.broker.publish(EVENTS, started.routing_key, started.encode(), message_id=started.event_id)
    await expect(old).to_contain_text("Running")
    for fresh in range(SCREEN + 20):  # more than the first screen holds
        await History(jobs, f"job-new-{fresh:02d}").happen("Submitted", State.SUBMITTED)
    await expect(page.get_by_role("link", name=f"job-new-{SCREEN + 19}")).to_be_attached()
    expected = [f"job-new-{fresh:02d}" for fresh in reversed(range(SCREEN + 20))] + there
    await page.wait_for_function("n => document.querySelectorAll('#list a.job').length >= n", arg=len(expected))
    assert await names(page) == expected


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("name=job-0123", lambda n: 1230 <= n < 1240),
        ("state=Failed&namespace=team-2", lambda n: n % 50 == 0 and n % 4 == 2),
        ("handler=handler-3&group=group-2&name=job-02", lambda n: n % 10 == 3 and n % 7 == 2 and 2000 <= n < 3000),
        ("name=nothing", lambda _: False),
    ],
)
async def test_a_search_finds_all_that_match_and_nothing_else(page: Page, query: str, wanted: object) -> None:
    await page.goto(f"/jobs?{query}")
    assert callable(wanted)
    assert await scroll_to_the_end(page) == [name(n) for n in reversed(range(COUNT)) if wanted(n)]


async def test_a_search_by_time_is_filled_in_here_and_shared_in_utc(
    browser: Browser, dashboard: Program, first: datetime
) -> None:
    since = (first + timedelta(hours=5)).replace(second=0, microsecond=0)
    async with open_page(browser, dashboard.port, timezone_id="Asia/Kolkata") as page:
        await page.goto("/jobs")
        local = (since + timedelta(hours=5, minutes=30)).strftime("%Y-%m-%dT%H:%M")
        await page.get_by_label("Submitted from").fill(local)
        await page.get_by_label("Submitted to").fill(
            (since + timedelta(hours=5, minutes=40)).strftime("%Y-%m-%dT%H:%M")
        )
        await page.get_by_role("button", name="Search").click()
        await page.wait_for_url(f"**/jobs?from={since:%Y-%m-%dT%H}%3A{since:%M}%3A00.000Z&to=*")  # nothing empty in it
        found = await scroll_to_the_end(page)
        assert len(found) == 10 * 60 // SECONDS
        assert await page.get_by_label("Submitted from").input_value() == local


async def test_the_overview_bounds_its_lists_and_counts_everything(page: Page) -> None:
    await look(page, "/?window=7d")
    await expect(page.get_by_role("heading", name="Waiting")).to_contain_text("the oldest 100 shown")
    await expect(page.locator("#totals")).to_contain_text("9,500 jobs ended in the last 7d, 97.9 % of them")
    failed = page.get_by_role("region", name="Jobs that failed lately").get_by_role("row")
    await expect(failed).to_have_count(21)  # with the heading


async def test_without_scripts_older_jobs_are_a_link_away(browser: Browser, dashboard: Program) -> None:
    async with open_page(browser, dashboard.port, java_script_enabled=False) as page:
        await page.goto("/jobs?namespace=team-1")
        seen = await names(page)
        for _ in range(3):
            await page.get_by_role("link", name="Load older").click()
            await page.wait_for_url("**page_token=**")
            seen += await names(page)
        await expect(page.locator("time").first).to_contain_text("UTC")
    assert seen == [name(n) for n in reversed(range(COUNT)) if n % 4 == 1][: 4 * SCREEN]
