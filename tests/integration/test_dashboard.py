"""The dashboard as a process, on a real broker and storage emulator, fed with real events."""

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from joblease.messages import JobMessage, rfc3339
from joblease.policy import JobPolicy
from joblease.states import State
from joblease.storage import FEED_TABLE, INDEX_TABLE, STATS_TABLE, Storage
from joblease.topology import DEAD, EVENTS, REASON_HEADER
from joblease_dashboard.live.board import Board
from joblease_dashboard.live.locks import held
from joblease_dashboard.live.workers import Workers
from joblease_dashboard.read_model.writer import Writer
from support.history import History
from support.jobs import Jobs
from support.listed import listed, pages
from support.pages import NAVIGATION, without_form
from support.programs import BIN, Program, check_metrics, program

HOUR = timedelta(hours=1)
Start = Callable[..., AbstractAsyncContextManager[Program]]


@pytest.fixture
def start(amqp_url: str, storage: str, tmp_path: Path) -> Start:
    @asynccontextmanager
    async def run(**environment: str) -> AsyncIterator[Program]:
        variables = {
            "JOBLEASE_AMQP_URL": amqp_url,
            "JOBLEASE_STORAGE_CONNECTION_STRING": storage,
            "JOBLEASE_DASHBOARD_HEARTBEAT_SECONDS": "0.3",
            **environment,
        }
        async with program("joblease-dashboard", variables, tmp_path / "dashboard.log") as running:
            yield running

    return run


@pytest.fixture
async def dashboard(start: Start) -> AsyncIterator[Program]:
    async with start() as running:
        yield running


@pytest.fixture
async def http(dashboard: Program) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{dashboard.port}", timeout=10) as client:
        yield client


async def test_a_job_is_seen_from_all_sides(jobs: Jobs, http: httpx.AsyncClient) -> None:
    history = History(jobs, "seen", namespace="ns-seen")
    await history.complete()
    rows = await listed(
        http, "/api/requests?namespace=ns-seen", "jobs", lambda rows: bool(rows) and "completedAt" in rows[0]
    )
    assert len(rows) == 1
    job = rows[0]
    assert (job["state"], job["progress"], job["attempt"], job["worker"]) == ("Completed", 100, 1, "worker-1")
    assert job["submittedAt"] < job["startedAt"] < job["completedAt"]

    events = await listed(http, "/api/jobs?namespace=ns-seen", "events", lambda rows: len(rows) == 4)
    assert [event["status"] for event in events] == ["Completed", "Step 1", "Started", "Submitted"]
    assert (await http.get("/api/events?namespace=ns-seen")).json() == {"events": events}

    whole = (await http.get(f"/api/jobs/{history.job_id}")).json()
    assert [event["status"] for event in whole["events"]] == ["Submitted", "Started", "Step 1", "Completed"]
    assert whole["events"][0]["data"] == {"parameters": {"a": 1}}
    assert whole["job"] == job


async def test_pages_lead_through_all_events_once_and_in_order(jobs: Jobs, http: httpx.AsyncClient) -> None:
    expected: list[str] = []
    for hours in (30 * 24, 30, 1):  # partitions with gaps between them, also wide ones
        history = History(jobs, f"paged-{hours}", datetime.now(UTC) - hours * HOUR, namespace="ns-paged")
        for number in range(50):
            await history.happen(f"Step {number}", State.RUNNING)
        expected += [event.event_id for event in history.events]
    await listed(http, "/api/jobs?namespace=ns-paged&page_size=1000", "events", lambda rows: len(rows) == 150)
    found = await pages(http, "/api/jobs?namespace=ns-paged&page_size=40")
    assert [event["eventId"] for page in found for event in page["events"]] == expected[::-1]
    assert len(found) <= 8


