"""What one job does touches no other: hostile handlers on a real worker, each with an innocent job behind it."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from joblease.messages import JobEvent, RetryPolicy
from joblease.states import State
from support.hostile import CHANGES, WAYS
from support.jobs import Jobs, open_jobs
from support.programs import Program, alive, program

ONCE = RetryPolicy(max_attempts=1)
KEYS = {"JOBLEASE_AMQP_URL", "JOBLEASE_STORAGE_CONNECTION_STRING"}
"""Variables of the worker that no handler may see."""


class Lane:
    """A queue and a group of a test's own, so that what it leaves in them meets no other test."""

    def __init__(self, jobs: Jobs, settings: dict[str, str], folder: Path) -> None:
        self.jobs = jobs
        self.name = f"lane-{uuid4().hex[:8]}"
        self._settings = {
            **settings,
            "JOBLEASE_HANDLERS": "support.hostile",
            "JOBLEASE_WORKER_NAME": "worker-1",
            "JOBLEASE_WORKER_QUEUE": self.name,
            "JOBLEASE_LEASE_SECONDS": "15",
            "JOBLEASE_CANCEL_GRACE_SECONDS": "1",
            "JOBLEASE_DRAIN_GRACE_SECONDS": "0.2",
        }
        self._folder = folder
        self.worker: Program

    @asynccontextmanager
    async def open(self, **settings: str) -> AsyncIterator["Lane"]:
        """With a worker."""
        async with program("joblease-worker", self._settings | settings, self._folder / "worker.log") as self.worker:
            yield self

    async def submit(self, handler: str, **parameters: Any) -> str:
        """The job's id."""
        job = await self.jobs.submit(handler, queue=self.name, group=self.name, parameters=parameters, retry=ONCE)
        return job.job_id

    async def run(self, handler: str, **parameters: Any) -> tuple[State, list[JobEvent]]:
        """Its outcome and its history."""
        return await self.jobs.outcome(await self.submit(handler, **parameters))

    async def run_next(self, seconds: float = 0.0) -> dict[str, Any]:
        """The innocent job behind: it runs, alone, with its own trail. What it has found in its process."""
        state, events = await self.run("next", seconds=seconds)
        assert [event.status for event in events] == ["Submitted", "Queued", "Started", "Step 1", "Completed"]
        assert (state, events[3].message) == (State.COMPLETED, "mine")
        assert {event.epoch for event in events[2:]} == {1}
        found: dict[str, Any] = result(events)
        assert set(found["threads"]) - {"warm-up"} == set()
        assert set(found["environment"]) == self.worker.variables - KEYS
        assert (found["folder"], found["umask"], found["path"]) == (str(Path.cwd()), UMASK, False)
        assert (found["alarm"], found["timeout"]) == ("0", None)  # SIG_DFL
        return found

    async def metric(self, name: str, **labels: str) -> float:
        """Of the worker."""
        return await asyncio.to_thread(self.worker.metric, name, **labels)


UMASK = os.umask(0o022)
os.umask(UMASK)


@pytest.fixture
def closed_lane(jobs: Jobs, amqp_url: str, storage: str, tmp_path: Path) -> Lane:
    settings = {"JOBLEASE_AMQP_URL": amqp_url, "JOBLEASE_STORAGE_CONNECTION_STRING": storage}
    return Lane(jobs, settings, tmp_path)


@pytest.fixture
async def lane(closed_lane: Lane) -> AsyncIterator[Lane]:
    async with closed_lane.open():
        yield closed_lane


@pytest.fixture(scope="module")
async def shared_lane(amqp_url: str, storage: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lane]:
    """One worker for all jobs that leave nothing behind."""
    settings = {"JOBLEASE_AMQP_URL": amqp_url, "JOBLEASE_STORAGE_CONNECTION_STRING": storage}
    folder = tmp_path_factory.mktemp("worker")
    async with open_jobs(amqp_url, storage) as jobs, Lane(jobs, settings, folder).open() as opened:
        yield opened


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "record"


def result(events: list[JobEvent]) -> Any:
    return (events[-1].data or {})["result"]


