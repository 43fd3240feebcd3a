"""Makes the pictures of docs/images: `make screenshots`. Not collected as a test; it runs with the tests' parts."""

from pathlib import Path

from playwright.async_api import Browser
from support.browser import open_page
from support.jobs import Jobs
from support.pages import NAVIGATION
from support.programs import program
from support.scene import play

IMAGES = Path(__file__).parents[2] / "docs" / "images"
MOST_BYTES = 200 << 10
HEIGHT = 900


async def test_make_the_pictures_of_the_documents(
    browser: Browser, jobs: Jobs, crd: Path, amqp_url: str, storage: str, tmp_path: Path
) -> None:
    variables = {
        "JOBLEASE_AMQP_URL": amqp_url, "JOBLEASE_STORAGE_CONNECTION_STRING": storage, "KUBECONFIG": str(crd),
    }  # fmt: skip
    IMAGES.mkdir(exist_ok=True)
    async with program("joblease-dashboard", variables, tmp_path / "dashboard.log") as dashboard:
        scene = await play(jobs, past=400)
        faces = {"/": "/?window=6h"}
        pictures = (
            *((name.lower(), faces.get(path, path), "light", 1280) for path, name in NAVIGATION.items()),
            ("overview-dark", faces["/"], "dark", 1280), ("job", f"/jobs/{scene.running.job_id}", "light", 1280),
            ("job-failed-dark", f"/jobs/{scene.failed.job_id}", "dark", 1280),
            ("submit", "/submit?handler=import-accounts&namespace=shop", "light", 1280),
            ("phone-dark", "/", "dark", 390),
        )  # fmt: skip
        for name, path, scheme, width in pictures:
            async with open_page(browser, dashboard.port, scheme, width, locale="en-GB") as page:
                await page.goto(path, wait_until="load")
                if path.startswith("/?"):
                    await page.locator("time-chart canvas").nth(3).wait_for()
                bottom = await page.evaluate("document.querySelector('footer').getBoundingClientRect().top")
                await page.set_viewport_size({"width": width, "height": min(HEIGHT, int(bottom))})
                target = IMAGES / f"{name}.png"
                await page.screenshot(path=target)
                assert target.stat().st_size < MOST_BYTES, name