async def test_filters_find_what_they_should(jobs: Jobs, http: httpx.AsyncClient) -> None:
    now = datetime.now(UTC)
    for name, handler, age in (("alpha-1", "one", 0), ("alpha-2", "two", 3), ("beta-1", "one", 50)):
        history = History(jobs, name, now - age * HOUR, namespace="ns-filter", handler=handler, group=name[:5])
        await history.happen("Submitted", State.SUBMITTED)
        if name == "beta-1":
            await history.happen("Step 7", State.RUNNING)

    async def names(query: str) -> list[str]:
        answer = await http.get(f"/api/requests?namespace=ns-filter&{query}")
        return sorted(row["name"] for row in answer.json()["jobs"])

    await listed(http, "/api/requests?namespace=ns-filter", "jobs", lambda rows: len(rows) == 3)
    await listed(http, "/api/requests?namespace=ns-filter&state=Running", "jobs", lambda rows: len(rows) == 1)
    assert await names("handler=one") == ["alpha-1", "beta-1"]
    assert await names("group=alpha") == ["alpha-1", "alpha-2"]
    assert await names("name=alpha") == ["alpha-1", "alpha-2"]
    assert await names("state=Running") == ["beta-1"]
    assert await names("name=alpha&handler=two") == ["alpha-2"]
    assert await names(f"from={(now - 4 * HOUR).isoformat().replace('+00:00', 'Z')}") == ["alpha-1", "alpha-2"]
    assert await names(f"to={(now - 4 * HOUR).isoformat().replace('+00:00', 'Z')}") == ["beta-1"]
    assert await names("name=x'%20or%20true") == []
    steps = (await http.get("/api/jobs?namespace=ns-filter&status=Step")).json()["events"]
    assert [event["status"] for event in steps] == ["Step 7"]


async def test_events_that_come_twice_or_late_do_no_harm(jobs: Jobs, http: httpx.AsyncClient) -> None:
    history = History(jobs, "late", namespace="ns-late")
    await history.complete(publish=False)
    for event in reversed(history.events):
        await history.publish(event)
        await history.publish(event)
    await listed(http, "/api/jobs?namespace=ns-late", "events", lambda rows: len(rows) == 4)
    rows = await listed(http, "/api/requests?namespace=ns-late", "jobs", lambda rows: len(rows) == 1)
    assert (rows[0]["state"], rows[0]["sequence"]) == ("Completed", 4)


async def test_two_replicas_agree(jobs: Jobs, start: Start, http: httpx.AsyncClient) -> None:
    async with start():
        histories = [History(jobs, f"shared-{n}", namespace="ns-shared") for n in range(10)]
        for history in histories:
            await history.complete()
        rows = await listed(
            http,
            "/api/requests?namespace=ns-shared",
            "jobs",
            lambda rows: len(rows) == 10 and all(row["state"] == "Completed" for row in rows),
        )
        assert all(row["progress"] == 100 and row.get("startedAt") for row in rows)


async def test_what_came_too_late_or_never_is_taken_from_the_trail(jobs: Jobs, http: httpx.AsyncClient) -> None:
    """Another replica had it and was slower, or the worker died before it could say so."""
    history = History(jobs, "gap", namespace="ns-gap")
    await history.happen("Submitted", State.SUBMITTED)
    await listed(http, "/api/requests?namespace=ns-gap", "jobs", lambda rows: len(rows) == 1)
    started = await history.happen("Started", State.RUNNING, publish=False)
    await history.happen("Completed", State.COMPLETED)
    path = "/api/requests?namespace=ns-gap&state=Completed"
    row = (await listed(http, path, "jobs", lambda rows: len(rows) == 1))[0]
    assert (row["startedAt"], row["worker"]) == (rfc3339(started.timestamp), "worker-1")
    await history.publish(started)
    await listed(http, "/api/jobs?namespace=ns-gap", "events", lambda rows: len(rows) == 3)
    assert (await listed(http, path, "jobs", lambda rows: len(rows) == 1))[0] == row


async def test_a_row_that_was_taken_away_comes_back_whole(jobs: Jobs, http: httpx.AsyncClient) -> None:
    """Somebody empties the tables to have them rebuilt, and the dashboard writes on."""
    history = History(jobs, "emptied", namespace="ns-emptied")
    await history.happen("Submitted", State.SUBMITTED)
    started = await history.happen("Started", State.RUNNING)
    await listed(http, "/api/requests?namespace=ns-emptied&state=Running", "jobs", lambda rows: len(rows) == 1)
    index = jobs.storage.table(INDEX_TABLE)
    async for row in index.query_entities("namespace eq 'ns-emptied'"):
        await index.delete_entity(row)
    await history.happen("Completed", State.COMPLETED)
    path = "/api/requests?namespace=ns-emptied&state=Completed"
    rows = await listed(http, path, "jobs", lambda rows: len(rows) == 1)
    assert rows[0]["startedAt"] == rfc3339(started.timestamp)


