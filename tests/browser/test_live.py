"""Pages that change by themselves, and go on after the dashboard was away."""

from pathlib import Path

from joblease.states import State
from playwright.async_api import Browser, Route, expect
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
    )  # htmx says each of them
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
