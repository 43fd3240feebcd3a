"""The worker as a process, on a real broker and a real storage emulator."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from joblease import topology
from joblease.leases import slot_blob
from joblease.messages import JobEvent, RetryPolicy, Status
from joblease.states import State
from joblease.trail import NewEvent
from support.jobs import Jobs
from support.programs import Program, program

StartWorker = Callable[[str], AbstractAsyncContextManager[Program]]


@pytest.fixture
def start_worker(amqp_url: str, storage: str, tmp_path: Path) -> StartWorker:
    def start(name: str = "worker-1", **environment: str) -> AbstractAsyncContextManager[Program]:
        variables = {
            "JOBLEASE_AMQP_URL": amqp_url,
            "JOBLEASE_STORAGE_CONNECTION_STRING": storage,
            "JOBLEASE_HANDLERS": "support.handlers",
            "JOBLEASE_WORKER_NAME": name,
            "JOBLEASE_LEASE_SECONDS": "15",
            "JOBLEASE_DEFER_SECONDS": "1",
            "JOBLEASE_CANCEL_GRACE_SECONDS": "1",
            "JOBLEASE_DRAIN_GRACE_SECONDS": "0.2",
            **environment,
        }
        return program("joblease-worker", variables, tmp_path / f"{name}.log")

    return start


@pytest.fixture
async def worker(start_worker: StartWorker) -> AsyncIterator[Program]:
    async with start_worker("worker-1") as running:
        yield running


def words(events: list[JobEvent]) -> list[str]:
    return [event.status for event in events]


async def test_a_job_runs_and_its_history_is_complete(jobs: Jobs, worker: Program) -> None:
    job = await jobs.submit("steps", parameters={"count": 3})
    state, events = await jobs.outcome(job.job_id)
    assert state is State.COMPLETED
    assert words(events) == ["Submitted", "Queued", "Started", "Step 1", "Step 2", "Step 3", "Completed"]
    assert [event.sequence for event in events] == list(range(1, 8))
    assert [event.progress for event in events[3:]] == [33, 67, 100, 100]
    assert events[3].data == {"number": 1}
    assert [event.state for event in events[2:]] == [State.RUNNING] * 4 + [State.COMPLETED]
    assert {event.worker for event in events[2:]} == {"worker-1"}
    assert {event.epoch for event in events[2:]} == {1}
    assert [event.timestamp for event in events] == sorted(event.timestamp for event in events)


async def test_nothing_is_left_behind(jobs: Jobs, worker: Program) -> None:
    job = await jobs.submit("noop", group="left")
    await jobs.outcome(job.job_id)
    async with asyncio.timeout(5):
        while await jobs.blobs.holder(slot_blob("left", 0)) is not None:
            await asyncio.sleep(0.05)
    head = await jobs.trail.head(job.job_id)
    assert await jobs.is_held(job.job_id)
    await worker.stop(signal.SIGTERM)
    assert not await jobs.storage.locks().get_blob_client(head.claim_blob).exists()


async def test_parameters_result_and_trace_reach_the_handler(jobs: Jobs, worker: Program) -> None:
    job = await jobs.submit("echo", publish=False, parameters={"width": "12", "colour": "red"})
    await jobs.publish(job, traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    _, events = await jobs.outcome(job.job_id)
    result = (events[-1].data or {})["result"]
    assert (result["width"], result["others"], result["attempt"]) == (12, {"colour": "red"}, 1)
    assert result["traceparent"].startswith("00-0af7651916cd43dd8448eb211c80319c-")
    lines = [json.loads(line) for line in worker.output.splitlines() if "hello from" in line]
    assert (lines[0]["job"], lines[0]["attempt"], lines[0]["worker"]) == (job.job_id, 1, "worker-1")


@pytest.mark.parametrize(
    ("handler", "parameters", "message"),
    [
        ("echo", {"width": "wide"}, "the parameters do not fit handler 'echo': width: Input should be a valid integer"),
        ("fail-for-good", {}, "the input is broken"),
        ("not-json", {}, "the result is or holds what is not JSON"),
        ("large-result", {}, "5002 bytes of JSON; at most 4096 fit"),
    ],
)
async def test_what_cannot_work_fails_at_once(
    jobs: Jobs, worker: Program, handler: str, parameters: dict[str, str], message: str
) -> None:
    job = await jobs.submit(handler, parameters=parameters)
    state, events = await jobs.outcome(job.job_id)
    assert (state, words(events)[-2:]) == (State.FAILED, ["Started", "Failed"])
    assert message in events[-1].message
    after = await jobs.submit("noop")
    assert (await jobs.outcome(after.job_id))[0] is State.COMPLETED


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        ("fail", "ValueError: no luck in attempt 1"),
        ("exit", "ended by itself with exit code 3"),
        ("sys-exit", "sys.exit('enough')"),
        ("segfault", "killed by SIGSEGV"),
    ],
)
async def test_a_failed_attempt_is_to_be_repeated_and_the_worker_goes_on(
    jobs: Jobs, worker: Program, handler: str, message: str
) -> None:
    job = await jobs.submit(handler, retry=RetryPolicy(max_attempts=2, initial_seconds=30))
    head = await jobs.reaches(job.job_id, State.RETRYING)
    event = (await jobs.trail.history(job.job_id))[-1]
    assert event.status == Status.RETRYING
    assert message in event.message
    assert head.next_attempt_at
    assert head.updated_at
    assert 20 < (head.next_attempt_at - head.updated_at).total_seconds() < 40

    queued, _ = await jobs.trail.append(head, [NewEvent(Status.QUEUED)], state=State.QUEUED)
    await jobs.publish(job)  # its hint is out of date: the worker reads the head
    state, events = await jobs.outcome(job.job_id)
    assert (state, events[-1].attempt) == (State.FAILED, 2)
    assert "attempt 2 of 2 failed" in events[-1].message
    assert queued.attempt == 1


async def test_the_traceback_is_kept(jobs: Jobs, worker: Program) -> None:
    job = await jobs.submit("fail", retry=RetryPolicy(max_attempts=1))
    _, events = await jobs.outcome(job.job_id)
    assert "support/handlers.py" in (events[-1].data or {})["traceback"]


async def test_megabytes_of_output_do_no_harm(jobs: Jobs, worker: Program) -> None:
    job = await jobs.submit("talkative")
    state, _ = await jobs.outcome(job.job_id)
    assert state is State.COMPLETED
    async with asyncio.timeout(10):
        while "the rest is not logged" not in worker.output:
            await asyncio.sleep(0.05)
    assert len(worker.output) < 4 << 20


async def test_an_unreadable_message_is_parked_with_its_reason(jobs: Jobs, worker: Program) -> None:
    await jobs.broker.publish(topology.JOBS, "default", b"not json {", message_id="nonsense")
    channel = await _channel(jobs)
    dead = await channel.get_queue(topology.DEAD)
    async with asyncio.timeout(10):
        while (message := await dead.get(no_ack=True, fail=False)) is None:
            await asyncio.sleep(0.05)
    assert message.body == b"not json {"
    assert "not a job message" in str(message.headers[topology.REASON_HEADER])
    after = await jobs.submit("noop")
    assert (await jobs.outcome(after.job_id))[0] is State.COMPLETED


async def test_one_of_a_group_at_a_time(jobs: Jobs, start_worker: StartWorker, tmp_path: Path) -> None:
    record = tmp_path / "record"
    async with start_worker("worker-1"), start_worker("worker-2"):
        first, second = [
            await jobs.submit("hold", parameters={"seconds": 0.5, "record": str(record)}) for _ in range(2)
        ]
        for job in (first, second):
            assert (await jobs.outcome(job.job_id))[0] is State.COMPLETED
    runs = [line.split(":")[0] for line in record.read_text().splitlines()]
    assert runs == ["start", "end", "start", "end"]
    histories = [words(await jobs.trail.history(job.job_id)) for job in (first, second)]
    assert any("Deferred" in history for history in histories)


async def test_no_limit_means_side_by_side(jobs: Jobs, start_worker: StartWorker, tmp_path: Path) -> None:
    record = tmp_path / "record"
    async with start_worker("worker-1"), start_worker("worker-2"):
        submitted = [
            await jobs.submit("hold", limit=0, slot=None, parameters={"seconds": 2, "record": str(record)})
            for _ in range(2)
        ]
        for job in submitted:
            assert (await jobs.outcome(job.job_id))[0] is State.COMPLETED
    assert [line.split(":")[0] for line in record.read_text().splitlines()] == ["start", "start", "end", "end"]


async def test_a_duplicate_is_skipped(jobs: Jobs, worker: Program, tmp_path: Path) -> None:
    record = tmp_path / "record"
    job = await jobs.submit("noop", parameters={"record": str(record)})
    await jobs.outcome(job.job_id)
    await jobs.publish(job)
    await jobs.publish(job)
    after = await jobs.submit("noop")
    await jobs.outcome(after.job_id)
    assert len(record.read_text().splitlines()) == 1
    assert words(await jobs.trail.history(job.job_id)).count("Completed") == 1


@pytest.mark.parametrize("handler", ["hold", "hold-async", "stubborn"])
async def test_a_running_job_is_cancelled(jobs: Jobs, worker: Program, handler: str) -> None:
    job = await jobs.submit(handler)
    await jobs.reaches(job.job_id, State.RUNNING)
    await jobs.cancel(job.job_id)
    state, events = await jobs.outcome(job.job_id)
    assert (state, words(events)[-1]) == (State.CANCELLED, "Cancelled")
    assert (await jobs.outcome((await jobs.submit("noop")).job_id))[0] is State.COMPLETED


async def test_a_cancel_request_before_the_claim_is_seen(jobs: Jobs, worker: Program) -> None:
    job = await jobs.submit("noop", publish=False)
    await jobs.trail.append(await jobs.trail.head(job.job_id), [], cancel_requested=True)
    await jobs.publish(job)
    state, events = await jobs.outcome(job.job_id)
    assert (state, words(events)) == (State.CANCELLED, ["Submitted", "Queued", "Cancelled"])


async def test_the_deadline_ends_an_attempt(jobs: Jobs, worker: Program) -> None:
    job = await jobs.submit("hold", active_deadline_seconds=0.5, retry=RetryPolicy(max_attempts=1))
    state, events = await jobs.outcome(job.job_id)
    assert state is State.DEADLINE_EXCEEDED
    assert "did not end within activeDeadlineSeconds (0.5 s)" in events[-1].message


async def test_sigterm_hands_the_job_to_another_worker(jobs: Jobs, start_worker: StartWorker) -> None:
    async with start_worker("worker-1") as first, start_worker("worker-2") as second:
        job = await jobs.submit("hold", parameters={"seconds": 4})
        head = await jobs.reaches(job.job_id, State.RUNNING)
        has, other = (first, "worker-2") if head.worker == "worker-1" else (second, "worker-1")
        assert await has.stop() == 0
        state, events = await jobs.outcome(job.job_id)
    assert state is State.COMPLETED
    assert [word for word in words(events) if not word.startswith("Step")] == [
        "Submitted", "Queued", "Started", "Interrupted", "Started", "Completed",
    ]  # fmt: skip
    assert {event.attempt for event in events[2:]} == {1}
    assert events[-1].worker == other
    assert events[-1].epoch == 2
    interrupted, started = [event for event in events if event.status in ("Interrupted", "Started")][-2:]
    assert (started.timestamp - interrupted.timestamp).total_seconds() < 1


async def test_a_killed_workers_job_completes_on_another(jobs: Jobs, start_worker: StartWorker, tmp_path: Path) -> None:
    record = tmp_path / "record"
    async with start_worker("worker-1") as first:
        job = await jobs.submit("hold", parameters={"seconds": 2, "record": str(record)})
        await jobs.reaches(job.job_id, State.RUNNING)
        async with asyncio.timeout(10):
            while not record.exists():
                await asyncio.sleep(0.05)
        await first.stop(signal.SIGKILL)
        async with start_worker("worker-2"):
            state, events = await jobs.outcome(job.job_id, timeout=45)
    assert state is State.COMPLETED
    started = [event for event in events if event.status == "Started"]
    assert [(event.worker, event.attempt, event.epoch) for event in started] == [
        ("worker-1", 1, 1), ("worker-2", 2, 2),
    ]  # fmt: skip
    lost = next(event for event in events if event.status == "Interrupted")
    assert (lost.attempt, lost.worker) == (1, "worker-1")
    assert [line.split(":")[0] for line in record.read_text().splitlines()] == ["start", "start", "end"]


async def test_a_job_that_kills_its_workers_ends(jobs: Jobs, worker: Program) -> None:
    job = await jobs.submit("noop", publish=False, retry=RetryPolicy(max_attempts=2))
    head = await jobs.trail.head(job.job_id)
    started = [NewEvent(Status.STARTED, worker="worker-0")]
    await jobs.trail.append(head, started, state=State.RUNNING, attempt=2, epoch=2, worker="worker-0")
    await jobs.publish(job)
    state, events = await jobs.outcome(job.job_id)
    assert (state, words(events)[-2:]) == (State.WORKER_CRASHED, ["Interrupted", "Failed"])
    assert events[-1].data == {"reason": "WorkerCrashed"}


async def _channel(jobs: Jobs) -> Any:
    await jobs.broker.connected()
    publisher = jobs.broker._publisher.present
    assert publisher is not None
    return publisher.channels[0]
