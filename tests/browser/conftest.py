"""Debian's Chromium, driven by Playwright, and a dashboard on real parts to look at."""

import os
import shutil
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, async_playwright
from support.browser import AXE
from support.jobs import Jobs, open_jobs
from support.programs import Program, program

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="module")
async def jobs(amqp_url: str, storage: str) -> AsyncIterator[Jobs]:
    async with open_jobs(amqp_url, storage) as opened:
        yield opened


@pytest.fixture(scope="module")
async def dashboard(amqp_url: str, storage: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Program]:
    """A dashboard of the module's own, which lets everybody in."""
    variables = {"JOBLEASE_AMQP_URL": amqp_url, "JOBLEASE_STORAGE_CONNECTION_STRING": storage, "KUBECONFIG": "/none"}
    log = tmp_path_factory.mktemp("dashboard") / "dashboard.log"
    async with program("joblease-dashboard", variables, log) as running:
        yield running
