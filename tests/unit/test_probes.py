"""What the probes say, to somebody who asks over HTTP."""

import asyncio
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from joblease.probes import Probes
from joblease.settings import ProgramSettings

STUCK_SECONDS = 1.5


@pytest.fixture
def elsewhere() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def ask(probes: Probes, path: str, host: str = "127.0.0.1") -> tuple[int, str]:
    answer = httpx.get(f"http://{host}:{probes.port}{path}", timeout=5)
    return answer.status_code, answer.text


async def test_ready_means_that_there_is_no_problem(elsewhere: ThreadPoolExecutor) -> None:
    problems = ["no broker"]
    probes = Probes(ProgramSettings(metrics_host="127.0.0.1", metrics_port=0), lambda: problems)
    try:
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(elsewhere, ask, probes, "/readyz") == (503, "no broker\n")
        assert await loop.run_in_executor(elsewhere, ask, probes, "/healthz") == (200, "ok\n")
        problems.clear()
        assert await loop.run_in_executor(elsewhere, ask, probes, "/readyz") == (200, "ok\n")
    finally:
        probes.close()


async def test_a_program_whose_event_loop_hangs_is_not_healthy(elsewhere: ThreadPoolExecutor) -> None:
    settings = ProgramSettings(metrics_host="127.0.0.1", metrics_port=0)
    probes = Probes(settings, list, stuck_seconds=STUCK_SECONDS)
    try:

        def watch() -> tuple[int, str]:
            while (answer := ask(probes, "/healthz"))[0] == 200:
                time.sleep(0.05)
            return answer

        answer = elsewhere.submit(watch)
        code, said = answer.result(timeout=30)  # waits on the event loop, which hangs meanwhile
        assert (code, said.startswith("the event loop has not run for ")) == (503, True)
        assert ask(probes, "/readyz")[0] == 503
        loop = asyncio.get_running_loop()
        await asyncio.sleep(2)  # it beats again
        async with asyncio.timeout(30):
            while await loop.run_in_executor(elsewhere, ask, probes, "/healthz") != (200, "ok\n"):
                await asyncio.sleep(0.05)
    finally:
        probes.close()


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
async def test_they_are_served_in_both_families_by_default(elsewhere: ThreadPoolExecutor) -> None:
    probes = Probes(ProgramSettings(metrics_port=0), list)
    try:
        loop = asyncio.get_running_loop()
        for host in ("127.0.0.1", "[::1]"):
            assert await loop.run_in_executor(elsewhere, ask, probes, "/healthz", host) == (200, "ok\n")
    finally:
        probes.close()
