"""A run and what may befall it: refusals of storage, lost leases, orders at bad moments, processes that do not end."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from joblease.messages import JobEvent, RetryPolicy, Status, now
from joblease.states import State
from joblease.trail import NewEvent
from joblease_worker import run
from joblease_worker.pool import Ending
from support.jobs import Jobs
from support.tcp_proxy import storage_through_proxies
from support.worker import Worker, clock_ahead, open_worker

REFUSED = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.fixture
async def worker(jobs: Jobs, amqp_url: str, storage: str) -> AsyncIterator[Worker]:
    async with open_worker(amqp_url, storage) as opened:
        yield opened


def words(events: list[JobEvent]) -> list[str]:
    return [event.status for event in events]


async def until(condition: Callable[[], bool], timeout: float = 30) -> None:
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.02)


async def says_its_steps(jobs: Jobs, job_id: str, count: int) -> None:
    async with asyncio.timeout(30):
        while sum(word.startswith("Step ") for word in words(await jobs.trail.history(job_id))) < count:
            await asyncio.sleep(0.05)


async def test_steps_that_together_are_too_large_for_a_transaction_are_all_written(jobs: Jobs, worker: Worker) -> None:
    job = await jobs.submit("bulky", parameters={"count": 150})
    state, events = await jobs.outcome(job.job_id, timeout=60)
    assert state is State.COMPLETED
    assert words(events)[3:-1] == [f"Step {n}" for n in range(1, 151)]


@pytest.mark.parametrize(
    ("poison", "message"),
    [
        (b"step 2", "attempt 1 failed for good: a step cannot be recorded: HttpResponseError"),
        (b'"Completed"', "attempt 1 failed for good: the outcome cannot be recorded: HttpResponseError"),
    ],
)
async def test_what_storage_refuses_for_good_fails_its_job_at_once_and_no_other(
    jobs: Jobs, amqp_url: str, storage: str, tmp_path: Path, poison: bytes, message: str
) -> None:
    async with AsyncExitStack() as stack:
        connection, proxies = await storage_through_proxies(storage, stack)
        table = proxies[-1]

        def refuse(kind: str, block: bytes) -> bool:
            if kind == "request":
                table.refusal = REFUSED if poison in block else None
            return True

        table.observer = refuse
        await stack.enter_async_context(open_worker(amqp_url, connection))
        for number in (1, 2):
            (tmp_path / str(number)).touch()
        job = await jobs.submit("paced", parameters={"folder": str(tmp_path), "count": 3 if b"step" in poison else 2})
        state, events = await jobs.outcome(job.job_id)
        assert state is State.FAILED
        assert message in events[-1].message
        after = await jobs.submit("hold", parameters={"seconds": 0})
        assert (await jobs.outcome(after.job_id))[0] is (State.COMPLETED if b"step" in poison else State.FAILED)


@pytest.mark.parametrize("what", ["Step 1", "Completed"])
async def test_a_fault_of_ours_costs_an_attempt_and_not_the_job(
    jobs: Jobs, worker: Worker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, what: str
) -> None:
    trail = worker.consumer._work._trail
    append = trail.append

    async def faulty(head: Any, events: Any, **changes: Any) -> Any:
        if any(event.status == what for event in events):
            raise KeyError("ours")
        return await append(head, events, **changes)

    monkeypatch.setattr(trail, "append", faulty)
    (tmp_path / "1").touch()
    job = await jobs.submit("paced", parameters={"folder": str(tmp_path), "count": 1 if what == "Completed" else 2})
    await jobs.reaches(job.job_id, State.RETRYING)
    event = (await jobs.trail.history(job.job_id))[-1]
    assert event.message.startswith("attempt 1 of 3 failed: ")
    assert "cannot be recorded: KeyError: 'ours'" in event.message


@pytest.mark.parametrize("order", ["cancel", "deadline"])
async def test_a_handler_is_stopped_while_the_trail_cannot_be_written(
    jobs: Jobs, amqp_url: str, storage: str, tmp_path: Path, order: str
) -> None:
    async with AsyncExitStack() as stack:
        connection, proxies = await storage_through_proxies(storage, stack)
        worker = await stack.enter_async_context(open_worker(amqp_url, connection))
        record = tmp_path / "record"
        deadline = 3 if order == "deadline" else None
        parameters = {"seconds": 60, "record": str(record)}
        retry = RetryPolicy(max_attempts=1)
        job = await jobs.submit("hold", parameters=parameters, active_deadline_seconds=deadline, retry=retry)
        await says_its_steps(jobs, job.job_id, 1)
        proxies[-1].block()
        if order == "cancel":
            await jobs.cancel(job.job_id)
        await until(lambda: "stopped" in record.read_text(), timeout=10)
        await until(lambda: all(run._process is None for run in worker.consumer._work.runs.values()))
        proxies[-1].cut()
        proxies[-1].unblock()
        state, events = await jobs.outcome(job.job_id)
    assert state is {"cancel": State.CANCELLED, "deadline": State.DEADLINE_EXCEEDED}[order]
    assert "the handler ended when it was asked to" in events[-1].message


@pytest.mark.parametrize("how", ["asked", "killed"])
async def test_the_trail_says_whether_a_stopped_handler_had_to_be_killed(
    jobs: Jobs, worker: Worker, tmp_path: Path, how: str
) -> None:
    record = tmp_path / "record"
    job = await jobs.submit("hold" if how == "asked" else "stubborn", parameters={"record": str(record)})
    await until(record.exists)
    await jobs.cancel(job.job_id)
    _, events = await jobs.outcome(job.job_id)
    said = {
        "asked": "the handler ended when it was asked to",
        "killed": "the handler did not end within 1 s of being asked to, and was killed",
    }
    assert events[-1].message == f"cancelled while it was running: {said[how]}"
    assert "support/handlers.py" in (events[-1].data or {})["traceback"]


@pytest.mark.parametrize("handler", ["hold", "stubborn", "spin"])
async def test_the_trail_says_where_a_handler_stood_when_its_time_was_over(
    jobs: Jobs, worker: Worker, handler: str
) -> None:
    job = await jobs.submit(handler, active_deadline_seconds=1, retry=RetryPolicy(max_attempts=1))
    state, events = await jobs.outcome(job.job_id)
    assert state is State.DEADLINE_EXCEEDED
    lines = (events[-1].data or {})["traceback"].splitlines()
    assert lines[0] == "Where it stood (most recent call first):"
    assert "support/handlers.py" in lines[-1]
    assert lines[-1].endswith(f" in {handler}")
    assert (await jobs.outcome((await jobs.submit("noop")).job_id))[0] is State.COMPLETED


async def test_nobody_waits_for_a_handler_that_does_not_say_where_it_stands(jobs: Jobs, worker: Worker) -> None:
    job = await jobs.submit("silent", active_deadline_seconds=1, retry=RetryPolicy(max_attempts=1))
    state, events = await jobs.outcome(job.job_id)
    assert state is State.DEADLINE_EXCEEDED
    assert "traceback" not in (events[-1].data or {})
    assert (events[-1].timestamp - events[2].timestamp).total_seconds() < 4  # the deadline, and the grace period


async def test_a_run_whose_lease_was_lost_uses_up_an_attempt(jobs: Jobs, worker: Worker, tmp_path: Path) -> None:
    job = await jobs.submit("hold", retry=RetryPolicy(max_attempts=2))
    for attempt in (1, 2):
        await says_its_steps(jobs, job.job_id, attempt)
        await jobs.break_session(job.job_id)
    state, events = await jobs.outcome(job.job_id, timeout=60)
    assert state is State.WORKER_CRASHED
    assert [word for word in words(events) if not word.startswith("Step")] == [
        "Submitted", "Queued", "Started", "Interrupted", "Started", "Interrupted", "Failed",
    ]  # fmt: skip
    assert [event.attempt for event in events if event.status == "Interrupted"] == [1, 2]


async def test_a_machine_that_has_slept_too_long_kills_first(jobs: Jobs, worker: Worker, tmp_path: Path) -> None:
    job = await jobs.submit("paced", parameters={"folder": str(tmp_path), "count": 2})
    (tmp_path / "1").touch()
    await says_its_steps(jobs, job.job_id, 1)
    with clock_ahead(100):
        (tmp_path / "2").touch()  # it would complete now
        state, events = await jobs.outcome(job.job_id, timeout=40)
    assert state is State.COMPLETED
    assert [event.attempt for event in events if event.status == "Started"] == [1, 2]
    assert [event.attempt for event in events if event.status == "Completed"] == [2]


async def test_the_deadline_bounds_an_attempt_across_a_hand_over(
    jobs: Jobs, amqp_url: str, storage: str, tmp_path: Path
) -> None:
    deadline, first_part = 10.0, 5.0
    async with open_worker(amqp_url, storage) as first:
        job = await jobs.submit("hold", active_deadline_seconds=deadline, retry=RetryPolicy(max_attempts=1))
        await says_its_steps(jobs, job.job_id, 1)
        await asyncio.sleep(first_part)
        await first.stop()
    async with open_worker(amqp_url, storage, worker_name="worker-2"):
        state, events = await jobs.outcome(job.job_id, timeout=60)
    assert state is State.DEADLINE_EXCEEDED
    starts = [event for event in events if event.status == "Started"]
    assert [event.attempt for event in starts] == [1, 1]
    assert (events[-1].timestamp - starts[1].timestamp).total_seconds() < deadline - first_part + 2


async def test_a_job_whose_deadline_passed_between_two_workers_is_not_started_again(
    jobs: Jobs, worker: Worker, tmp_path: Path
) -> None:
    record = tmp_path / "record"
    job = await jobs.submit(
        "noop", publish=False, active_deadline_seconds=30, retry=RetryPolicy(max_attempts=1),
        parameters={"record": str(record)},
    )  # fmt: skip
    head = await jobs.trail.head(job.job_id)
    began = now() - timedelta(seconds=60)
    interrupted = [NewEvent(Status.INTERRUPTED)]
    await jobs.trail.append(
        head, interrupted, state=State.INTERRUPTED, attempt=1, epoch=1, worker="worker-0", attempt_started_at=began
    )
    await jobs.publish(job)
    state, events = await jobs.outcome(job.job_id)
    assert state is State.DEADLINE_EXCEEDED
    assert "did not end within activeDeadlineSeconds (30 s); the handler had not begun" in events[-1].message
    assert not record.exists()


@pytest.mark.parametrize("how", ["order", "head"])
async def test_a_cancel_during_a_drain_is_not_lost(jobs: Jobs, worker: Worker, how: str) -> None:
    job = await jobs.submit("stubborn" if how == "order" else "hold")
    await jobs.reaches(job.job_id, State.RUNNING)
    await until(lambda: any(run._process for run in worker.consumer._work.runs.values()))
    if how == "head":  # written, but the order itself has not come
        head = await jobs.trail.head(job.job_id)
        while True:
            try:
                await jobs.trail.append(head, [], cancel_requested=True)
                break
            except Exception as changed:  # noqa: BLE001 - the run writes as well
                head = getattr(changed, "current", head)
    draining = asyncio.create_task(worker.stop())
    if how == "order":
        await until(lambda: all(run.why for run in worker.consumer._work.runs.values()))
        await jobs.cancel(job.job_id)
    state, events = await jobs.outcome(job.job_id)
    await draining
    assert (state, words(events)[-1]) == (State.CANCELLED, "Cancelled")


async def test_a_repeated_order_does_not_prolong_the_grace_period(jobs: Jobs, worker: Worker) -> None:
    job = await jobs.submit("stubborn")
    await jobs.reaches(job.job_id, State.RUNNING)
    async with asyncio.timeout(20):
        while not (await jobs.trail.head(job.job_id)).state.terminal:
            await jobs.cancel(job.job_id)
            await asyncio.sleep(0.1)
    assert (await jobs.trail.head(job.job_id)).state is State.CANCELLED


class Stub:
    """A handler process that does what no real one can be brought to do."""

    def __init__(self, does: Callable[[], Any]) -> None:
        self.handlers = {"stub": SimpleNamespace()}
        self.pid = os.getpid()  # it exists, whatever one does
        self.killed: list[str] = []
        self._does = does

    @contextlib.asynccontextmanager
    async def process(self) -> AsyncIterator["Stub"]:
        yield self

    async def run(self, *_: Any) -> Ending:
        return await self._does()  # type: ignore[no-any-return]

    def ask_to_stop(self, job_id: str) -> None:
        """It does not listen."""

    def kill(self, why: str) -> None:
        self.killed.append(why)


async def test_a_process_that_cannot_be_killed_does_not_hold_up_the_run(
    jobs: Jobs, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "KILL_SECONDS", 0.2)
    stub = Stub(asyncio.Event().wait)
    worker.consumer._work._pool = stub  # type: ignore[assignment]
    monkeypatch.setattr(worker.keeper, "guard", lambda *_: None)
    job = await jobs.submit("stub", active_deadline_seconds=0.5, retry=RetryPolicy(max_attempts=1))
    state, events = await jobs.outcome(job.job_id)
    assert state is State.DEADLINE_EXCEEDED
    assert "did not end within 0.2 s of being killed" in events[-1].message
    assert stub.killed


async def test_what_fails_inside_a_run_is_the_end_of_this_run_alone(
    jobs: Jobs, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def breaks() -> Ending:
        raise LookupError("nobody foresaw this")

    stub = Stub(breaks)
    worker.consumer._work._pool = stub  # type: ignore[assignment]
    monkeypatch.setattr(worker.keeper, "guard", lambda *_: None)
    job = await jobs.submit("stub", retry=RetryPolicy(max_attempts=1))
    state, events = await jobs.outcome(job.job_id)
    assert state is State.FAILED
    assert "LookupError: nobody foresaw this" in events[-1].message
    assert stub.killed
    worker.consumer._work._pool = worker.pool
    assert (await jobs.outcome((await jobs.submit("noop")).job_id))[0] is State.COMPLETED
