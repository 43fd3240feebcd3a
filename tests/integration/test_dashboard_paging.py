"""Pages over a long and sparse history: everything once and in order, in two storage requests a page at most."""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest
from fill import fill, jobs
from indexed_tables import Rows, Service
from joblease.messages import JobEvent, rfc3339
from joblease.metrics import STORAGE_REQUESTS
from joblease.settings import StorageSettings
from joblease.states import State
from joblease.storage import FEED_TABLE, INDEX_TABLE, STATS_TABLE, TRAIL_TABLE, Storage
from joblease.trail import AuditTrail
from joblease_dashboard.read_model.queries import LEAST_SPAN, Filters, TimeTable
from joblease_dashboard.read_model.rows import job_row
from joblease_dashboard.read_model.writer import Writer
from pydantic import SecretStr
from support.pages import without_form
from support.programs import Program, program

TABLES = (TRAIL_TABLE, INDEX_TABLE, FEED_TABLE, STATS_TABLE)
JOBS, JOBS_A_DAY = 240, 0.6
NEWEST = datetime.now(UTC) - timedelta(hours=3)
LENGTH = timedelta(days=JOBS / JOBS_A_DAY)


class Written(Writer):
    """Remembers what was written."""

    def __init__(self, table: Callable[[str], Any]) -> None:
        self.trail = AuditTrail(table(TRAIL_TABLE))
        super().__init__(table, self.trail)
        self.events: list[JobEvent] = []

    async def add(self, events: Any) -> None:
        self.events += events
        await super().add(events)


@pytest.fixture(scope="module")
async def storage_client(storage: str) -> AsyncIterator[Storage]:
    async with Storage(StorageSettings(storage_connection_string=SecretStr(storage))) as client:
        await client.create_tables(*TABLES)
        yield client


@pytest.fixture(scope="module")
async def events(storage_client: Storage) -> list[JobEvent]:
    """More than a year of jobs, most days without one; the newest event first."""
    table = storage_client.table
    index = Written(table)
    await fill(list(jobs(JOBS, NEWEST, JOBS_A_DAY)), index.trail, index)
    return newest_first(index.events)


def newest_first(events: list[JobEvent]) -> list[JobEvent]:
    return sorted(events, key=lambda event: event.timestamp, reverse=True)


def rows_of(events: list[JobEvent]) -> list[dict[str, Any]]:
    """The jobs that the events are of, the last submitted first."""
    by_job: dict[str, list[JobEvent]] = {}
    for event in events:
        by_job.setdefault(event.job_id, []).append(event)
    rows = (job_row(each) or {} for each in by_job.values())
    return sorted(rows, key=lambda row: str(row["submittedAt"]), reverse=True)


@pytest.fixture(scope="module")
async def dashboard(
    amqp_url: str, storage: str, events: list[JobEvent], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Program]:
    variables = {"JOBLEASE_AMQP_URL": amqp_url, "JOBLEASE_STORAGE_CONNECTION_STRING": storage}
    log = tmp_path_factory.mktemp("dashboard") / "dashboard.log"
    async with program("joblease-dashboard", variables, log) as running:
        yield running


Wanted = Callable[[Any], bool]
MIDDLE = NEWEST - LENGTH / 2
QUERIES: dict[str, tuple[str, Wanted]] = {
    "all": ("", lambda _: True),
    "namespace": ("namespace=research", lambda row: row["namespace"] == "research"),
    "two": (
        "handler=backup&namespace=billing",
        lambda row: (row["handler"], row["namespace"]) == ("backup", "billing"),
    ),
    "name": ("name=reindex-1", lambda row: row["name"].startswith("reindex-1")),
    "nobody": ("name=nobody", lambda _: False),
    "from": (f"from={rfc3339(MIDDLE)}", lambda row: row["at"] >= rfc3339(MIDDLE)),
    "to": (f"to={rfc3339(MIDDLE)}", lambda row: row["at"] <= rfc3339(MIDDLE)),
    "from, handler": (
        f"from={rfc3339(MIDDLE)}&handler=backup",
        lambda row: row["at"] >= rfc3339(MIDDLE) and row["handler"] == "backup",
    ),
    "to, namespace": (
        f"to={rfc3339(MIDDLE)}&namespace=shop",
        lambda row: row["at"] <= rfc3339(MIDDLE) and row["namespace"] == "shop",
    ),
    "before all": (f"to={rfc3339(NEWEST - 2 * LENGTH)}", lambda _: False),
}


@pytest.mark.parametrize("query", QUERIES)
async def test_a_list_of_jobs(dashboard: Program, events: list[JobEvent], query: str) -> None:
    text, fits = QUERIES[query]
    wanted = [row["jobId"] for row in rows_of(events) if fits({**row, "at": row["submittedAt"]})]
    pages = await all_pages(dashboard, f"/api/requests?page_size=20&{text}")
    assert [row["jobId"] for page in pages for row in page["jobs"]] == wanted
    assert len(pages) <= len(wanted) // 20 + 8


@pytest.mark.parametrize("query", QUERIES)
async def test_a_list_of_events(dashboard: Program, events: list[JobEvent], query: str) -> None:
    fields = [event.model_dump(mode="json", by_alias=True) for event in events]
    text, fits = QUERIES[query]
    wanted = [event["eventId"] for event in fields if fits({**event, "at": event["timestamp"]})]
    pages = await all_pages(dashboard, f"/api/jobs?page_size=100&{text}")
    assert [event["eventId"] for page in pages for event in page["events"]] == wanted
    assert len(pages) <= len(wanted) // 100 + 8