def pids(record: Path) -> list[int]:
    return [int(line) for line in record.read_text().splitlines()]


async def until(condition: Callable[[], bool], timeout: float = 20) -> None:
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.01)


# Threads


async def test_a_thread_that_a_run_left_cannot_speak_and_its_process_runs_nothing_else(
    lane: Lane, record: Path
) -> None:
    job = await lane.submit("leave-thread", record=str(record))
    state, _ = await lane.jobs.outcome(job)
    await lane.run_next(seconds=0.3)
    events = await lane.jobs.trail.history(job)
    assert state is State.COMPLETED
    assert {event.message for event in events[3:-1]} <= {"from the grave"}  # all of them before its outcome
    assert "job.step" not in lane.worker.output


async def test_a_process_with_a_foreign_thread_is_replaced(lane: Lane) -> None:
    _, events = await lane.run("leave-idle-thread")
    assert not alive(result(events))
    assert (await lane.run_next())["pid"] != result(events)
    assert await lane.metric("joblease_handler_processes_retired_total", reason="leftovers") == 1
    assert "the run has left the thread 'sleeper' behind" in lane.worker.output


# Copies


@pytest.mark.parametrize("handler", ["fork-and-return", "fork-and-return-async"])
async def test_a_forked_copy_does_not_speak_for_the_job(shared_lane: Lane, record: Path, handler: str) -> None:
    state, events = await shared_lane.run(handler, record=str(record))
    assert (state, result(events)) == (State.COMPLETED, "parent")
    assert [event.status for event in events[3:]] == ["Completed"]
    await shared_lane.run_next(seconds=0.5)
    (copy,) = pids(record)
    assert not alive(copy)


@pytest.mark.parametrize("end", ["SIGTERM", "SIGKILL"])
async def test_a_forked_copy_does_not_outlive_the_worker(lane: Lane, record: Path, end: str) -> None:
    await lane.submit("fork-and-stay", record=str(record), seconds=600)
    await until(lambda: record.exists() and bool(record.read_text()))
    await lane.worker.stop(getattr(signal, end))
    (copy,) = pids(record)
    await until(lambda: not alive(copy))


async def test_the_end_of_a_process_is_its_own_end_not_that_of_its_copies(shared_lane: Lane, record: Path) -> None:
    state, events = await shared_lane.run("killed-leader", record=str(record))
    assert state is State.FAILED
    assert "killed by SIGKILL" in events[-1].message
    assert [alive(pid) for pid in pids(record)] == [False]
    await shared_lane.run_next()


# Processes


@pytest.mark.parametrize("end", ["return", "raise", "crash"])
async def test_no_process_that_a_run_started_lives_when_its_outcome_is_known(
    shared_lane: Lane, record: Path, end: str
) -> None:
    state, _ = await shared_lane.run("leave-processes", record=str(record), end=end)
    living = [way for way, pid in zip(WAYS, pids(record), strict=True) if alive(pid)]
    assert (living, state) == ([], State.COMPLETED if end == "return" else State.FAILED)
    await shared_lane.run_next()


@pytest.mark.parametrize("handler", ["leave-orphan", "leave-clone"])
async def test_a_process_that_is_hard_to_find_is_killed(shared_lane: Lane, record: Path, handler: str) -> None:
    state, _ = await shared_lane.run(handler, record=str(record))
    assert (state, [alive(pid) for pid in pids(record)]) == (State.COMPLETED, [False])
    await shared_lane.run_next()


@pytest.mark.parametrize("end", ["cancel", "SIGTERM", "SIGKILL", "stopped worker", "killed handler"])
async def test_no_process_that_a_run_started_outlives_its_end(lane: Lane, record: Path, end: str) -> None:
    job = await lane.submit("leave-processes", record=str(record), end="stay")
    await until(lambda: record.exists() and len(record.read_text().splitlines()) == len(WAYS))
    await lane.jobs.reaches(job, State.RUNNING)
    if end == "cancel":
        await lane.jobs.cancel(job)
        assert (await lane.jobs.outcome(job))[0] is State.CANCELLED
    elif end == "stopped worker":  # the guardian's part, at the end of the lease
        lane.worker.process.send_signal(signal.SIGSTOP)
    elif end == "killed handler":
        os.kill(_handler_process(lane.worker), signal.SIGKILL)
        assert (await lane.jobs.outcome(job))[0] is State.FAILED
        assert [way for way, pid in zip(WAYS, pids(record), strict=True) if alive(pid)] == []
    else:
        await lane.worker.stop(getattr(signal, end))
    await until(lambda: not any(map(alive, pids(record))))
    if end in ("cancel", "killed handler"):
        await lane.run_next()