async def test_an_unreadable_event_is_parked(jobs: Jobs, dashboard: Program) -> None:
    await jobs.broker.publish(EVENTS, "a.b", b"{nonsense", message_id="bad")

    async def taken(channel: Any) -> Any:
        return await (await channel.get_queue(DEAD)).get(no_ack=True, fail=False)

    async with asyncio.timeout(10):
        while (message := await jobs.broker.ask(taken)) is None:
            await asyncio.sleep(0.05)
    assert "not an event" in message.headers[REASON_HEADER]


async def test_a_dead_letter_of_a_job_that_has_ended_is_not_sent(jobs: Jobs, http: httpx.AsyncClient) -> None:
    ended, open_job = History(jobs, "ended"), History(jobs, "not-ended")
    await ended.complete()
    await open_job.happen("Submitted", State.SUBMITTED)
    letters = {}
    for history in (ended, open_job):
        head = history.head
        message = JobMessage(
            job_id=head.job_id, namespace=head.namespace, name=head.name, handler=head.handler, queue=head.queue,
            group=head.group, limit=1, slot=0,
        )  # fmt: skip
        headers = {REASON_HEADER: f"why {head.name}"}
        await jobs.broker.publish("", DEAD, message.encode(), message_id=head.job_id, headers=headers)
        page = (await http.get("/queues/letters")).text
        letters[head.name] = next(each for each in re.findall(r"message=([0-9a-f]+)", page) if each not in letters)
    for path in (f"/queues/replay?message={letters['ended']}", "/queues/letters"):
        assert (await http.get(path)).status_code == 200
    same_origin = {"Sec-Fetch-Site": "same-origin"}
    one = {"message": letters["ended"]}
    refused = await http.post("/queues/replay", data=one, headers=same_origin)
    assert refused.status_code == 409
    answer = refused.json()
    assert (answer["title"], answer["replayed"]) == ("The job has ended", 0)
    assert answer["ended"] == [{"jobId": ended.job_id, "name": "ended", "state": "Completed"}]
    said = await http.post("/queues/replay", data=one, headers={**same_origin, "Accept": "text/html"})
    assert (said.status_code, "ended is Completed: nothing was sent" in said.text) == (409, True)
    both = await http.post("/queues/replay", data={}, headers={**same_origin, "Accept": "text/html"})
    assert both.status_code == 200
    assert "1 sent back, 1 not" in both.text
    page = (await http.get("/queues/letters")).text
    assert ("why ended" in page, "why not-ended" in page) == (True, False)


async def test_a_held_lock_is_found_behind_any_number_of_others(jobs: Jobs, http: httpx.AsyncClient) -> None:
    container = jobs.storage.locks()
    for number in range(9):
        await container.upload_blob(f"job/z{number}", b"")
    lease = await container.get_blob_client("job/z8").acquire_lease(15)
    try:
        found: list[str] = []
        token: str | None = None
        looks = 0
        while looks == 0 or token:
            rows, token = await held(container, Workers(), token, blobs_a_request=2)
            found += [row["what"] for row in rows]
            looks += 1
        assert (found, looks >= 3) == (["z8"], True)
        assert "z8" in (await http.get("/locks")).text
    finally:
        await lease.release()
        for number in range(9):
            await container.delete_blob(f"job/z{number}")


async def test_what_has_ended_stays_as_it_is_when_a_new_dashboard_hears_of_it_again(jobs: Jobs) -> None:
    history = History(jobs, "failed", namespace="ns-again")
    await history.happen("Submitted", State.SUBMITTED, publish=False)
    await history.happen("Started", State.RUNNING, publish=False)
    await history.happen("Failed", State.FAILED, publish=False)
    storage = jobs.storage
    await storage.create_tables(INDEX_TABLE, FEED_TABLE, STATS_TABLE)
    before, after = Writer(storage.table, jobs.trail), Writer(storage.table, jobs.trail)
    await before.add(history.events)
    board = Board(Workers())
    await board.restore(storage.table(INDEX_TABLE))
    for event in history.events:
        board.add(event)
        await after.add([event])
        assert board.running("ns-again") == board.waiting("ns-again") == []
        assert len(board.failed("ns-again")) == 1
    points = await before.statistics.read("7d")
    assert sum(point["failed"] for point in points) == len(await indexed(jobs.storage, "Failed"))


async def indexed(storage: Storage, state: str) -> list[Any]:
    return [row async for row in storage.table(INDEX_TABLE).query_entities(f"state eq '{state}'")]


