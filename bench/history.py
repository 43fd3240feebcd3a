"""Milliseconds that the dashboard's lists, searches and details take as the history grows: `make bench-history`.

A history of ten times the length is made again and again, and a dashboard on it is asked for the same things each time.
Once on tables with an index by partition and row, as Azure has one (`indexed_tables`), and once on Azurite, which has
none and looks at the whole table whatever it is asked. Beside them, the naive way: read the whole trail.
"""

import asyncio
import heapq
import math
import random
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import indexed_tables
from fill import BATCH, JOBS_A_DAY, fill, jobs
from indexed_tables import Rows
from joblease.messages import now, rfc3339
from joblease.settings import StorageSettings
from joblease.storage import ACTIONS_TABLE, FEED_TABLE, INDEX_TABLE, STATS_TABLE, TRAIL_TABLE, Storage
from joblease.trail import AuditTrail
from joblease_dashboard.read_model.keys import partition
from joblease_dashboard.read_model.writer import Writer
from parts import DASHBOARD_PORT, PORTS, account_at, broker_and_storage, dashboard
from processes import metrics
from report import Plot, Report, Row, Target, arguments, at_most, percentile

SIZES = (1_000, 10_000, 100_000, 1_000_000)
"""Rows of the trail."""
ROUNDS, MIN_ROUNDS, MAX_SECONDS = 300, 5, 12
"""In which each question is asked; fewer when it takes long."""
COUNTED = 10
"""Of those, asked once more with the storage requests counted."""
CONSTANT = (
    "last 200 events", "200 events, far back by token", "last 50 jobs", "50 jobs, far back by token",
    "jobs of an hour long ago", "a job's whole history", "a job's page", "overview",
)  # fmt: skip
"""Questions whose answer is as long at any size."""
PLOTTED = ("last 200 events", "50 jobs, far back by token", "failed jobs", "a name that nobody has", "a job's page")
SCAN = "the last 200 events, by reading the whole trail"
TABLES = (TRAIL_TABLE, INDEX_TABLE, FEED_TABLE, STATS_TABLE, ACTIONS_TABLE)


@dataclass
class Asked:
    """What one question took."""

    seconds: list[float] = field(default_factory=list)
    requests: list[float] = field(default_factory=list)
    """To storage, of each answer that was counted."""


