"""Handlers that misbehave, leases that are lost, workers that are stopped: who lives, and for how long."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

import pytest
from joblease.messages import RetryPolicy
from joblease.states import State
from joblease_worker.guardian import Guardian
from support.jobs import Jobs
from support.programs import Program, alive, program
from support.tcp_proxy import storage_through_proxies

StartWorker = Callable[..., AbstractAsyncContextManager[Program]]
LEASE_SECONDS = 15


@pytest.fixture
def start_worker(amqp_url: str, storage: str, tmp_path: Path) -> StartWorker:
    def start(name: str = "worker-1", **environment: str) -> AbstractAsyncContextManager[Program]:
        variables = {
            "JOBLEASE_AMQP_URL": amqp_url,
            "JOBLEASE_STORAGE_CONNECTION_STRING": storage,
            "JOBLEASE_HANDLERS": "support.handlers",
            "JOBLEASE_WORKER_NAME": name,
            "JOBLEASE_LEASE_SECONDS": str(LEASE_SECONDS),
            "JOBLEASE_DEFER_SECONDS": "1",
            "JOBLEASE_AMQP_HEARTBEAT_SECONDS": "3",
            "JOBLEASE_CANCEL_GRACE_SECONDS": "1",
            "JOBLEASE_DRAIN_GRACE_SECONDS": "0.2",
            **environment,
        }
        return program("joblease-worker", variables, tmp_path / f"{name}.log")

    return start


async def until(condition: Callable[[], bool], timeout: float = 2 * LEASE_SECONDS) -> None:
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.02)


async def recorded(record: Path, lines: int = 1, timeout: float = 10) -> list[str]:
    def read() -> list[str]:
        return record.read_text().splitlines() if record.exists() else []

    await until(lambda: len(read()) >= lines, timeout)
    return read()


async def test_a_handler_that_holds_the_interpreter_keeps_its_lease_and_can_be_cancelled(
    jobs: Jobs, start_worker: StartWorker
) -> None:
    async with start_worker():
        job = await jobs.submit("endless")
        await jobs.reaches(job.job_id, State.RUNNING)
        held_until = time.monotonic() + LEASE_SECONDS + 5
        while time.monotonic() < held_until:
            assert await jobs.is_held(job.job_id)
            await asyncio.sleep(0.5)
        await jobs.cancel(job.job_id)
        state, events = await jobs.outcome(job.job_id)
    assert state is State.CANCELLED
    assert {event.epoch for event in events[2:]} == {1}


async def test_memory_beyond_the_limit_costs_one_attempt(jobs: Jobs, start_worker: StartWorker) -> None:
    async with start_worker(JOBLEASE_JOB_MEMORY_LIMIT_MIB="256") as worker:
        job = await jobs.submit("greedy", retry=RetryPolicy(max_attempts=1))
        state, events = await jobs.outcome(job.job_id)
        assert state is State.FAILED
        assert "JOBLEASE_JOB_MEMORY_LIMIT_MIB=256" in events[-1].message
        assert (await jobs.outcome((await jobs.submit("noop")).job_id))[0] is State.COMPLETED
        assert await asyncio.to_thread(worker.metric, "joblease_handler_processes_total") == 1


async def test_a_flood_of_steps_is_batched_and_complete(jobs: Jobs, start_worker: StartWorker) -> None:
    count = 3_000
    async with start_worker() as worker:
        job = await jobs.submit("steps", parameters={"count": count})
        state, events = await jobs.outcome(job.job_id, timeout=90)
        assert state is State.COMPLETED
        assert [event.status for event in events[3:-1]] == [f"Step {n}" for n in range(1, count + 1)]
        assert await asyncio.to_thread(worker.metric, "joblease_storage_requests_total") < count / 20


async def test_a_broken_lease_in_a_flood_of_steps_ends_the_run(
    jobs: Jobs, start_worker: StartWorker, tmp_path: Path
) -> None:
    async with start_worker():
        job = await jobs.submit("steps", parameters={"count": 1_000_000})
        head = await jobs.reaches(job.job_id, State.RUNNING)
        while True:  # as another worker would that holds the lease now
            try:
                await jobs.trail.append(head, [], epoch=head.epoch + 1, state=State.CANCELLED)
            except Exception as changed:  # noqa: BLE001 - the run writes as well
                head = getattr(changed, "current", head)
            else:
                break
        assert (await jobs.outcome((await jobs.submit("noop")).job_id))[0] is State.COMPLETED
    assert (await jobs.trail.head(job.job_id)).state is State.CANCELLED


async def test_a_lease_broken_by_somebody_else_kills_the_handler_and_the_job_goes_on(
    jobs: Jobs, start_worker: StartWorker, tmp_path: Path
) -> None:
    record = tmp_path / "record"
    async with start_worker():
        job = await jobs.submit("hold", parameters={"seconds": 8, "record": str(record)})
        first = int((await recorded(record))[0].split()[1])
        await jobs.break_session(job.job_id)
        await until(lambda: not alive(first), timeout=LEASE_SECONDS)
        state, events = await jobs.outcome(job.job_id, timeout=40)
    assert state is State.COMPLETED
    assert [line.split(":")[0] for line in record.read_text().splitlines()] == ["start", "start", "end"]
    assert [event.epoch for event in events if event.status == "Started"] == [1, 2]


async def test_a_stopped_worker_loses_its_handler_before_its_lease(
    jobs: Jobs, start_worker: StartWorker, tmp_path: Path
) -> None:
    record = tmp_path / "record"
    async with start_worker("worker-1") as first:
        job = await jobs.submit("hold", parameters={"seconds": 20, "record": str(record)})
        pid = int((await recorded(record))[0].split()[1])
        first.process.send_signal(signal.SIGSTOP)
        stopped_at = time.monotonic()
        async with start_worker("worker-2"):
            await until(lambda: not alive(pid), timeout=LEASE_SECONDS)
            died_after = time.monotonic() - stopped_at
            lines = await recorded(record, 2, timeout=30)
            taken_after = time.monotonic() - stopped_at
            first.process.send_signal(signal.SIGCONT)
            state, events = await jobs.outcome(job.job_id, timeout=60)
            assert (await jobs.outcome((await jobs.submit("noop")).job_id))[0] is State.COMPLETED
            await first.ready()
    assert died_after < taken_after
    assert state is State.COMPLETED
    assert [line.split(":")[0] for line in lines] == ["start", "start"]
    assert [event.worker for event in events if event.status == "Started"] == ["worker-1", "worker-2"]
    assert events[-1].worker == "worker-2"


@pytest.mark.parametrize(
    ("outage", "runs", "epochs"),
    [(LEASE_SECONDS * 0.5, ["start", "end"], [1]), (None, ["start", "start", "end"], [1, 2])],
)
async def test_a_storage_outage_costs_a_run_only_if_it_outlasts_the_lease(
    jobs: Jobs,
    start_worker: StartWorker,
    storage: str,
    tmp_path: Path,
    outage: float | None,
    runs: list[str],
    epochs: list[int],
) -> None:
    record = tmp_path / "record"
    async with AsyncExitStack() as stack:
        connection, proxies = await storage_through_proxies(storage, stack)
        settings = {"JOBLEASE_STORAGE_CONNECTION_STRING": connection, "JOBLEASE_STORAGE_TIMEOUT_SECONDS": "2"}
        await stack.enter_async_context(start_worker(**settings))
        job = await jobs.submit("hold", parameters={"seconds": 12, "record": str(record)})
        pid = int((await recorded(record))[0].split()[1])
        await jobs.reaches(job.job_id, State.RUNNING)
        for proxy in proxies:
            proxy.block()
        if outage:
            await asyncio.sleep(outage)
        else:  # the lease is free for others only after the handler has died
            await until(lambda: not alive(pid), timeout=LEASE_SECONDS)
            assert await jobs.is_held(job.job_id)
        for proxy in proxies:
            proxy.cut()
            proxy.unblock()
        state, events = await jobs.outcome(job.job_id, timeout=60)
    assert state is State.COMPLETED
    assert [line.split(":")[0] for line in record.read_text().splitlines()] == runs
    assert [event.epoch for event in events if event.status == "Started"] == epochs


@pytest.mark.parametrize("lost", ["request", "answer"])
async def test_a_step_whose_write_fails_as_the_lease_is_lost_leaves_no_gap(
    jobs: Jobs, start_worker: StartWorker, storage: str, lost: str
) -> None:
    """The first step's write fails, the others wait behind it, the lease goes, storage is back for the last word."""
    failing = asyncio.Event()

    def observe(kind: str, block: bytes) -> bool:
        if kind == "request" and b"Step 1" in block and not healed:
            failing.set()
        return healed or not (failing.is_set() and kind == lost)

    healed = False
    async with AsyncExitStack() as stack:
        connection, proxies = await storage_through_proxies(storage, stack)
        settings = {"JOBLEASE_STORAGE_CONNECTION_STRING": connection, "JOBLEASE_STORAGE_TIMEOUT_SECONDS": "1"}
        worker = await stack.enter_async_context(start_worker(**settings))
        proxies[-1].observer = observe
        # It rests, or its outcome might be in the first write already, and there would be nothing to run again.
        job = await jobs.submit("steps", parameters={"count": 40, "rest": 1})
        await asyncio.wait_for(failing.wait(), 20)
        await jobs.break_session(job.job_id)
        await until(lambda: "lease lost" in worker.output, timeout=LEASE_SECONDS)
        healed = True
        state, events = await jobs.outcome(job.job_id, timeout=40)
    assert state is State.COMPLETED
    words = [event.status for event in events]
    second = words.index("Started", words.index("Started") + 1)
    steps = [[word for word in run if word.startswith("Step ")] for run in (words[:second], words[second:])]
    whole = [f"Step {n}" for n in range(1, 41)]
    assert steps[1] == whole
    assert steps[0] == whole[: len(steps[0])]


