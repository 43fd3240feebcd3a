"""How many jobs a second programs can submit with `joblease.client`: `make bench-submit`.

Jobs are made in batches of 1,000, and one at a time, without an operator, and beside them the same `JobRequest`s are
created at the API server itself, in the same run.
"""

import asyncio
import statistics
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import uuid4

from joblease.client import AsyncClient, JobLeaseError, submission
from jobs import AT_ONCE, Jobs, each, open_jobs
from parts import DASHBOARD_PORT, dashboard, installation
from report import Report, Row, arguments, at_least, ratios, spread

JOBS = 1_000
SINGLE, SINGLE_AT_ONCE = 200, 8
"""Of those that are submitted one at a time: the dashboard answers eight of one user at once."""
RAW, BATCH, ONE = "created at the API server", "client.submit_many", "client.submit, one job each"
PARAMETERS = {"n": 1}
SPEC = {"handler": "noop", "parameters": PARAMETERS}
URL = f"http://127.0.0.1:{DASHBOARD_PORT}"


async def measure(count: int, single: int, rounds: int) -> Report:
    """All of it, on an installation of its own."""
    with installation("submit", programs=False) as (_, folder), dashboard(folder, _may_ask(folder)):
        async with open_jobs(folder) as jobs, AsyncClient(URL, timeout=120) as client:
            return report(await _measure(jobs, client, count, single, rounds), count, rounds)


def _may_ask(folder: Path) -> Mapping[str, str]:
    return {"KUBECONFIG": str(folder / "kubeconfig")}


async def _measure(
    jobs: Jobs, client: AsyncClient, count: int, single: int, rounds: int
) -> Mapping[str, Sequence[float]]:
    async def raw() -> None:
        prefix = uuid4().hex[:8]
        await each(count, lambda number: jobs.create(f"{prefix}-{number}", SPEC))

    async def batch() -> None:
        for made in await client.submit_many(submission("noop", PARAMETERS) for _ in range(count)):
            if isinstance(made, JobLeaseError):
                raise made

    async def one_at_a_time() -> None:
        turns = asyncio.Semaphore(SINGLE_AT_ONCE)

        async def one() -> None:
            async with turns:
                await client.submit("noop", PARAMETERS)

        await asyncio.gather(*(one() for _ in range(single)))

    found: dict[str, list[float]] = defaultdict(list)
    for number in range(rounds + 1):  # the first warms up
        for what, (work, size) in {RAW: (raw, count), BATCH: (batch, count), ONE: (one_at_a_time, single)}.items():
            await jobs.delete_all()
            began = time.monotonic()
            await work()
            if number:
                found[what].append(size / (time.monotonic() - began))
        print("  jobs/s:", {what: round(rates[-1]) for what, rates in found.items()}, flush=True)
    return found


def report(found: Mapping[str, Sequence[float]], count: int, rounds: int) -> Report:
    """The contenders as a table, compared within each round."""
    rows: list[Row] = [{"": what, "jobs/s": spread(rates)} for what, rates in found.items()]
    return Report(
        name="submit",
        question=f"Jobs per second that programs submit, when {count:,} are wanted at once.",
        rounds=rounds,
        rows=rows,
        targets=[at_least("submit_many, to creations", 0.5, ratios(found[BATCH], found[RAW]))],
        notes=[
            f"{AT_ONCE} requests to the API server are under way at any time, of the client or of the dashboard.",
            f"One at a time: {SINGLE_AT_ONCE} requests under way, each of them recorded with two writes to storage.",
            f"One job alone takes {1000 * SINGLE_AT_ONCE / statistics.median(found[ONE]):.0f} ms among these.",
        ],
    )


def main() -> None:
    options = arguments(__doc__, rounds=5)
    less = 10 if options.quick else 1
    asyncio.run(measure(JOBS // less, SINGLE // less, options.rounds)).publish(options.write)


if __name__ == "__main__":
    main()
