"""Whatever the API server accepts ends with exactly one outcome, and the job behind it runs.

hypothesis makes up jobs (`support.any_job`), and a handler does what they say (`support.anything`). Each job has a
group of its own with a limit of 1, and an ordinary job behind it in that group, which tells whether anything was left
behind. A few rounds by default, always the same ones. With JOBLEASE_PROPERTY_SECONDS it goes on with others for so
long, from JOBLEASE_PROPERTY_SEED on (a random one when it is not set; each is printed).
"""

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from joblease_local.manifests import apply
from support.any_job import AnyJob, any_job
from support.any_world import World
from support.cluster import Cluster
from support.jobs import Jobs
from support.programs import Program

SECONDS = float(os.environ.get("JOBLEASE_PROPERTY_SECONDS", "0"))
SEED = int(os.environ.get("JOBLEASE_PROPERTY_SEED", secrets.randbelow(1_000_000) if SECONDS else 0))
ROUNDS, EXAMPLES, TOGETHER = 3, 8, 3
"""Few examples a round: hypothesis soon goes over to variations on the first ones."""
PHASES = (Phase.generate, Phase.shrink) if SECONDS else (Phase.generate,)
ROUND = settings(
    max_examples=EXAMPLES, deadline=None, database=None, phases=PHASES, suppress_health_check=list(HealthCheck)
)
Start = Callable[..., AbstractAsyncContextManager[Program]]


class Worlds:
    """The world of now; a new one after each job that was its undoing, so that the next is judged by itself."""

    def __init__(self, make: Callable[[], AbstractAsyncContextManager[World]]) -> None:
        self._make = make
        self._stack = AsyncExitStack()
        self._world: World | None = None

    async def check(self, cases: list[AnyJob]) -> None:
        if self._world is None:
            self._world = await self._stack.enter_async_context(self._make())
        try:
            await self._world.check(cases)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        self._world = None
        await self._stack.aclose()


@pytest.fixture
async def worlds(
    crd: Path, jobs: Jobs, start_operator: Start, start_worker: Start, tmp_path: Path
) -> AsyncIterator[Worlds]:
    @asynccontextmanager
    async def make() -> AsyncIterator[World]:
        name = f"any-{secrets.token_hex(3)}"
        await asyncio.to_thread(apply, crd, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        namespaces = {"JOBLEASE_OPERATOR_NAMESPACES": f'["{name}"]', "JOBLEASE_OPERATOR_DEFAULT_GROUP": name}
        handlers = {"JOBLEASE_HANDLERS": "support.anything,support.handlers", "JOBLEASE_WORKER_CONCURRENCY": "4"}
        async with (
            start_operator(**namespaces) as operator,
            start_worker(name, JOBLEASE_WORKER_QUEUE=name, **handlers) as worker,
        ):
            yield World(jobs, Cluster(crd, name), [operator, worker], tmp_path)

    all_of_them = Worlds(make)
    yield all_of_them
    await all_of_them.close()


@pytest.mark.timeout(SECONDS + 900)
async def test_any_job_has_one_outcome_and_the_next_one_runs(worlds: Worlds) -> None:
    loop = asyncio.get_running_loop()

    def happen(cases: list[AnyJob]) -> None:
        asyncio.run_coroutine_threadsafe(worlds.check(cases), loop).result()

    any_jobs = given(st.lists(any_job(), min_size=TOGETHER, max_size=TOGETHER))
    began, number = time.monotonic(), SEED
    while number < SEED + ROUNDS or time.monotonic() - began < SECONDS:
        print(f"JOBLEASE_PROPERTY_SEED={number}", flush=True)
        await asyncio.to_thread(seed(number)(ROUND(any_jobs(happen))))
        number += 1