async def test_the_processes_of_another_job_beside_it_live_on(closed_lane: Lane, record: Path, tmp_path: Path) -> None:
    async with closed_lane.open(JOBLEASE_WORKER_CONCURRENCY="2"):
        beside = await closed_lane.submit("keep-processes", record=str(record), until=str(tmp_path / "until"))
        await until(lambda: record.exists() and len(record.read_text().splitlines()) == len(WAYS))
        for end in ("crash", "return"):
            others = tmp_path / end
            job = await closed_lane.jobs.submit(
                "leave-processes", queue=closed_lane.name, group=f"{closed_lane.name}-2", retry=ONCE,
                parameters={"record": str(others), "end": end},
            )  # fmt: skip
            await closed_lane.jobs.outcome(job.job_id)
            assert not any(map(alive, pids(others)))
        (tmp_path / "until").write_text("now\n")
        state, events = await closed_lane.jobs.outcome(beside)
        assert (state, result(events)) == (State.COMPLETED, len(WAYS))
        assert not any(map(alive, pids(record)))


def _handler_process(worker: Program) -> int:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent == worker.process.pid and b"joblease_worker.child" in (folder / "cmdline").read_bytes():
                return int(folder.name)
        except OSError:
            continue
    raise AssertionError("no handler process")


# Values


@pytest.mark.parametrize(
    ("handler", "parameters", "message"),
    [
        ("step-data", {"which": "list"}, "TypeError: job.step(data=…) takes a JSON object (a dict), not list"),
        ("step-data", {"which": "number keys"}, "TypeError: job.step(data=…) has a key that is no text (str) but int"),
        ("step-data", {"which": "object"}, "TypeError: job.step(data=…) is or holds what is not JSON"),
        ("step-data", {"which": "large"}, "ValueError: job.step(data=…) takes 16384 bytes of JSON at most, not 80008"),
        ("step-data", {"which": "deep"}, "nested more than 64 levels deep"),
        ("step-message", {"which": "list"}, "TypeError: job.step(message=…) takes text (str), not list"),
        ("step-progress", {"progress": "much"}, "TypeError: job.step(progress=…) takes a number from 0 to 1, not str"),
        ("step-progress", {"progress": True}, "TypeError: job.step(progress=…) takes a number from 0 to 1, not bool"),
        ("step-progress", {"progress": 50}, "ValueError: job.step(progress=…) is a part of 1, from 0 to 1, not 50"),
        ("return-value", {"which": "huge"}, "the result is an integer of more than 64 bits"),
        ("return-value", {"which": "deep"}, "nested more than 64 levels deep"),
        ("return-value", {"which": "cycle"}, "nested more than 64 levels deep"),
        ("return-value", {"which": "nan"}, "the result is nan, which JSON cannot hold"),
        ("return-value", {"which": "object"}, "Unable to serialize unknown type: <class 'object'>"),
        ("return-value", {"which": "generator"}, "the result is generator, not JSON"),
        ("return-value", {"which": "set of bytes"}, "the result (set) cannot be written as JSON"),
        ("return-value", {"which": "large"}, "the result takes 80008 bytes of JSON; at most 4096 fit"),
        ("raise-error", {"which": "file name"}, "ValueError: caf\\xe9"),
        ("raise-error", {"which": "rude"}, "Rude (its text cannot be read: SystemExit in __str__)"),
        ("raise-error", {"which": "ruder"}, "Ruder: caf\\xe9\\x00"),
        ("raise-error", {"which": "interrupt"}, "KeyboardInterrupt: caf\\xe9"),
        ("raise-error", {"which": "close"}, "GeneratorExit: caf\\xe9"),
        ("raise-error", {"which": "stop"}, "StopIteration: caf\\xe9"),
        ("raise-error", {"which": "base"}, "BaseException: caf\\xe9"),
        ("raise-error", {"which": "cancelled"}, "CancelledError: caf\\xe9"),
        ("raise-error", {"which": "group"}, "ExceptionGroup: two (2 sub-exceptions)"),
        ("raise-error", {"which": "nameless"}, "1 of 1 failed: Nameless: caf\\xe9"),
        ("raise-error", {"which": "odd"}, "1 of 1 failed: Odd: caf\\xe9"),
        ("raise-error", {"which": "wordless"}, "Wordless (its text cannot be read: TypeError in __str__)"),
        ("raise-error", {"which": "circular"}, "Circular (its text cannot be read: RecursionError in __str__)"),
        ("raise-error", {"which": "endless"}, "Endless (its text cannot be read: TimeoutError in __str__)"),
        ("raise-error", {"which": "wordy"}, "1 of 1 failed: Wordy: caf\\xe9"),
        ("raise-error", {"which": "wordy for good"}, "failed for good: caf\\xe9"),
        ("raise-error", {"which": "two-faced"}, "1 of 1 failed: TwoFaced: caf\\xe9"),
        ("raise-too-late", {}, "1 of 1 failed: TimeoutError: this took too long"),
        ("return-value", {"which": "interrupted"}, "1 of 1 failed: TimeoutError: this took too long"),
        ("return-value", {"which": "fraction"}, "the result is a fractions.Fraction of more than 64 bits"),
    ],
)
async def test_what_cannot_be_kept_is_the_handlers_own_error(
    shared_lane: Lane, handler: str, parameters: dict[str, Any], message: str
) -> None:
    state, events = await shared_lane.run(handler, **parameters)
    assert (state, [event.status for event in events[3:]]) == (State.FAILED, ["Failed"])
    assert message in events[-1].message
    if handler == "raise-error":
        assert "raise_error" in (events[-1].data or {})["traceback"]  # where it happened
    await shared_lane.run_next()


