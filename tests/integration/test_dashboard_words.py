"""The dashboard says what kubectl says, counts waiting as waiting, and shows what a newer release has written."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from joblease.states import REASONS, State
from support.history import History
from support.jobs import Jobs
from support.listed import listed
from support.programs import program


@pytest.fixture
async def http(amqp_url: str, storage: str, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    where = {"JOBLEASE_AMQP_URL": amqp_url, "JOBLEASE_STORAGE_CONNECTION_STRING": storage}
    async with (
        program("joblease-dashboard", where, tmp_path / "dashboard.log") as dashboard,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{dashboard.port}", timeout=10) as client,
    ):
        yield client


async def test_states_are_the_reasons_of_the_conditions(jobs: Jobs, http: httpx.AsyncClient) -> None:
    namespace = "ns-words"
    waiting = History(jobs, "waiting", namespace=namespace)
    await waiting.happen("Submitted", State.SUBMITTED, reason=State.WAITING_FOR_GROUP)
    suspended = History(jobs, "suspended", namespace=namespace)
    await suspended.happen("Submitted", State.SUBMITTED, reason=State.SUSPENDED)
    handed_over = History(jobs, "handed-over", namespace=namespace)
    for status, state in (
        ("Submitted", State.SUBMITTED),
        ("Started", State.RUNNING),
        ("Interrupted", State.INTERRUPTED),
    ):
        await handed_over.happen(status, state)
    for job, word in ((waiting, "WaitingForGroup"), (suspended, "Suspended"), (handed_over, "Queued")):
        path = f"/api/requests?namespace={namespace}&state={word}"
        rows = await listed(http, path, "jobs", bool)
        assert [row["jobId"] for row in rows] == [job.job_id]
        page = await http.get(f"/jobs/{job.job_id}")
        assert f"</svg>{word}</span>" in page.text
    events = (await http.get(f"/api/jobs/{handed_over.job_id}")).json()["events"]
    assert [event["state"] for event in events] == ["WaitingForGroup", "Running", "Queued"]
    assert {event["state"] for event in events} <= set(REASONS)
    assert all("reason" not in event for event in events)


async def test_a_job_that_was_handed_over_has_not_waited_through_its_first_run(
    jobs: Jobs, http: httpx.AsyncClient
) -> None:
    history = History(jobs, "handed", namespace="ns-handed")
    await history.happen("Submitted", State.SUBMITTED)
    first = await history.happen("Started", State.RUNNING, after=1)
    await history.happen("Interrupted", State.INTERRUPTED, after=558)
    second = await history.happen("Started", State.RUNNING)
    last = await history.happen("Completed", State.COMPLETED, after=10)
    (row,) = await listed(
        http, "/api/requests?namespace=ns-handed", "jobs", lambda rows: bool(rows) and "completedAt" in rows[0]
    )
    times = (row["startedAt"], row["runStartedAt"], row["completedAt"])
    told = [event.model_dump(mode="json", by_alias=True)["timestamp"] for event in (first, second, last)]
    assert list(times) == told
    page = (await http.get(f"/jobs/{history.job_id}")).text
    assert "9 min 28 s</dd>" in page
    assert "10 s to the end" in page


async def test_a_word_of_a_newer_release_is_shown_and_is_an_outcome(jobs: Jobs, http: httpx.AsyncClient) -> None:
    history = History(jobs, "newer", namespace="ns-newer")
    await history.happen("Submitted", State.SUBMITTED)
    await history.happen("Unheard", State("Unheard"), message="nothing to do")
    (row,) = await listed(
        http, "/api/requests?namespace=ns-newer", "jobs", lambda rows: bool(rows) and "completedAt" in rows[0]
    )
    assert row["state"] == "Unheard"
    for path in ("/", "/jobs?namespace=ns-newer", f"/jobs/{history.job_id}", "/events?namespace=ns-newer", "/queues"):
        answer = await http.get(path)
        assert answer.status_code == 200, path
    assert "</svg>Unheard</span>" in (await http.get(f"/jobs/{history.job_id}")).text
    stats = (await http.get("/api/stats")).json()
    assert sum(point["unknown"] for point in stats["points"]) == 1