async def test_the_read_model_can_be_rebuilt(jobs: Jobs, http: httpx.AsyncClient, amqp_url: str, storage: str) -> None:
    history = History(jobs, "rebuilt", namespace="ns-rebuilt")
    await history.complete()
    await listed(http, "/api/jobs?namespace=ns-rebuilt", "events", lambda rows: len(rows) == 4)
    await listed(http, "/api/requests?namespace=ns-rebuilt&state=Completed", "jobs", lambda rows: len(rows) == 1)
    paths = ("/api/requests?namespace=ns-rebuilt", "/api/jobs?namespace=ns-rebuilt")
    before = [(await http.get(path)).json() for path in paths]
    for table in (INDEX_TABLE, FEED_TABLE):
        async for row in jobs.storage.table(table).query_entities("namespace eq 'ns-rebuilt'"):
            await jobs.storage.table(table).delete_entity(row)
    assert [(await http.get(path)).json() for path in paths] == [{"jobs": []}, {"events": []}]
    environment = {"JOBLEASE_AMQP_URL": amqp_url, "JOBLEASE_STORAGE_CONNECTION_STRING": storage}
    done = await asyncio.to_thread(_run, [str(BIN / "joblease-dashboard"), "rebuild"], "", environment)
    assert done.returncode == 0, done.stderr
    assert "jobs are in the read model" in done.stdout
    assert [(await http.get(path)).json() for path in paths] == before


def _run(
    command: list[str], text: str = "", environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, input=text, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("path", "status", "detail"),
    [
        ("/api/jobs?page_size=many", 400, "page_size: a whole number of at least 1"),
        ("/api/jobs?page_size=0", 400, "page_size: a whole number of at least 1"),
        ("/api/jobs?page_size=", 400, "page_size: a whole number"),
        ("/api/jobs?to=", 400, "to: an RFC 3339 time"),
        ("/api/jobs?to=0001-01-01T00:00:00%2B10:00", 400, "to: an RFC 3339 time"),
        ("/api/jobs?page_token=tampered", 400, "page_token: "),
        ("/api/jobs?page_token=WzEsIngiLG51bGxd", 400, "page_token: "),
        ("/api/jobs?from=yesterday", 400, "from: an RFC 3339 time"),
        ("/api/jobs?from=2026-01-01T00:00:00", 400, "from: an RFC 3339 time with a zone"),
        ("/api/jobs?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", 400, "from: must not be later"),
        ("/api/jobs?nmespace=x", 400, "nmespace: there is no such parameter"),
        ("/api/requests?state=Odd", 400, "state: one of Unsupported"),
        ("/api/jobs/no-such-job", 404, "no job 'no-such-job'"),
        ("/api/jobs/a%27b", 404, "no job"),
        ("/api/nothing", 404, "there is nothing at /api/nothing"),
    ],
)
async def test_errors_are_problem_details(http: httpx.AsyncClient, path: str, status: int, detail: str) -> None:
    answer = await http.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert detail in answer.json()["detail"]


async def test_what_is_not_a_get_is_refused(http: httpx.AsyncClient) -> None:
    answer = await http.post("/api/jobs", headers={"Sec-Fetch-Site": "same-origin"})
    assert (answer.status_code, answer.headers["content-type"]) == (405, "application/problem+json")


async def test_the_stream_brings_events_and_resumes(jobs: Jobs, dashboard: Program, http: httpx.AsyncClient) -> None:
    history, other = History(jobs, "streamed"), History(jobs, "other")
    async with http.stream("GET", f"/api/stream?jobId={history.job_id}") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert stream.headers["x-accel-buffering"] == "no"
        lines = stream.aiter_lines()
        assert await anext(lines) == "retry: 2000"
        await other.happen("Submitted", State.SUBMITTED)
        await history.happen("Submitted", State.SUBMITTED)
        first = await _next_event(lines)
        assert first["data"]["jobId"] == history.job_id
        async with asyncio.timeout(5):
            while await anext(lines) != ": alive":
                pass
    await history.happen("Started", State.RUNNING)
    await history.happen("Completed", State.COMPLETED)
    headers = {"Last-Event-ID": first["id"]}
    async with http.stream("GET", f"/api/stream?jobId={history.job_id}", headers=headers) as stream:
        lines = stream.aiter_lines()
        missed = [(await _next_event(lines))["data"]["status"] for _ in range(2)]
    assert missed == ["Started", "Completed"]