@pytest.mark.parametrize(
    ("which", "kept"),
    [
        ("file name", "caf\\xe9"),
        ("nul", "a\\x00b\\x1b[31m"),
        ("model", {"at": "2026-11-27"}),
        ("rich", {
            "when": "2026-11-27T08:00:00Z", "id": "00000000-0000-0000-0000-000000000001", "price": "1.10",
            "colour": "red", "path": "/a", "point": {"x": 1}, "model": {"at": "2026-11-27"}, "pair": [1, [2]],
        }),
    ],
)  # fmt: skip
async def test_what_can_be_kept_is(shared_lane: Lane, which: str, kept: Any) -> None:
    state, events = await shared_lane.run("return-value", which=which)
    assert (state, result(events)) == (State.COMPLETED, kept)
    if isinstance(kept, dict):
        _, events = await shared_lane.run("step-data", which=which)
        assert events[3].data == kept
    else:
        _, events = await shared_lane.run("step-message", which=which)
        assert events[3].message == kept
    await shared_lane.run_next()


# Their own errors


@pytest.mark.parametrize(("handler", "second"), [("fail-deep", "fail_deep"), ("fail-async", "fail_async")])
async def test_a_traceback_begins_at_the_handler(shared_lane: Lane, handler: str, second: str) -> None:
    _, events = await shared_lane.run(handler)
    lines = (events[-1].data or {})["traceback"].splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert "support/hostile.py" in lines[1]
    assert lines[1].endswith(f"in {second}")
    await shared_lane.run_next()


async def test_what_is_logged_goes_through_with_its_level(closed_lane: Lane) -> None:
    async with closed_lane.open():
        job = await closed_lane.submit("log-lines")
        await closed_lane.jobs.outcome(job)
        await closed_lane.run_next()
    lines = [json.loads(line) for line in closed_lane.worker.output.splitlines() if "my.module" in line]
    assert [(line["level"], line["message"], line["job"]) for line in lines] == [
        ("info", "my.module: as information", job),
        ("error", "my.module: as an error", job),
    ]


