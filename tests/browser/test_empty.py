"""Every page of an installation in which nothing has happened yet."""

import pytest
from playwright.async_api import Browser
from support.browser import look, open_page
from support.pages import addresses
from support.programs import Program


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
async def test_an_empty_page_says_so(browser: Browser, dashboard: Program, scheme: str, width: int) -> None:
    async with open_page(browser, dashboard.port, scheme, width, errors=("404 (Not Found)",)) as page:
        for path in (*addresses("nobody"), "/jobs?state=Failed"):
            await look(page, path, f"empty-{scheme}-{width}-{path}")
        await page.goto("/")
        for said in ("No job ended", "Nothing runs at the moment", "Nothing waits", "Nothing failed lately"):
            await page.get_by_text(said).first.wait_for()