async def all_pages(dashboard: Program, path: str) -> list[dict[str, Any]]:
    """All pages, each of which took two storage requests or fewer."""
    found: list[dict[str, Any]] = []
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{dashboard.port}", timeout=20) as http:
        token = None
        while token or not found:
            before = await requests_of(dashboard)
            answer = await http.get(httpx.URL(path).copy_merge_params({"page_token": token} if token else {}))
            assert answer.status_code == 200, answer.text
            assert await requests_of(dashboard) - before <= 2
            found.append(answer.json())
            token = found[-1].get("nextPageToken")
    return found


async def requests_of(dashboard: Program) -> float:
    return await asyncio.to_thread(dashboard.metric, "joblease_storage_requests_total")


@pytest.mark.parametrize("path", [*without_form("{id}"), "/api/jobs/{id}", "/api/stats?window=24h"])
async def test_every_page(dashboard: Program, events: list[JobEvent], path: str) -> None:
    before = await requests_of(dashboard)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{dashboard.port}", timeout=20) as http:
        answer = await http.get(path.format(id=events[0].job_id))
        assert answer.status_code == 200, path
    assert await requests_of(dashboard) - before <= (3 if path == "/jobs/{id}" else 2)


async def test_rows_that_come_in_between_move_nothing(storage_client: Storage, events: list[JobEvent]) -> None:
    table = storage_client.table
    index = Written(table)
    source = jobs(50, datetime.now(UTC), 50_000, seed=2)
    known = {event.job_id for event in events}
    seen: list[str] = []
    page = await TimeTable(table(INDEX_TABLE)).page(20)
    while True:
        seen += [row["jobId"] for row in page.rows]
        if page.token is None:
            break
        await fill(list(islice(source, 3)), index.trail, index)
        page = await TimeTable(table(INDEX_TABLE)).page(20, page.token)
    assert [each for each in seen if each in known] == [row["jobId"] for row in rows_of(events)]
    assert len(seen) == len(set(seen))
    for row in rows_of(index.events):  # the other tests know nothing of them
        for at in (INDEX_TABLE, FEED_TABLE):
            async for entity in table(at).query_entities("jobId eq @id", parameters={"id": row["jobId"]}):
                await table(at).delete_entity(entity)


@pytest.mark.parametrize("span", [1, LEAST_SPAN, 10_000])
async def test_whatever_the_span_a_search_finds_everything_once(
    storage_client: Storage, events: list[JobEvent], span: int
) -> None:
    filters = Filters(equal={"namespace": "billing"}, prefix={"name": "b"})
    wanted = [row["jobId"] for row in rows_of(events) if (row["namespace"], row["name"][0]) == ("billing", "b")]
    table, seen, token, pages = TimeTable(storage_client.table(INDEX_TABLE)), list[str](), None, 0
    while token or not pages:
        table._span = span
        before = requests_here()
        page = await table.page(10, token, filters)
        assert requests_here() - before <= 2
        seen, token, pages = seen + [row["jobId"] for row in page.rows], page.token, pages + 1
    assert seen == wanted
    assert pages <= JOBS + 1  # days without jobs are passed over


async def test_a_search_looks_as_far_as_is_quick(storage_client: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    table, filters = TimeTable(storage_client.table(INDEX_TABLE)), Filters(prefix={"name": "nobody"})
    begun = table._span
    monkeypatch.setattr("joblease_dashboard.read_model.queries.QUICK_SECONDS", 60)
    await table.page(10, None, filters)
    assert table._span == begun * 2
    monkeypatch.setattr("joblease_dashboard.read_model.queries.QUICK_SECONDS", 0)
    monkeypatch.setattr("joblease_dashboard.read_model.queries.SLOW_SECONDS", 0)
    for _ in range(10):
        await table.page(10, None, filters)
    assert table._span == LEAST_SPAN


@pytest.mark.parametrize("most", [1, 7, 1_000])
async def test_storage_that_stops_early_is_asked_to_go_on(tmp_path: Path, most: int) -> None:
    """As Azure does, and Azurite never: hence a table service of ours."""
    database = sqlite3.connect(tmp_path / "tables")
    tables: dict[str, Any] = {
        name: Rows(database, name) for name in (TRAIL_TABLE, INDEX_TABLE, FEED_TABLE, STATS_TABLE)
    }
    index = Written(tables.__getitem__)
    await fill(list(jobs(60, NEWEST, JOBS_A_DAY)), index.trail, index)
    database.commit()
    service = Service(tmp_path / "tables", most)
    connection = (
        f"DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5;BlobEndpoint=http://127.0.0.1:1/a;"
        f"TableEndpoint=http://127.0.0.1:{await service.start()}/a;"
    )
    async with Storage(StorageSettings(storage_connection_string=SecretStr(connection))) as client:
        for filters in (None, Filters(equal={"state": State.COMPLETED}), Filters(since=MIDDLE)):
            wanted = [row["jobId"] for row in rows_of(index.events) if _matches(row, filters)]
            table, seen, token, pages = TimeTable(client.table(INDEX_TABLE)), list[str](), None, 0
            while token or not pages:
                before = requests_here()
                page = await table.page(random.Random(pages).randint(1, 30), token, filters)
                assert requests_here() - before <= 2
                seen, token, pages = seen + [row["jobId"] for row in page.rows], page.token, pages + 1
            assert seen == wanted
    await service.stop()
    database.close()


def _matches(row: dict[str, Any], filters: Filters | None) -> bool:
    if filters is None:
        return True
    if filters.since:
        return bool(row["submittedAt"] >= rfc3339(filters.since))
    return all(row[name] == value for name, value in filters.equal.items())


def requests_here() -> float:
    samples = (sample for metric in STORAGE_REQUESTS.collect() for sample in metric.samples)
    return sum(sample.value for sample in samples if sample.name.endswith("_total"))