async def test_the_level_of_the_worker_is_that_of_its_handlers(closed_lane: Lane) -> None:
    async with closed_lane.open(JOBLEASE_LOG_LEVEL="ERROR"):
        await closed_lane.run("log-lines")
    assert "as an error" in closed_lane.worker.output
    assert "as information" not in closed_lane.worker.output


# The process that they share


async def test_surroundings_are_put_back(shared_lane: Lane) -> None:
    _, events = await shared_lane.run("change-surroundings")
    assert (await shared_lane.run_next(seconds=0.5))["pid"] == result(events)


async def test_a_process_runs_so_many_jobs(closed_lane: Lane) -> None:
    async with closed_lane.open(JOBLEASE_JOBS_PER_PROCESS="2"):
        processes = [(await closed_lane.run_next())["pid"] for _ in range(5)]
    assert processes[0] == processes[1] != processes[2] == processes[3] != processes[4]


async def test_a_process_that_has_grown_is_replaced(closed_lane: Lane) -> None:
    async with closed_lane.open(JOBLEASE_PROCESS_MEMORY_MIB="200"):
        first = result((await closed_lane.run("use-memory", mebibytes=1))[1])
        assert result((await closed_lane.run("use-memory", mebibytes=300))[1]) == first
        await until(lambda: not alive(first))
        assert result((await closed_lane.run("use-memory", mebibytes=1))[1]) != first
        assert "more than JOBLEASE_PROCESS_MEMORY_MIB=200" in closed_lane.worker.output


async def test_handlers_find_no_keys(shared_lane: Lane) -> None:
    _, events = await shared_lane.run("look-for-keys")
    assert result(events) == {"mine": False, "guardians": [""]}
    await shared_lane.run_next()


