"""How many jobs a second programs can submit through the dashboard's API: `make bench-submit`.

Jobs are made in batches of 1,000, and one at a time, without an operator, and beside them the same `JobRequest`s are
created at the API server itself, in the same run.
"""

import asyncio
import statistics
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

from aiohttp import ClientSession, ClientTimeout
from jobs import AT_ONCE, each, open_jobs
from parts import DASHBOARD_PORT, dashboard, installation
from report import Report, Row, arguments, at_least, ratios, spread

JOBS = 1_000
SINGLE, SINGLE_AT_ONCE = 200, 8
"""Of those that are submitted one at a time: the dashboard answers eight of one user at once."""
RAW, BATCH, ONE = "created at the API server", "submitted as a batch", "submitted one at a time"
SPEC = {"handler": "noop", "parameters": {"n": 1}}
URL = f"http://127.0.0.1:{DASHBOARD_PORT}"


@asynccontextmanager
async def api(folder: Path) -> AsyncIterator[ClientSession]:
    """A dashboard that may ask the API server, and a client of it."""
    with dashboard(folder, {"KUBECONFIG": str(folder / "kubeconfig")}):
        async with ClientSession(URL, headers={"Origin": URL}, timeout=ClientTimeout(120)) as session:
            yield session


async def post(session: ClientSession, path: str, body: object) -> dict[str, list[dict[str, int]]]:
    async with session.post(path, json=body) as answer:
        if not answer.ok:
            raise SystemExit(f"the dashboard answers {path} with {answer.status}: {await answer.text()}")
        found: dict[str, list[dict[str, int]]] = await answer.json()
        return found


def a_job() -> dict[str, object]:
    return {"spec": SPEC, "submissionId": uuid4().hex}


async def measure(count: int, single: int, rounds: int) -> Report:
    """All of it, on an installation of its own."""
    found: dict[str, list[float]] = defaultdict(list)
    with installation("submit", programs=False) as (_, folder):
        async with open_jobs(folder) as jobs, api(folder) as session:

            async def raw() -> None:
                prefix = uuid4().hex[:8]
                await each(count, lambda number: jobs.create(f"{prefix}-{number}", SPEC))

            async def batch() -> None:
                answer = await post(session, "/api/requests:batch", {"requests": [a_job() for _ in range(count)]})
                if {result["status"] for result in answer["results"]} != {201}:
                    raise SystemExit(f"not all were made: {answer['results'][:3]}")

            async def one_at_a_time() -> None:
                turns = asyncio.Semaphore(SINGLE_AT_ONCE)

                async def one() -> None:
                    async with turns:
                        await post(session, "/api/requests", a_job())

                await asyncio.gather(*(one() for _ in range(single)))

            contenders = {RAW: (raw, count), BATCH: (batch, count), ONE: (one_at_a_time, single)}
            for number in range(rounds + 1):  # the first warms up
                for what, (work, size) in contenders.items():
                    await jobs.delete_all()
                    began = time.monotonic()
                    await work()
                    if number:
                        found[what].append(size / (time.monotonic() - began))
                print("  jobs/s:", {what: round(rates[-1]) for what, rates in found.items()}, flush=True)
    return report(found, count, rounds)


def report(found: Mapping[str, Sequence[float]], count: int, rounds: int) -> Report:
    """The contenders as a table, compared within each round."""
    rows: list[Row] = [{"": what, "jobs/s": spread(rates)} for what, rates in found.items()]
    return Report(
        name="submit",
        question=f"Jobs per second that programs submit, when {count:,} are wanted at once.",
        rounds=rounds,
        rows=rows,
        targets=[at_least("a batch, to creations", 0.5, ratios(found[BATCH], found[RAW]))],
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