class History:
    """Tables that are filled further and further back in time."""

    def __init__(self, tables: dict[str, Any], newest: datetime) -> None:
        self._trail = AuditTrail(tables[TRAIL_TABLE])
        self._index = Writer(tables.__getitem__, self._trail)
        self._source = jobs(SIZES[-1], newest, JOBS_A_DAY)
        self.rows = 0
        self.sample: list[tuple[str, str]] = []
        """Ids and names of some jobs from all times."""

    async def reach(self, rows: int) -> None:
        """Fill until there are so many rows in the trail, about."""
        while self.rows < rows:
            batch = list(islice(self._source, min(BATCH, (rows - self.rows) // 8 + 1)))
            self.rows += await fill(batch, self._trail, self._index)
            self.sample.append((batch[-1].head.job_id, batch[-1].head.name))


Question = Callable[[random.Random], str]
"""A path to ask for, another one each time where that makes sense."""


async def questions(history: History, newest: datetime, http: httpx.AsyncClient) -> dict[str, Question]:
    length = timedelta(days=history.rows / 8 / JOBS_A_DAY)
    anywhere = random.Random(2)
    moments = [newest - length * anywhere.uniform(0.1, 0.5) for _ in range(20)]

    async def far_back(path: str) -> Question:
        tokens = [(await ask(http, f"{path}?to={rfc3339(moment)}"))["nextPageToken"] for moment in moments]
        return lambda rng: f"{path}?page_token={rng.choice(tokens)}"

    def hour(rng: random.Random) -> str:
        until = rng.choice(moments)
        return f"/api/requests?from={rfc3339(until - timedelta(hours=1))}&to={rfc3339(until)}"

    return {
        "last 200 events": lambda _: "/api/jobs",
        "200 events, far back by token": await far_back("/api/jobs"),
        "last 50 jobs": lambda _: "/api/requests",
        "50 jobs, far back by token": await far_back("/api/requests"),
        "jobs of an hour long ago": hour,
        "failed jobs": lambda _: "/api/requests?state=Failed",
        "jobs of a handler in a namespace": lambda _: "/api/requests?handler=backup&namespace=research",
        "names that begin with": lambda rng: f"/api/requests?name=reindex-{rng.choice('0123456789abcdef')}",
        "a name that nobody has": lambda _: "/api/requests?name=nobody",
        "events of nobody": lambda _: "/api/jobs?name=nobody",
        "a job's whole history": lambda rng: f"/api/jobs/{rng.choice(history.sample)[0]}",
        "a job's page": lambda rng: f"/jobs/{rng.choice(history.sample)[0]}",
        "overview": lambda _: "/",
        "charts of a day": lambda _: "/api/stats?window=24h",
    }


async def ask(http: httpx.AsyncClient, path: str) -> dict[str, Any]:
    """An answer; empty when it is a page for people. Ends the program when it is an error."""
    answer = await http.get(path)
    if answer.status_code != 200:
        raise SystemExit(f"{path}: {answer.status_code} {answer.text[:500]}")
    return answer.json() if answer.headers["content-type"] == "application/json" else {}


async def storage_requests() -> float:
    """How many the dashboard has made."""
    return (await asyncio.to_thread(metrics, PORTS["dashboard"]))["joblease_storage_requests_total"]


async def measure(history: History, newest: datetime, rounds: int) -> dict[str, Asked]:
    """Ask the dashboard everything, in turn."""
    rng = random.Random(3)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{DASHBOARD_PORT}", timeout=120) as http:
        asked = await questions(history, newest, http)
        found = {name: Asked() for name in asked}
        for number in range(rounds):
            for name, question in asked.items():
                one = found[name]
                if len(one.seconds) >= MIN_ROUNDS and sum(one.seconds) > MAX_SECONDS:
                    continue
                path, began = question(rng), time.perf_counter()
                await ask(http, path)
                one.seconds.append(time.perf_counter() - began)
                if number < COUNTED:
                    before = await storage_requests()
                    await ask(http, path)
                    one.requests.append(await storage_requests() - before)
        return found


async def bare(storage: Storage) -> float:
    """Seconds that storage itself takes for the last 50 jobs, by the bare SDK; the median of a few."""
    taken = []
    for _ in range(MIN_ROUNDS):
        began = time.perf_counter()
        rows = storage.table(INDEX_TABLE).query_entities(f"PartitionKey ge '{partition(now())}'", results_per_page=50)
        async for page in rows.by_page():
            _ = [row async for row in page]
            break
        taken.append(time.perf_counter() - began)
    return percentile(taken, 0.5)


async def scan(storage: Storage) -> float:
    """Seconds of the naive way to the last 200 events: read the whole trail."""
    began = time.perf_counter()
    rows = storage.table(TRAIL_TABLE).list_entities(results_per_page=1_000)
    heapq.nlargest(200, [row.get("timestamp", "") async for row in rows])
    return time.perf_counter() - began


@dataclass(frozen=True, slots=True)
class Size:
    """All figures of a storage at a size."""

    rows: int
    asked: dict[str, Asked]
    bare: float
    scan: float


async def look(folder: Path, history: History, newest: datetime, size: int, rounds: int) -> Size:
    """Measure everything on the storage that the environment names."""
    with dashboard(folder):
        asked = await measure(history, newest, rounds)
    async with Storage(StorageSettings()) as storage:
        return Size(size, asked, await bare(storage), await scan(storage))


async def run(folder: Path, sizes: Sequence[int], azurite_rows: int, rounds: int) -> dict[str, list[Size]]:
    """All sizes, on both."""
    newest, file = now(), folder / "tables.sqlite"
    found: dict[str, list[Size]] = {"indexed": [], "Azurite": []}
    database = sqlite3.connect(file)
    one = History({name: Rows(database, name) for name in TABLES}, newest)
    async with Storage(StorageSettings()) as storage:
        await storage.create_tables(*TABLES)
        other = History({name: storage.table(name) for name in TABLES}, newest)
        for size in sizes:
            print(f"{size} rows with an index", flush=True)
            await one.reach(size)
            database.commit()
            with account_at(indexed_tables.__file__, file, services=("Table",)):
                found["indexed"].append(await look(folder, one, newest, size, rounds))
            if size <= azurite_rows:
                print(f"{size} rows in Azurite", flush=True)
                await other.reach(size)
                found["Azurite"].append(await look(folder, other, newest, size, rounds))
    database.close()
    file.unlink()  # 1.7 GB
    return found


def main() -> None:
    rows = {"type": int, "default": SIZES[1], "help": f"the most for Azurite (default: {SIZES[1]})"}
    options = arguments(__doc__, rounds=ROUNDS, azurite_rows=rows)
    with broker_and_storage("history") as (folder, _):
        sizes, most = (SIZES[:2], SIZES[0]) if options.quick else (SIZES, options.azurite_rows)
        found = asyncio.run(run(folder, sizes, most, options.rounds))
    Report(
        name="history",
        question="A page of a list, a search or a job, as the history grows.",
        rounds=options.rounds,
        rows=[row(name, found) for name in found["indexed"][0].asked] + [naive(found)],
        targets=targets(found["indexed"]),
        notes=[
            "Milliseconds until the dashboard has answered, for histories of 1,000 jobs a day, 8 rows each.",
            "Not Azurite: SQLite behind the same protocol, which finds rows by partition and row, as Azure does.",
            "That shows how our requests scale. How fast Azure answers, it does not show.",
            "Azurite looks at every row of a table for each query; that is what grows there, and not only for us:",
            f"the bare SDK takes {bare_growth(found['Azurite'])} for the last 50 jobs.",
            "A search that finds too little ends after as many partitions as storage reads in 50 to 200 ms.",
            "Its page is short, or empty, with a token that leads on: its p99 has a bound, less over 1,000 rows.",
        ],
        plot=Plot("audit rows", "p99 ms", "asked for", log_x=True, log_y=True),
        curves=curves(found["indexed"]),
    ).publish(options.write)


def row(name: str, found: dict[str, list[Size]]) -> Row:
    """All figures of a question."""
    p99 = {f"{size.rows:,}: p99 ms": p(size, name, 0.99) for size in found["indexed"]}
    p50 = {f"Azurite {size.rows:,}: p50 ms": p(size, name, 0.5) for size in found["Azurite"]}
    return {"asked for": name, "requests": int(most_requests(found["indexed"], name)), **p99, **p50}


def naive(found: dict[str, list[Size]]) -> Row:
    """The same columns for the full-table scan."""
    indexed = {f"{size.rows:,}: p99 ms": size.scan * 1000 for size in found["indexed"]}
    azurite = {f"Azurite {size.rows:,}: p50 ms": size.scan * 1000 for size in found["Azurite"]}
    return {"asked for": SCAN, "requests": math.ceil(found["indexed"][-1].rows / 1_000), **indexed, **azurite}


def curves(sizes: list[Size]) -> list[Row]:
    names = {name: [p(size, name, 0.99) for size in sizes] for name in PLOTTED}
    names[SCAN] = [size.scan * 1000 for size in sizes]
    return [
        {"audit rows": size.rows, "asked for": name, "p99 ms": value}
        for name, values in names.items()
        for size, value in zip(sizes, values, strict=True)
    ]


def p(size: Size, name: str, share: float) -> float:
    return percentile(size.asked[name].seconds, share) * 1000


def most_requests(sizes: list[Size], name: str) -> float:
    """The most storage requests that an answer took, at any size."""
    return max(requests for size in sizes for requests in size.asked[name].requests)


def bare_growth(sizes: list[Size]) -> str:
    """How long the last 50 jobs take without us."""
    return ", ".join(f"{size.bare * 1000:.0f} ms at {size.rows:,} rows" for size in sizes)


def targets(sizes: list[Size]) -> list[Target]:
    """Flat, in few requests."""
    small, large = sizes[0], sizes[-1]
    most = max(most_requests(sizes, name) for name in small.asked)
    growth = {name: p(large, name, 0.99) / p(small, name, 0.99) for name in CONSTANT}
    worst = max(growth, key=growth.__getitem__)
    slowest = max(p(large, name, 0.99) for name in small.asked)
    return [
        at_most("storage requests of a page", 2, most),
        at_most(f"p99 of lists and jobs, {large.rows:,} rows to {small.rows:,} ({worst})", 1.5, growth[worst]),
        at_most(f"p99 of any search at {large.rows:,} rows", 500, slowest, "ms"),
    ]


if __name__ == "__main__":
    main()
