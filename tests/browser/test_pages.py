"""The dashboard's pages in a real browser: Debian's Chromium, driven by Playwright."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
from joblease import topology
from joblease.broker import WORKERS
from joblease.messages import State, WorkerReport, now
from joblease.topology import DEAD, REASON_HEADER
from playwright.async_api import Browser, Page, async_playwright
from support.history import History
from support.jobs import Jobs, open_jobs
from support.programs import Program, program

AXE = Path(__file__).parents[2] / "dashboard" / "node_modules" / "axe-core" / "axe.min.js"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PAGES = ("/", "/jobs", "/events", "/workers", "/locks", "/queues", "/jobs?state=Failed", "/jobs/nobody")
Scheme = Literal["light", "dark"]
LOOKS = [(scheme, width) for scheme in ("light", "dark") for width in (1280, 390)]
SCREENSHOTS = os.environ.get("JOBLEASE_SCREENSHOTS")
"""A folder for screenshots of every page in every look."""


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    if not CHROMIUM or not AXE.is_file():
        reason = "needs Debian's package chromium, and `make assets`"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    async with async_playwright() as playwright:
        opened = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        await opened.close()


@pytest.fixture
async def jobs(amqp_url: str, storage: str) -> AsyncIterator[Jobs]:
    async with open_jobs(amqp_url, storage) as opened:
        yield opened


@pytest.fixture
async def dashboard(amqp_url: str, storage: str, tmp_path: Path) -> AsyncIterator[Program]:
    variables = {"JOBLEASE_AMQP_URL": amqp_url, "JOBLEASE_STORAGE_CONNECTION_STRING": storage, "KUBECONFIG": "/none"}
    async with program("joblease-dashboard", variables, tmp_path / "dashboard.log") as running:
        yield running


@asynccontextmanager
async def page_of(
    browser: Browser, dashboard: Program, scheme: Scheme = "light", width: int = 1280
) -> AsyncIterator[Page]:
    """A page whose console must stay silent: no script error, nothing that the content policy forbids."""
    context: Any = await browser.new_context(
        base_url=f"http://127.0.0.1:{dashboard.port}", color_scheme=scheme, viewport={"width": width, "height": 900}
    )
    page = await context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    yield page
    await context.close()
    assert [text for text in said if "404 (Not Found)" not in text] == []


async def look(page: Page, path: str, name: str) -> None:
    """Look at a page: it fits the window, and breaks no rule of accessibility."""
    await page.goto(path, wait_until="load")
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path} is wider than the window"
    if SCREENSHOTS:
        await page.wait_for_timeout(500)
        await page.screenshot(path=f"{SCREENSHOTS}/{name}.png", full_page=True)
    await page.evaluate(AXE.read_text())
    found = await page.evaluate("axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'best-practice']})")
    broken = [f"{each['id']}: {each['nodes'][0]['html'][:200]}" for each in found["violations"]]
    assert broken == [], f"{path}: {broken}"


def name_of(path: str) -> str:
    return path.strip("/").replace("?", "-").replace("/", "-") or "overview"


async def fill(jobs: Jobs) -> History:
    """Jobs in many states, a worker, and a dead letter. The one that runs."""
    for number in range(30):
        await History(jobs, f"resize-{number}", handler="resize-images").complete()
    failed = History(jobs, "import-accounts", handler="import")
    await failed.happen("Submitted", State.SUBMITTED, data={"parameters": {"path": "accounts.csv"}})
    await failed.happen("Started", State.RUNNING)
    data = {"error": "ValueError: row 7", "traceback": "Traceback …\nValueError: row 7"}
    await failed.happen("Retrying", State.RETRYING, message="ValueError: row 7", data=data)
    await failed.happen("Started", State.RUNNING)
    await failed.happen("Failed", State.FAILED, message="ValueError: row 7", data=data)
    running = History(jobs, "train-model", handler="train")
    await running.happen("Submitted", State.SUBMITTED)
    await running.happen("Started", State.RUNNING)
    await running.happen("Step 1", State.RUNNING, progress=40, message="epoch 4 of 10")
    await History(jobs, "waits-for-it", handler="train").happen("Submitted", State.SUBMITTED)
    report = WorkerReport(
        worker="worker-1", queue="default", concurrency=1, lease_seconds=60, period_seconds=3600, started_at=now(),
        timestamp=now(), release="0.1.0", jobs=[running.job_id], unacknowledged=1,
    )  # fmt: skip
    await jobs.broker.declare(topology.declare_exchanges)
    await jobs.broker.publish(WORKERS, "", report.encode(), message_id="worker-1")
    await jobs.broker.publish("", DEAD, b"no job", message_id="junk", headers={REASON_HEADER: "unreadable"})
    return running


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
async def test_every_page_is_fit_to_be_seen(
    browser: Browser, dashboard: Program, jobs: Jobs, scheme: Scheme, width: int
) -> None:
    first = not [row async for row in jobs.storage.table("JobIndex").list_entities()]
    if first:
        async with page_of(browser, dashboard, scheme, width) as page:
            for path in PAGES:
                await look(page, path, f"empty-{scheme}-{width}-{name_of(path)}")
    running = await fill(jobs)
    async with page_of(browser, dashboard, scheme, width) as page:
        await page.goto("/")
        await page.get_by_role("link", name="train-model").first.wait_for()
        for path in (*PAGES, f"/jobs/{running.job_id}"):
            name = "job" if running.job_id in path else name_of(path)
            await look(page, path, f"full-{scheme}-{width}-{name}")


async def test_lists_and_jobs_change_without_a_reload(browser: Browser, dashboard: Program, jobs: Jobs) -> None:
    async with page_of(browser, dashboard) as page, page_of(browser, dashboard) as details:
        await page.goto("/jobs")
        await page.evaluate("window.untouched = true")
        await page.locator("#live.on").wait_for()
        history = History(jobs, "appears", handler="live")
        await history.happen("Submitted", State.SUBMITTED)
        await page.get_by_role("link", name="appears").wait_for()
        await details.goto(f"/jobs/{history.job_id}")
        await details.locator("#live.on").wait_for()
        await page.get_by_role("link", name="appears").focus()
        await history.happen("Started", State.RUNNING)
        for progress in (20, 70):
            await history.happen("Step", State.RUNNING, progress=progress, message=f"at {progress}")
            await details.get_by_text(f"at {progress}").first.wait_for()
        await history.happen("Completed", State.COMPLETED, progress=100, data={"result": {"n": 1}})
        await details.get_by_role("heading", name="Result").wait_for()
        await page.locator("tr", has_text="appears").get_by_text("Completed").wait_for()
        assert await page.evaluate("window.untouched") is True
        assert await page.evaluate("document.activeElement.textContent") == "appears"  # the focus stays


async def test_a_page_goes_on_after_a_restart_of_the_dashboard(
    browser: Browser, jobs: Jobs, amqp_url: str, storage: str, tmp_path: Path
) -> None:
    variables = {"JOBLEASE_AMQP_URL": amqp_url, "JOBLEASE_STORAGE_CONNECTION_STRING": storage, "KUBECONFIG": "/none"}
    context = await browser.new_context()
    page = await context.new_page()
    async with program("joblease-dashboard", variables, tmp_path / "one.log") as running:
        port = running.port
        await page.goto(f"http://127.0.0.1:{port}/jobs")
        await page.locator("#live.on").wait_for()
        assert await running.stop() == 0
        await page.get_by_text("reconnecting").wait_for()
    await History(jobs, "meanwhile").complete()
    async with program("joblease-dashboard", variables, tmp_path / "two.log", port=port):
        await page.get_by_role("link", name="meanwhile").wait_for()
        await page.locator("#live.on").wait_for()
    await context.close()


async def test_charts_and_keyboard(browser: Browser, dashboard: Program, jobs: Jobs) -> None:
    await History(jobs, "counted").complete()
    async with page_of(browser, dashboard) as page:
        await page.goto("/")
        async with asyncio.timeout(30):
            while "ended in the last 1h" not in (await page.locator("#totals").text_content() or ""):
                await asyncio.sleep(0.2)
        assert await page.locator("#charts canvas").count() == 3
        await page.get_by_label("7d").check()
        await page.get_by_text("ended in the last 7d").wait_for()
        await page.goto("/")
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.textContent") == "Skip to the content"