async def test_a_stream_resumes_across_a_restart_and_ends_with_the_dashboard(jobs: Jobs, start: Start) -> None:
    history = History(jobs, "restarted")
    async with (
        start() as first,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{first.port}") as client,
        client.stream("GET", "/api/stream", timeout=20) as stream,
    ):
        await history.happen("Submitted", State.SUBMITTED)
        seen = await _next_event(stream.aiter_lines())
        stopped = asyncio.get_running_loop().time()
        assert await first.stop() == 0
        assert asyncio.get_running_loop().time() - stopped < 5
    await history.happen("Completed", State.COMPLETED)
    async with start() as second, httpx.AsyncClient(base_url=f"http://127.0.0.1:{second.port}") as client:
        await listed(client, "/api/jobs?name=restarted", "events", lambda rows: len(rows) == 2)
        async with client.stream("GET", "/api/stream", headers={"Last-Event-ID": seen["id"]}, timeout=20) as stream:
            lines = stream.aiter_lines()
            assert (await _next_event(lines))["data"]["status"] == "Completed"


async def _next_event(lines: AsyncIterator[str]) -> dict[str, Any]:
    event: dict[str, Any] = {}
    async with asyncio.timeout(10):
        async for line in lines:
            name, _, value = line.partition(": ")
            if name in ("id", "event"):
                event[name] = value
            elif name == "data":
                event["data"] = json.loads(value)
            elif not line and "data" in event:
                return event
    raise AssertionError("the stream ended")


async def test_the_page_says_under_which_rules_a_job_runs_and_who_gave_them(
    jobs: Jobs, http: httpx.AsyncClient
) -> None:
    history = History(jobs, "policed")
    history.head = replace(
        history.head,
        policy=JobPolicy(
            group="import-acme", limit=4, max_attempts=7, active_deadline_seconds=7200, from_handler=("group", "limit")
        ),
    )
    await history.happen("Submitted", State.SUBMITTED, data={"retry": {"backoff": {}}})
    await history.happen("Queued", State.QUEUED)
    page = " ".join((await http.get(f"/jobs/{history.job_id}", headers={"Accept": "text/html"})).text.split())
    for fact in (
        "<dt>Attempt</dt><dd>0 of 7</dd>", "<dt>Group</dt><dd>import-acme <small>from the handler</small></dd>",
        "<dt>Limit</dt><dd>4 <small>from the handler</small></dd>", "<dt>Deadline</dt><dd>2 h</dd>",
    ):  # fmt: skip
        assert fact in page, page[page.find("<dt>Attempt") :][:800]


async def test_pages_show_everything_and_escape_it(jobs: Jobs, http: httpx.AsyncClient) -> None:
    history = History(jobs, "page", namespace="ns-page")
    await history.happen("Submitted", State.SUBMITTED, data={"parameters": {"html": "<script>alert(1)</script>"}})
    await history.happen("Started", State.RUNNING)
    await history.happen("Failed", State.FAILED, message="<b>bold</b>", data={"error": "<i>", "traceback": "File <x>"})
    await listed(http, "/api/requests?namespace=ns-page&state=Failed", "jobs", lambda rows: len(rows) == 1)
    for path in ("/jobs?namespace=ns-page", "/events?namespace=ns-page", f"/jobs/{history.job_id}"):
        answer = await http.get(path, headers={"Accept": "text/html"})
        assert answer.status_code == 200
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert "page" in answer.text
        for raw in ("<b>bold", "<i>", "<script>alert", "File <x>"):
            assert raw not in answer.text
    assert "File &lt;x&gt;" in answer.text
    missing = await http.get("/jobs/nobody", headers={"Accept": "text/html"})
    assert (missing.status_code, "No such job" in missing.text) == (404, True)
    assert (await http.get("/static/page.js")).status_code == 200


