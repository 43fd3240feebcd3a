"""Every page of a busy installation."""

import pytest
from playwright.async_api import Browser, expect
from support.browser import LOOKS, look, open_page
from support.jobs import Jobs
from support.pages import NAVIGATION, addresses
from support.programs import Program
from support.scene import Scene, play

SAID = {
    "/": "accounts-2026-11", "/jobs": "accounts-2026-10", "/events": "loaded 1000 of 7141 rows", "/workers": "worker-2",
    "/locks": "worker-1", "/queues": "look at them",
}  # fmt: skip
"""What pages say of the scene; a page that is not named here says its name."""


@pytest.fixture(scope="module")
async def scene(jobs: Jobs, dashboard: Program, browser: Browser) -> Scene:
    played = await play(jobs)
    async with open_page(browser, dashboard.port) as page:  # until all of it has arrived
        await page.goto("/jobs?name=invoices-2026-11-24")
        await page.get_by_text("Completed", exact=True).nth(1).wait_for()
        await page.goto("/workers")
        await page.get_by_text("worker-3", exact=True).first.wait_for()
    return played


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
async def test_every_page_is_fit_to_be_seen(
    browser: Browser, dashboard: Program, scene: Scene, scheme: str, width: int
) -> None:
    jobs = {name: job.job_id for name, job in vars(scene).items() if name != "held"}
    faces = ("/?window=6h", "/jobs?state=Failed", f"/submit?copy={scene.failed.job_id}")
    paths = {path: path for path in (*addresses(scene.running.job_id), *faces)}
    paths |= {f"/jobs/{job_id}": f"job-{name}" for name, job_id in jobs.items()}
    async with open_page(browser, dashboard.port, scheme, width, errors=("404",)) as page:
        for path, name in paths.items():
            await look(page, path, f"full-{scheme}-{width}-{name}")


async def test_times_are_the_viewers_with_utc_on_hover(browser: Browser, dashboard: Program, scene: Scene) -> None:
    submitted = scene.failed.events[0].timestamp
    async with open_page(browser, dashboard.port, timezone_id="America/Chicago", locale="en-GB") as page:
        await page.goto(f"/jobs/{scene.failed.job_id}")
        time = page.locator(".facts time").first
        shown = await page.evaluate(
            "text => new Date(text).toLocaleTimeString('en-GB', {timeZone: 'America/Chicago'})", submitted.isoformat()
        )
        await expect(time).to_contain_text(shown)
        assert await time.get_attribute("title") == f"{submitted:%Y-%m-%d %H:%M:%S} UTC"


async def test_a_jobs_picture_says_in_words_what_it_shows(browser: Browser, dashboard: Program, scene: Scene) -> None:
    async with open_page(browser, dashboard.port) as page:
        await page.goto(f"/jobs/{scene.running.job_id}")
        lanes = page.locator(".lanes li")
        for number, said in enumerate(("failed after 50 s", "interrupted after 52 s", "running for")):
            await expect(lanes.nth(number)).to_contain_text(f"Attempt {number + 1}")
            await expect(lanes.nth(number)).to_contain_text(said)
        fills = await page.locator(".span:not(.wait)").evaluate_all("all => all.map(e => getComputedStyle(e).fill)")
        assert len(set(fills)) == 3
        assert sum("url(" in fill for fill in fills) == 2  # hatched and dotted: not by hue alone
        assert await lanes.nth(2).locator(".step").count() == 4
        await expect(page.locator(".facts")).to_contain_text("held by worker-1 until")
        await expect(page.get_by_role("complementary").get_by_role("link", name="accounts-2026-12")).to_be_visible()
        await page.get_by_role("complementary").get_by_role("link", name="accounts", exact=True).click()
        await expect(page.locator("#list a.job").first).to_have_text("accounts-2026-12")


async def test_charts_show_the_window_that_was_chosen(browser: Browser, dashboard: Program, scene: Scene) -> None:
    async with open_page(browser, dashboard.port) as page:
        await page.goto("/")
        await page.get_by_role("link", name="24h").click()
        await page.wait_for_url("**/?window=24h")
        await expect(page.locator("#totals")).to_contain_text("62 jobs ended in the last 24h")
        await expect(page.locator("time-chart canvas")).to_have_count(4)
        jobs = page.locator("time-chart").first
        await expect(jobs).to_contain_text("in all")
        await jobs.locator(".u-over").hover()
        await expect(jobs).to_contain_text("/min")
        await page.evaluate(
            'document.querySelector(\'time-chart\').dataset.chart = `{"unit": "/min", "about": "now",'
            '"start": 0, "step": 60, "lines": [{"name": "changed", "look": "good", "values": [1, 2],'
            '"whole": "3"}]}`'
        )
        await expect(jobs).to_contain_text("changed 3")  # what the server says next is drawn
        await page.get_by_text("The same as a table").click()
        await expect(page.get_by_role("region", name="Numbers").get_by_role("row").nth(1)).to_be_visible()


async def test_everything_can_be_done_by_keyboard(browser: Browser, dashboard: Program, scene: Scene) -> None:
    async with open_page(browser, dashboard.port) as page:
        await page.goto("/")
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.locator("main")).to_be_focused()
        await page.goto("/jobs")
        await page.get_by_label("Name or job id").focus()
        await page.keyboard.type("accounts-2026-1")
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/jobs?name=accounts-2026-1")
        link = page.get_by_role("link", name="accounts-2026-12")
        while not await link.evaluate("each => each === document.activeElement"):
            await page.keyboard.press("Tab")
        assert await link.evaluate("each => getComputedStyle(each).outlineStyle") == "solid"
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"**/jobs/{scene.waiting.job_id}")
        await page.goto("/jobs")
        await page.get_by_label("Name or job id").fill(scene.failed.job_id)
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"**/jobs/{scene.failed.job_id}")


async def test_without_scripts_pages_are_complete(browser: Browser, dashboard: Program, scene: Scene) -> None:
    async with open_page(browser, dashboard.port, java_script_enabled=False) as page:
        job = {f"/jobs/{scene.failed.job_id}": 'File "/handlers/accounts/load.py", line 48'}
        for path, said in (NAVIGATION | SAID | job).items():
            await page.goto(path)
            await expect(page.locator("main")).to_contain_text(said)
        await page.goto("/?window=6h")
        await page.get_by_text("The same as a table").click()
        await expect(page.get_by_role("region", name="Numbers").get_by_role("row").nth(1)).to_be_visible()
