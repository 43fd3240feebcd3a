"""`joblease.testing`: users' own tests of what they submit, and of their handlers."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta

import joblease.testing
import pytest
from joblease import JobContext, PermanentError, handler
from joblease.client import JobFailed, JobWasCancelled, KeyConflict, Refused, submission
from joblease.states import State


@handler("testing-import")
def import_rows(job: JobContext, rows: int, fails: int = 0) -> dict[str, int]:
    begin = (job.last_checkpoint or {"row": 0})["row"]
    job.step("begins", progress=0.25, data={"row": begin})
    if job.attempt <= fails:
        job.checkpoint({"row": rows // 2})
        raise ConnectionError("gone")
    return {"rows": rows - begin}


@handler("testing-broken")
async def broken(job: JobContext) -> None:
    await asyncio.sleep(0)
    raise PermanentError("the input is broken")


@handler("testing-async")
async def polite(job: JobContext, name: str = "world") -> str:
    await asyncio.sleep(0)
    return f"hello {name}"


def test_a_handler_runs_where_it_is_submitted_and_its_trail_can_be_read() -> None:
    with joblease.testing.installation() as jobs:
        job = jobs.submit(import_rows, rows=10, fails=1)
        assert job.result() == {"rows": 5}
        assert [event.status for event in jobs.trail(job)] == [
            "Submitted", "Queued", "Started", "Step 1", "Retrying", "Started", "Step 2", "Completed",
        ]  # fmt: skip
        assert [(e.progress, e.data, e.attempt) for e in job.events() if e.status.startswith("Step")] == [
            (25, {"row": 0}, 1), (25, {"row": 5}, 2),
        ]  # fmt: skip


def test_whoever_does_not_want_to_wait_is_told_of_an_end_that_was() -> None:
    with joblease.testing.installation() as jobs:
        job = jobs.submit(polite)
        assert job.wait(0).state.terminal
        assert job.wait(-1).state.terminal


def test_failures_are_those_of_an_installation() -> None:
    with joblease.testing.installation() as jobs:
        failed = jobs.submit("testing-import", {"rows": 1, "fails": 9}, max_attempts=2)
        with pytest.raises(JobFailed, match="ConnectionError: gone"):
            failed.result()
        assert len([e for e in jobs.trail(failed) if e.status == "Started"]) == 2
        for_good = jobs.submit(broken)
        with pytest.raises(JobFailed, match="the input is broken"):
            for_good.result()
        assert len([e for e in jobs.trail(for_good) if e.status == "Started"]) == 1
        again = for_good.retry()
        assert (again.job_id != for_good.job_id, again.wait().state) == (True, State.FAILED)
        assert [job.job_id for job in jobs.jobs(state="Failed")] == [again.job_id, for_good.job_id, failed.job_id]
        assert [job.job_id for job in jobs.jobs(handler="testing-import")] == [failed.job_id]


def test_a_key_makes_a_submission_once() -> None:
    with joblease.testing.installation(namespace="shop") as jobs:
        first = jobs.submit("testing-import", {"rows": 2}, key="a", priority=1)
        again = jobs.submit("testing-import", {"rows": 2}, key="a", priority=2)
        assert (first.created, again.created, again.job_id) == (True, False, first.job_id)
        with pytest.raises(KeyConflict, match=r"parameters\.rows: first 2, now 3"):
            jobs.submit("testing-import", {"rows": 3}, key="a")
        assert jobs.submit("testing-import", {"rows": 3}, key="a", namespace="other").created
        assert len(list(jobs.jobs())) == 2


def test_what_an_installation_refuses_is_refused() -> None:
    with joblease.testing.installation() as jobs:
        with pytest.raises(Refused, match="no handler 'nobody'") as unknown:
            jobs.submit("nobody")
        assert (unknown.value.status, unknown.value.field) == (422, "spec.handler")
        found = jobs.submit_many([
            submission("testing-import", {"rows": "many"}), submission("testing-async"),
            submission("testing-async", priority=99),
        ])  # fmt: skip
        assert [each.field if isinstance(each, Refused) else "" for each in found] == [
            "spec.parameters", "", "spec.priority",
        ]  # fmt: skip


def test_jobs_that_wait_can_be_cancelled_suspended_and_run() -> None:
    with joblease.testing.installation(held=True) as jobs:
        cancelled, run = jobs.submit("testing-async"), jobs.submit("testing-async", {"name": "you"})
        suspended = jobs.submit("testing-async", suspend=True)
        later = jobs.submit("testing-async", start_after=datetime.now(UTC) + timedelta(days=1))
        with pytest.raises(AssertionError, match="nobody will run it: call run_waiting"):
            run.wait()
        cancelled.cancel()
        assert jobs.run_waiting() == 2
        with pytest.raises(JobWasCancelled):
            cancelled.result()
        with pytest.raises(Refused, match="too late"):
            cancelled.cancel()
        assert (run.result(), later.result(), suspended.refresh().state) == (
            "hello you",
            "hello world",
            State.SUSPENDED,
        )
        suspended.resume()
        suspended.change(priority=3)
        assert (jobs.run_waiting(), suspended.result()) == (1, "hello world")


@handler("testing-exit")
def leave(job: JobContext) -> None:
    raise SystemExit(3)


def test_what_no_installation_takes_the_double_does_not_take() -> None:
    with joblease.testing.installation(held=True) as jobs:
        for options in ({"labels": 5}, {"suspend": "no"}, {"priority": "x"}):
            with pytest.raises(Refused, match=f"{next(iter(options))}: "):
                jobs.submit("testing-async", **options)
        job = jobs.submit("testing-async")
        with pytest.raises(Refused, match=r"spec\.priority: "):
            job.change(priority="x")  # type: ignore[arg-type]
        with pytest.raises(Refused, match="state: there is no 'Nope'"):
            jobs.select(state="Nope").cancel()
        with pytest.raises(LookupError, match="no job of this test has the id 'x'"):
            jobs.trail("x")
        left = jobs.submit("testing-exit", max_attempts=1)
        assert jobs.run_waiting() == 2
        with pytest.raises(JobFailed, match="SystemExit: 3"):
            left.result()


def test_jobs_are_selected_by_their_labels() -> None:
    with joblease.testing.installation(held=True) as jobs:
        for name, labels in {"a": {"team": "a", "env": "x"}, "b": {"team": "b"}, "none": None}.items():
            jobs.submit("testing-async", {"name": name}, labels=labels)

        def count(labels: str | dict[str, str]) -> int:
            return jobs.select(labels=labels).cancel(dry_run=True).matched

        for text, matched in {"team=a": 1, "team==a,env=x": 1, "team=a,env!=x": 0, "team!=a": 2, "team": 2}.items():
            assert count(text) == matched, text
        assert (count("!team"), count({"team": "b"})) == (1, 1)
        for wrong in ("team in (a, b)", "!team=a", "="):
            with pytest.raises(Refused, match="the double does not know"):
                count(wrong)
        assert jobs.select(labels="team=b").cancel().done == 1
        assert jobs.run_waiting() == 2


def test_a_running_handler_is_cancelled_at_its_next_step() -> None:
    with joblease.testing.installation() as jobs:

        @handler("testing-cancelled")
        def cancels_itself(job: JobContext) -> None:
            jobs.job(job.id).cancel()
            job.step("never")

        job = jobs.submit(cancels_itself)
        assert [event.status for event in jobs.trail(job)] == ["Submitted", "Queued", "Started", "Cancelled"]


async def test_an_async_client_sees_the_same_jobs_and_no_thread_is_left() -> None:
    before = threading.active_count()
    with joblease.testing.installation() as jobs:
        async with jobs.async_client() as client:
            job = await client.submit(polite, name="you")
            assert await job.result() == "hello you"
            assert [event.status async for event in job.events()][-1] == "Completed"
        assert jobs.job(job.job_id).state is State.COMPLETED
    assert threading.active_count() == before