async def test_a_handler_that_imports_too_long_is_told(closed_lane: Lane, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(60)\n")
    with pytest.raises(AssertionError, match=r"within 0\.5 s \(JOBLEASE_IMPORT_TIMEOUT_SECONDS\)"):
        async with closed_lane.open(
            JOBLEASE_HANDLERS="slow", JOBLEASE_IMPORT_TIMEOUT_SECONDS="0.5", PYTHONPATH=str(tmp_path)
        ):
            pass


# The socket


FORGED_STEP = '{"type":"step","run":"another.1","step":1,"message":"forged","progress":null,"data":null}\n'


async def test_what_is_said_of_another_run_is_dropped(lane: Lane) -> None:
    state, events = await lane.run("write-into-socket", text=FORGED_STEP * 3)
    assert (state, [event.status for event in events[3:]]) == (State.COMPLETED, ["Completed"])
    assert await lane.metric("joblease_foreign_frames_total") == 3
    assert lane.worker.output.count("that is dropped") == 1
    await lane.run_next()


@pytest.mark.parametrize("text", ["no frame\n", "no end", "\n", "[" * 5000 + "\n", '{"type":"ready","handlers":[]}\n'])
async def test_what_is_no_frame_costs_that_attempt(shared_lane: Lane, text: str) -> None:
    state, events = await shared_lane.run("write-into-socket", text=text)
    assert state is State.FAILED
    assert "it wrote into the worker's socket" in events[-1].message
    await shared_lane.run_next()


async def test_a_handler_that_closes_the_connection_costs_that_attempt(shared_lane: Lane) -> None:
    state, events = await shared_lane.run("close-everything")
    assert state is State.FAILED
    assert "ended by itself with exit code 1" in events[-1].message
    await shared_lane.run_next()


# What the kernel and the interpreter keep for a process


@pytest.fixture(scope="module")
async def untouched(shared_lane: Lane, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a job finds in a process of its own."""
    _, events = await shared_lane.run("look-around", folder=str(tmp_path_factory.mktemp("untouched")))
    found: dict[str, Any] = result(events)
    return found


@pytest.mark.parametrize("what", CHANGES)
async def test_what_a_job_changes_another_does_not_find(
    shared_lane: Lane, untouched: dict[str, Any], tmp_path: Path, record: Path, what: str
) -> None:
    await shared_lane.run("change", what=what)
    printed = len(shared_lane.worker.output)
    state, events = await shared_lane.run("look-around", folder=str(tmp_path))
    assert (state, result(events)) == (State.COMPLETED, untouched)
    assert "a line of output: " in shared_lane.worker.output[printed:]
    assert "mine: a line of the log" in shared_lane.worker.output[printed:]
    job = await shared_lane.submit("clean-up", record=str(record))
    await shared_lane.jobs.reaches(job, State.RUNNING)
    await asyncio.sleep(0.3)
    await shared_lane.jobs.cancel(job)
    state, events = await shared_lane.jobs.outcome(job)
    assert state is State.CANCELLED
    assert pids(record)  # it was asked, and cleaned up
    assert "in clean_up" in (events[-1].data or {})["traceback"]


async def test_a_module_that_only_one_job_finds_is_not_another_ones(shared_lane: Lane, tmp_path: Path) -> None:
    for whose in ("first", "second"):
        folder = tmp_path / whose
        folder.mkdir()
        (folder / "of_one_job.py").write_text(f"whose = {whose!r}\n")
        _, events = await shared_lane.run("import-from", folder=str(folder))
        assert result(events) == whose
        assert f"(ImportError: {folder / 'of_one_job.py'} was imported)" in shared_lane.worker.output
    await shared_lane.run_next()


async def test_a_thread_whose_number_was_known_is_found(lane: Lane) -> None:
    _, events = await lane.run("leave-thread-with-a-known-number")
    assert not alive(result(events))
    await lane.run_next()


async def test_what_a_handler_starts_hears_sigint(shared_lane: Lane) -> None:
    _, events = await shared_lane.run("send-signal")
    assert result(events) == -signal.SIGINT


async def test_a_connection_whose_number_is_anothers_costs_that_attempt(shared_lane: Lane) -> None:
    state, events = await shared_lane.run("lose-connection")
    assert state is State.FAILED
    assert "ended by itself with exit code 1" in events[-1].message
    await shared_lane.run_next()


async def test_lines_without_letters_count_against_the_limit(lane: Lane) -> None:
    began = asyncio.get_running_loop().time()
    state, _ = await lane.run("print-lines", count=1_000_000)
    assert state is State.COMPLETED
    assert asyncio.get_running_loop().time() - began < 15
    assert len(lane.worker.output.splitlines()) < 20_000
    await lane.run_next()


async def test_an_error_of_memory_without_a_limit_says_what_it_says(shared_lane: Lane) -> None:
    _, events = await shared_lane.run("out-of-memory")
    assert "MemoryError: Unable to allocate 7 TiB" in events[-1].message


@pytest.mark.parametrize("who", ["imitation", "gevent"])
async def test_handlers_whose_library_replaces_the_standard_one_are_served(closed_lane: Lane, who: str) -> None:
    if who == "gevent":
        pytest.importorskip("gevent", reason="gevent is not installed")
    variables = {"JOBLEASE_HANDLERS": "support.replaced", **({"GEVENT": "1"} if who == "gevent" else {})}
    async with closed_lane.open(**variables) as lane:
        processes = set()
        for _ in range(3):
            state, events = await lane.run("replaced")
            assert state is State.COMPLETED, events[-1]
            assert events[3].message == "one"
            processes.add(result(events))
        assert len(processes) == 1  # it is as good as any other
        _, events = await lane.run("replaced", fail=True)
        assert "ValueError: asked for" in events[-1].message
        job_id = await lane.submit("replaced-hold")
        await lane.jobs.reaches(job_id, State.RUNNING)
        async with asyncio.timeout(20):
            while (await lane.jobs.trail.history(job_id))[-1].message != "holding":
                await asyncio.sleep(0.05)
        await lane.jobs.cancel(job_id)
        state, events = await lane.jobs.outcome(job_id)
        assert (state, events[-1].message) == (
            State.CANCELLED, "cancelled while it was running: the handler ended when it was asked to"
        )  # fmt: skip
        assert (await lane.run("replaced"))[0] is State.COMPLETED