async def test_a_jobs_page_tells_its_key_and_where_the_next_run_goes_on(jobs: Jobs, http: httpx.AsyncClient) -> None:
    history = History(jobs, "import", namespace="ns-key")
    await history.happen(
        "Submitted", State.SUBMITTED, data={"parameters": {}, "key": "<order> 17", "keyTTLSeconds": 60}
    )
    await history.happen("Started", State.RUNNING)
    history.head, _ = await jobs.trail.append(history.head, [], checkpoint='{"row":40000}', session="pod/one")
    await listed(http, "/api/requests?namespace=ns-key&state=Running", "jobs", bool)
    page = (await http.get(f"/jobs/{history.job_id}", headers={"Accept": "text/html"})).text
    assert "<code>&lt;order&gt; 17</code> <small>for 1 min</small>" in page
    assert re.search(r"<h2>Checkpoint .*?&#34;row&#34;: 40000", page, re.DOTALL)
    assert "<code>session/pod/one</code>" in page
    await history.happen("Completed", State.COMPLETED)
    await listed(http, "/api/requests?namespace=ns-key&state=Completed", "jobs", bool)
    page = (await http.get(f"/jobs/{history.job_id}", headers={"Accept": "text/html"})).text
    assert "Checkpoint" not in page
    assert "session/pod/one" not in page


async def test_pages_are_small_on_the_wire_and_assets_are_fetched_once(http: httpx.AsyncClient) -> None:
    page = await http.get("/", headers={"Accept": "text/html", "Accept-Encoding": "gzip"})
    assert (page.headers["content-encoding"], page.headers["cache-control"]) == ("gzip", "no-store")
    assets = set(re.findall(r'(?:src|href|data-styles)="(/static/[^"]+)"', page.text))
    assert len(assets) >= 8
    wire = int(page.headers["content-length"])
    for path in assets:
        answer = await http.get(path, headers={"Accept-Encoding": "gzip"})
        assert "immutable" in answer.headers["cache-control"], path
        wire += int(answer.headers["content-length"])
    assert wire < 80 << 10  # a second and a half on a slow mobile line, once
    assert (await http.get("/static/page.js")).headers["cache-control"] == "no-cache"
    async with http.stream("GET", "/api/stream", headers={"Accept-Encoding": "gzip"}) as stream:
        assert "content-encoding" not in stream.headers  # it would be held back until a block is full


async def test_a_job_id_in_the_search_box_leads_to_the_job(http: httpx.AsyncClient) -> None:
    job_id = "12345678-1234-1234-1234-123456789abc"
    answer = await http.get(f"/jobs?name={job_id}")
    assert (answer.status_code, answer.headers["location"].endswith(f"/jobs/{job_id}")) == (303, True)


async def test_every_page_leads_to_every_page_of_the_navigation(http: httpx.AsyncClient) -> None:
    for path in NAVIGATION:
        menu = (await http.get(path)).text.partition('<nav aria-label="Pages">')[2].partition("</nav>")[0]
        links = re.findall(r'href="([^"]+)"([^>]*)>([^<]+)<', menu)
        assert [(target, name) for target, _, name in links] == list(NAVIGATION.items())
        assert [target for target, marks, _ in links if "aria-current" in marks] == [path]


async def test_a_page_costs_two_storage_requests_at_most_and_a_jobs_page_three(
    jobs: Jobs, dashboard: Program, http: httpx.AsyncClient
) -> None:
    job = History(jobs, "cheap")
    await job.complete()
    await listed(http, "/api/requests?name=cheap&state=Completed", "jobs", bool)  # the index has written its last row
    lists = [f"{path}?page_size=1" for path in ("/api/requests", "/api/events", "/jobs", "/events")]
    for path in (*lists, f"/api/jobs/{job.job_id}", *without_form(job.job_id)):
        before = dashboard.metric("joblease_storage_requests_total")
        assert (await http.get(path)).status_code == 200
        most = 3 if path == f"/jobs/{job.job_id}" else 2  # whose it is, what happened, and what people did
        assert dashboard.metric("joblease_storage_requests_total") - before <= most, path


async def test_the_openapi_document_tells_the_truth(jobs: Jobs, http: httpx.AsyncClient) -> None:
    import jsonschema

    history = History(jobs, "documented")
    await history.complete()
    await listed(http, "/api/jobs?name=documented", "events", lambda rows: len(rows) == 4)
    document = (await http.get("/openapi.json")).json()
    answers = {
        "/api/jobs": await http.get("/api/jobs?page_size=2"),
        "/api/requests": await http.get("/api/requests?page_size=2"),
        "/api/jobs/{jobId}": await http.get(f"/api/jobs/{history.job_id}"),
    }
    for path, answer in answers.items():
        schema = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.validate(answer.json(), {**schema, "components": document["components"]})


async def test_metrics_are_sound(dashboard: Program) -> None:
    await check_metrics(dashboard)
