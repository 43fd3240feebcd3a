"""Pages that change by themselves, and go on after the dashboard was away."""

import asyncio
from pathlib import Path

import httpx
from joblease.states import State
from joblease.trail import NewEvent
from playwright.async_api import Browser, Page, Route, expect
from support.browser import open_page
from support.history import History
from support.jobs import Jobs
from support.programs import Program, program


async def test_lists_and_jobs_change_without_a_reload(browser: Browser, dashboard: Program, jobs: Jobs) -> None:
    async with open_page(browser, dashboard.port) as page, open_page(browser, dashboard.port) as details:
        await page.goto("/jobs")
        await expect(page.get_by_text("No job has been submitted yet")).to_be_visible()
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
            await expect(details.get_by_role("progressbar", name="Progress")).to_have_js_property("value", progress)
        await history.happen("Completed", State.COMPLETED, progress=100, data={"result": {"n": 1}})
        await details.get_by_role("heading", name="Result").wait_for()
        await page.locator("tr", has_text="appears").get_by_text("Completed").wait_for()
        assert await page.evaluate("window.untouched") is True
        assert await page.evaluate("document.activeElement.textContent") == "appears"  # the focus stays


async def test_what_happens_while_a_page_is_on_its_way_is_not_lost(
    browser: Browser, dashboard: Program, jobs: Jobs
) -> None:
    """Between the moment in which a page is made and the one in which its stream begins."""
    history = History(jobs, "on-its-way")
    await history.happen("Submitted", State.SUBMITTED)
    await history.happen("Started", State.RUNNING)
    async with open_page(browser, dashboard.port) as page, open_page(browser, dashboard.port) as watch:

        async def hold(route: Route) -> None:
            await history.happen("Completed", State.COMPLETED, data={"result": {"n": 1}})
            await watch.goto(f"/jobs/{history.job_id}")
            await watch.get_by_role("heading", name="Result").wait_for()
            await route.continue_()

        await page.route("**/api/stream?*", hold)
        await page.goto(f"/jobs/{history.job_id}")
        await page.get_by_role("heading", name="Result").wait_for()


async def test_the_overview_follows_what_runs_waits_and_fails(browser: Browser, dashboard: Program, jobs: Jobs) -> None:
    async with open_page(browser, dashboard.port) as page:
        await page.goto("/")
        await page.locator("#live.on").wait_for()
        waits, runs = History(jobs, "waits"), History(jobs, "runs")
        await runs.happen("Submitted", State.SUBMITTED)
        await runs.happen("Started", State.RUNNING)
        await waits.happen("Submitted", State.SUBMITTED)
        await runs.happen("Step 1", State.RUNNING, progress=30, message="a third")
        running = page.get_by_role("region", name="Running jobs")
        await expect(running.get_by_role("row", name="runs")).to_contain_text("a third")
        reason = page.get_by_role("region", name="Waiting jobs").get_by_role("row", name="waits")
        await expect(reason).to_contain_text("next in line: group default is taken by runs on worker-1")
        await runs.happen("Failed", State.FAILED, message="ValueError: no")
        await expect(page.get_by_role("region", name="Jobs that failed lately")).to_contain_text("ValueError: no")
        await expect(running).to_have_count(0)
        await expect(page.locator("#totals")).to_contain_text("ended in the last 1h", timeout=30_000)


async def test_what_was_opened_stays_open(browser: Browser, dashboard: Program, jobs: Jobs) -> None:
    job = History(jobs, "retried")
    await job.happen("Submitted", State.SUBMITTED)
    await job.happen("Started", State.RUNNING)
    await job.happen("Retrying", State.RETRYING, data={"error": "E", "traceback": "where it broke"})
    async with open_page(browser, dashboard.port) as page:
        await page.goto(f"/jobs/{job.job_id}")
        await page.locator("#live.on").wait_for()
        history = page.get_by_role("region", name="History")
        await history.get_by_text("Traceback").click()
        await expect(history.get_by_text("where it broke")).to_be_visible()
        await job.happen("Started", State.RUNNING)
        await expect(history.get_by_text("Started")).to_have_count(2)
        await expect(history.get_by_text("where it broke")).to_be_visible()


async def sequences(page: Page) -> list[int]:
    return [
        int(each) for each in await page.locator("#history tr").evaluate_all("all => all.map(e => e.dataset.sequence)")
    ]


async def steps(jobs: Jobs, history: History, numbers: range) -> None:
    """Many at once; nobody is told of them."""
    for first in range(numbers.start, numbers.stop, 50):
        batch = [NewEvent(f"Step {n}", f"at {n}") for n in range(first, min(first + 50, numbers.stop))]
        history.head, _ = await jobs.trail.append(history.head, batch)


