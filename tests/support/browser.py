"""Pages in a real browser, held to what must be true of each of them."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page

AXE = Path(__file__).parents[2] / "dashboard" / "node_modules" / "axe-core" / "axe.min.js"
# Without preload: axe would copy the style sheets of shadows into style elements, which the content policy forbids.
RULES = """axe.run({preload: false, runOnly: [
  'wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']})"""
OUT_OF_SIGHT = """[...document.querySelectorAll('header nav a')]
  .filter(each => each.getBoundingClientRect().right > innerWidth).map(each => each.textContent.trim())"""
OVERLAPPING = """[...document.querySelectorAll('.axis text')].map(each => each.getBoundingClientRect())
  .filter(each => each.width).filter((each, at, all) => at && each.left < all[at - 1].right).length"""
SCREENSHOTS = os.environ.get("JOBLEASE_SCREENSHOTS")
"""A folder for screenshots of every page in every look."""
LOOKS = [("light", 1280), ("dark", 1280), ("light", 390), ("dark", 390)]
"""Colour scheme, and width of the window."""


@asynccontextmanager
async def open_page(
    browser: Browser, port: int, scheme: str = "light", width: int = 1280, errors: tuple[str, ...] = (), **options: Any
) -> AsyncIterator[Page]:
    """A page whose console must stay silent: no script error, nothing that the content policy forbids.

    `errors` are words of what may be said all the same, such as the status of an answer that is meant to be one.
    """
    context: Any = await browser.new_context(
        base_url=f"http://127.0.0.1:{port}",
        color_scheme=scheme,  # type: ignore[arg-type]
        viewport={"width": width, "height": 900},
        **options,
    )
    page: Page = await context.new_page()
    page.set_default_timeout(15_000)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    try:
        yield page
    finally:
        await context.close()
    heard = [text for text in said if not any(word in text for word in errors)]
    assert not heard, f"the console says: {heard}"


async def sign_in(page: Page, token: str, at: str = "/") -> None:
    """With a Kubernetes token, from a page that asks for it."""
    await page.goto(at)
    await page.get_by_label("Kubernetes token").fill(token)
    await page.get_by_role("button", name="Sign in").click()


async def look(page: Page, path: str, name: str = "") -> None:
    """Go to a page and check it."""
    await page.goto(path, wait_until="load")
    await check(page, name or path)


async def check(page: Page, name: str) -> None:
    """The page fits the window, and breaks no rule of accessibility."""
    if SCREENSHOTS:
        await page.wait_for_timeout(300)  # for the eye alone: charts have been drawn
        file = name.strip("/").replace("?", "-").replace("/", "-") or "overview"
        await page.screenshot(path=f"{SCREENSHOTS}/{file}.png", full_page=True)
    await page.wait_for_load_state()  # a link that was clicked leads to a document that has no content at first
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is wider than the window"
    assert await page.evaluate(OUT_OF_SIGHT) == [], f"{name}: part of the navigation is out of sight"
    assert await page.evaluate(OVERLAPPING) == 0, f"{name}: marks of a time line cover each other"
    await page.evaluate(AXE.read_text())
    found = await page.evaluate(RULES)
    broken = [f"{each['id']}: {each['nodes'][0]['html'][:200]}" for each in found["violations"]]
    assert broken == [], f"{name}: {broken}"