@pytest.mark.parametrize("jump", [600, -600])
async def test_a_wall_clock_that_jumps_moves_no_deadline(
    jobs: Jobs, start_worker: StartWorker, tmp_path: Path, jump: int
) -> None:
    library = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)  # noqa: ASYNC240
    if library is None:
        if os.environ.get("CI"):
            raise AssertionError("libfaketime is missing")
        pytest.skip("libfaketime (Debian's package faketime) is not on this machine")
    clock = tmp_path / "clock"
    clock.write_text("+0")
    settings = {"LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(clock), "DONT_FAKE_MONOTONIC": "1"}
    async with start_worker(FAKETIME_NO_CACHE="1", **settings):
        seconds = LEASE_SECONDS + 5.0  # asynchronous, because libfaketime breaks time.sleep
        job = await jobs.submit("hold-async", group=f"clock{jump}", parameters={"seconds": seconds})
        await jobs.reaches(job.job_id, State.RUNNING)
        clock.write_text(f"{jump:+d}")
        state, events = await jobs.outcome(job.job_id, timeout=seconds + 20)
    assert state is State.COMPLETED
    started, ended = (next(event for event in events if event.status == word) for word in ("Started", "Completed"))
    assert ended.epoch == 1
    assert abs((ended.timestamp - started.timestamp).total_seconds() - seconds - jump) < 30  # the clock did jump


@pytest.mark.parametrize("how", ["cancelled", "crashed handler", "drained", "killed worker"])
async def test_what_a_handler_has_started_dies_with_its_run(
    jobs: Jobs, start_worker: StartWorker, tmp_path: Path, how: str
) -> None:
    record = tmp_path / "record"
    async with start_worker() as worker:
        job = await jobs.submit(
            "offspring",
            group=how.replace(" ", "-"),  # a killed worker's lease must not hold up the others
            parameters={"record": str(record), "crash": how == "crashed handler"},
            retry=RetryPolicy(max_attempts=1),
        )
        offspring = int((await recorded(record))[0])
        if how == "killed worker":
            await worker.stop(signal.SIGKILL)
        elif how == "cancelled":
            await jobs.reaches(job.job_id, State.RUNNING)
            await jobs.cancel(job.job_id)
        elif how == "drained":
            await worker.stop()
            await jobs.trail.append(await jobs.trail.head(job.job_id), [], state=State.CANCELLED)  # nobody goes on
        await until(lambda: not alive(offspring))
        if how != "killed worker":
            await jobs.outcome(job.job_id)


async def test_a_guardian_that_dies_is_replaced_and_knows_all_deadlines() -> None:
    guardian = Guardian()
    guardian.start()
    guarded = await asyncio.create_subprocess_exec("sleep", "60", start_new_session=True)
    guardian.expect(guarded.pid, "job/1", time.monotonic() + 1)
    before = guardian._process
    assert before is not None
    os.kill(before.pid, signal.SIGKILL)
    before.wait()
    guardian.expect(guarded.pid, "group/1/0", time.monotonic() + 60)
    assert guardian._process is not before
    assert await asyncio.wait_for(guarded.wait(), 5) == -signal.SIGKILL
    await asyncio.to_thread(guardian.close)


async def test_a_guardian_lets_live_what_is_renewed_or_forgotten() -> None:
    guardian = Guardian()
    guardian.start()
    renewed, forgotten = [await asyncio.create_subprocess_exec("sleep", "60", start_new_session=True) for _ in range(2)]
    soon = time.monotonic() + 0.3
    for process in (renewed, forgotten):
        guardian.expect(process.pid, "job/1", soon)
    guardian.expect(renewed.pid, "job/1", soon + 60)
    guardian.forget(forgotten.pid, "job/1")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(renewed.wait(), 1)
    assert forgotten.returncode is None
    await asyncio.to_thread(guardian.close)  # what is still guarded goes with it
    assert await asyncio.wait_for(renewed.wait(), 5) == -signal.SIGKILL
    forgotten.kill()
    await forgotten.wait()