async def test_a_long_history_is_loaded_on_demand_and_grows(browser: Browser, dashboard: Program, jobs: Jobs) -> None:
    history = History(jobs, "long")
    await history.happen("Submitted", State.SUBMITTED)
    await history.happen("Started", State.RUNNING)
    await steps(jobs, history, range(1, 249))
    async with open_page(browser, dashboard.port) as page:
        await page.goto(f"/jobs/{history.job_id}")
        await page.locator("#live.on").wait_for()
        older = page.get_by_role("link", name="Load older")
        for count in (200, 250):
            await older.click()
            await expect(page.locator("#history tr")).to_have_count(count)
        await expect(older).to_have_count(0)
        await page.locator("#history tr").last.evaluate("row => window.last = row")
        for number in (249, 250):
            await history.happen(f"Step {number}", State.RUNNING, message=f"at {number}", progress=number // 10)
            await expect(page.locator("#history tr").first).to_contain_text(f"at {number}")
        assert await sequences(page) == list(range(252, 0, -1))
        assert await page.evaluate("window.last === document.querySelector('#history').lastElementChild")
        await expect(page.get_by_role("progressbar", name="Progress")).to_have_js_property("value", 25)
        await steps(jobs, history, range(251, 400))  # more than a page has, before it looks again
        await history.happen("Completed", State.COMPLETED)
        await expect(page.locator("#history tr")).to_have_count(100)
        assert await sequences(page) == list(range(402, 302, -1))
        await older.click()
        await expect(page.locator("#history tr")).to_have_count(200)
        assert await sequences(page) == list(range(402, 202, -1))


async def test_a_page_that_nobody_sees_gives_its_stream_back(browser: Browser, dashboard: Program, jobs: Jobs) -> None:
    async def streams(count: int) -> None:
        async with asyncio.timeout(15):
            while await asyncio.to_thread(dashboard.metric, "joblease_sse_clients") != count:
                await asyncio.sleep(0.05)

    async def turn(page: Page, hidden: str) -> None:
        await page.evaluate(
            f"Object.defineProperty(document, 'hidden', {{value: {hidden}, configurable: true}});"
            "document.dispatchEvent(new Event('visibilitychange'))"
        )

    await streams(0)
    async with open_page(browser, dashboard.port) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url) if "/api/stream" in request.url else None)
        await page.goto("/jobs")
        await page.locator("#live.on").wait_for()
        for turns in range(1, 4):
            await History(jobs, f"seen-{turns}").happen("Submitted", State.SUBMITTED)
            await page.get_by_role("link", name=f"seen-{turns}", exact=True).wait_for()
            await turn(page, "true")
            await streams(0)
            await History(jobs, f"unseen-{turns}").happen("Submitted", State.SUBMITTED)
            await turn(page, "false")
            await page.get_by_role("link", name=f"unseen-{turns}", exact=True).wait_for()
            await streams(1)
        assert len(asked) == 4
        positions = [int(httpx.URL(url).params["lastEventId"]) for url in asked]
        assert positions == sorted(set(positions))  # each goes on where the one before has ended


async def test_a_page_goes_on_after_a_restart_of_the_dashboard(
    browser: Browser, jobs: Jobs, amqp_url: str, storage: str, tmp_path: Path
) -> None:
    variables = {"JOBLEASE_AMQP_URL": amqp_url, "JOBLEASE_STORAGE_CONNECTION_STRING": storage, "KUBECONFIG": "/none"}
    away = (
        "ERR_CONNECTION_REFUSED",
        "ERR_INCOMPLETE_CHUNKED_ENCODING",
        "ERR_CONNECTION_RESET",
        "sseError",
        "[object Event]",
        "htmx:afterRequest",
        "htmx:sendError",
    )  # htmx says each of them: the page may ask for fresh rows just then
    async with program("joblease-dashboard", variables, tmp_path / "one.log") as running:
        port = running.port
        opened = open_page(browser, port, errors=away)
        page = await opened.__aenter__()
        await page.goto("/jobs")
        await page.locator("#live.on").wait_for()
        assert await running.stop() == 0
        await page.get_by_text("reconnecting").wait_for()
    await History(jobs, "meanwhile").complete()
    async with program("joblease-dashboard", variables, tmp_path / "two.log", port=port):
        await page.get_by_role("link", name="meanwhile").wait_for()
        await page.locator("#live.on").wait_for()
        await opened.__aexit__(None, None, None)
