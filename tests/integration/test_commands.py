"""Handlers that are commands, on a worker: they fail, hang, flood and leave things behind, and no other job notices."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from joblease.messages import RetryPolicy
from joblease.states import State
from support.jobs import Jobs
from support.programs import Program, alive, program
from support.worker import Worker, open_worker

ONCE = RetryPolicy(max_attempts=1)
COMMANDS = {
    "exit": 'exit "$JOBLEASE_PARAMETER_CODE"',
    "die": "kill -SEGV $$",
    "out-of-memory": f"exec {sys.executable} -c 'len(bytearray(1 << 30))'",
    "no-utf8": r"printf 'caf\351\n'; printf 'caf\351\n' >&2; exit 1",
    "long-line": f"{sys.executable} -c 'print(\"x\" * 10_000_000)' >&3; sleep 60",
    "bad-line": "echo '{\"step\": 1}' >&3; sleep 60",
    "large-result": f"{sys.executable} -c 'import json; print(json.dumps({{\"result\": \"x\" * 5000}}))' >&3",
    "flood": f"exec {sys.executable} -c '"
    'import os\nfor n in range(3_000): os.write(3, b"{\\"step\\": \\"%d\\"}\\n" % n)\'',
    "checkpoints": f"exec {sys.executable} -c '"
    'import os\nfor n in range(100_000): os.write(3, b"{\\"checkpoint\\": {\\"n\\": %d}}\\n" % n)\'',
    "closes": "exec 3>&-; exec 0<&-; exec 1>&-; exec 2>&-; sleep 0.2",
    "keeps": "setsid sleep 3600 & echo $! >\"$JOBLEASE_PARAMETER_RECORD\"; echo '{\"result\": 1}' >&3",
    "sleep": 'echo "start $$" >>"$JOBLEASE_PARAMETER_RECORD"; joblease step asleep; sleep 3600',
    "clean": "trap 'echo cleaned >>\"$JOBLEASE_PARAMETER_RECORD\"; exit 0' TERM\n"
    "joblease step asleep; sleep 3600 & wait",
    "deaf": "trap '' TERM; joblease step asleep; while :; do sleep 1; done",
    "import": 'joblease step from --data "{\\"checkpoint\\": ${JOBLEASE_JOB_LAST_CHECKPOINT:-null}}"\n'
    'test -n "$JOBLEASE_JOB_LAST_CHECKPOINT" && exit 0\njoblease checkpoint \'{"row": 7}\'; exit 1',
    "where": 'pwd >&2; echo "$COLOUR $JOBLEASE_STORAGE_CONNECTION_STRING" >&2; exit 9',
}  # fmt: skip
MORE = {"exit": "permanent_exit_codes = [65]", "deaf": "grace_seconds = 0.3", "where": 'environment = {COLOUR = "red"}'}


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    file = tmp_path / "commands.toml"
    tables = [
        f"[{name}-command]\nshell = {json.dumps(text)}\n{MORE.get(name, '')}\n" for name, text in COMMANDS.items()
    ]
    file.write_text("\n".join(tables))
    return file


@pytest.fixture
async def worker(jobs: Jobs, amqp_url: str, storage: str, commands: Path) -> AsyncIterator[Worker]:
    async with open_worker(amqp_url, storage, commands=commands, job_memory_limit_mib=512) as opened:
        yield opened


async def until(condition: Callable[[], bool], timeout: float = 30) -> None:
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("command", "parameters", "message"),
    [
        (
            "exit",
            {"code": 65},
            "attempt 1 failed for good: handler 'exit-command': its command ended with exit code 65",
        ),
        ("exit", {"code": 1}, "CommandFailed: handler 'exit-command': its command ended with exit code 1"),
        ("die", {}, "its command was killed by SIGSEGV"),
        ("out-of-memory", {}, "exit code 1; the end of its standard error:\n"),
        ("no-utf8", {}, "the end of its standard error:\ncaf\\xe9"),
        ("long-line", {}, "line 1 that it wrote on the descriptor JOBLEASE_FD has more than 262144 bytes"),
        ("bad-line", {}, "handler 'bad-line-command': job.step(message=…) takes text (str), not int"),
        (
            "large-result",
            {},
            "failed for good: the handler returned what cannot be recorded: the result takes 5002 bytes",
        ),
    ],
)
async def test_how_it_fails_is_told_and_the_next_job_runs(
    jobs: Jobs, worker: Worker, command: str, parameters: dict[str, Any], message: str
) -> None:
    job = await jobs.submit(f"{command}-command", parameters=parameters, retry=ONCE)
    state, events = await jobs.outcome(job.job_id)
    assert state is State.FAILED
    assert message in events[-1].message
    if command == "out-of-memory":
        assert events[-1].message.endswith("MemoryError")
    pids = [process.pid for process in worker.pool._idle]
    assert (await jobs.outcome((await jobs.submit("closes-command")).job_id))[0] is State.COMPLETED
    assert [process.pid for process in worker.pool._idle] == pids  # the same process: nothing was left in it


async def test_another_attempt_follows_unless_the_code_is_permanent(jobs: Jobs, worker: Worker) -> None:
    job = await jobs.submit("exit-command", parameters={"code": 1})
    head = await jobs.reaches(job.job_id, State.RETRYING)
    assert head.attempt == 1


async def test_a_flood_of_steps_waits_and_is_complete(jobs: Jobs, worker: Worker) -> None:
    job = await jobs.submit("flood-command")
    state, events = await jobs.outcome(job.job_id, timeout=100)
    assert state is State.COMPLETED
    assert [event.message for event in events[3:-1]] == [str(n) for n in range(3_000)]


async def test_a_flood_of_checkpoints_holds_up_nobody(jobs: Jobs, worker: Worker) -> None:
    job = await jobs.submit("checkpoints-command")
    late, at = 0.0, asyncio.get_running_loop().time()
    outcome = asyncio.create_task(jobs.outcome(job.job_id, timeout=100))
    while not outcome.done():
        await asyncio.sleep(0.01)  # of the worker's own loop
        now = asyncio.get_running_loop().time()
        late, at = max(late, now - at), now
    state, events = outcome.result()
    assert (state, len(events)) == (State.COMPLETED, 4)
    assert late < 1


async def test_what_it_leaves_running_is_killed(jobs: Jobs, worker: Worker, tmp_path: Path) -> None:
    record = tmp_path / "record"
    job = await jobs.submit("keeps-command", parameters={"record": str(record)})
    state, events = await jobs.outcome(job.job_id)
    assert (state, events[-1].data) == (State.COMPLETED, {"result": 1})
    assert not alive(int(record.read_text()))


@pytest.mark.parametrize(("command", "how"), [("sleep", ""), ("clean", "cleaned\n"), ("deaf", "")])
async def test_a_cancelled_command_gets_sigterm_and_then_is_killed(
    jobs: Jobs, worker: Worker, tmp_path: Path, command: str, how: str
) -> None:
    record = tmp_path / "record"
    job = await jobs.submit(f"{command}-command", parameters={"record": str(record)})
    async with asyncio.timeout(20):
        while len(await jobs.trail.history(job.job_id)) < 4:
            await asyncio.sleep(0.05)
    await jobs.cancel(job.job_id)
    state, events = await jobs.outcome(job.job_id)
    assert state is State.CANCELLED
    assert events[-1].message == "cancelled while it was running: the handler ended when it was asked to"
    assert not events[-1].data  # no stack of ours
    if how:
        assert record.read_text() == how


async def test_the_deadline_ends_it(jobs: Jobs, worker: Worker, tmp_path: Path) -> None:
    record = tmp_path / "record"
    parameters = {"record": str(record)}
    job = await jobs.submit("sleep-command", parameters=parameters, active_deadline_seconds=1, retry=ONCE)
    state, _ = await jobs.outcome(job.job_id)
    assert state is State.DEADLINE_EXCEEDED
    assert not alive(int(record.read_text().split()[1]))


async def test_it_goes_on_from_its_checkpoint(jobs: Jobs, worker: Worker) -> None:
    job = await jobs.submit("import-command")
    head = await jobs.reaches(job.job_id, State.RETRYING)
    assert head.checkpoint == '{"row":7}'
    await jobs.trail.append(head, [], state=State.QUEUED)  # as the operator does
    await jobs.publish(job)
    state, events = await jobs.outcome(job.job_id)
    assert state is State.COMPLETED
    said = [event.data for event in events if event.status == "Step 1"]
    assert said == [{"checkpoint": None}, {"checkpoint": {"row": 7}}]


async def test_its_folder_and_its_environment(jobs: Jobs, worker: Worker, tmp_path: Path) -> None:
    job = await jobs.submit("where-command", retry=ONCE)
    _, events = await jobs.outcome(job.job_id)
    assert events[-1].message.endswith(f"standard error:\n{tmp_path}\nred")  # and no key to storage


@pytest.mark.parametrize("how", ["killed worker", "killed handler process", "lost lease"])
async def test_it_dies_with_its_run(
    jobs: Jobs, amqp_url: str, storage: str, commands: Path, tmp_path: Path, how: str
) -> None:
    record = tmp_path / "record"
    async with _program(amqp_url, storage, commands, tmp_path) as running:
        job = await jobs.submit(
            "sleep-command", group=how.replace(" ", "-"), parameters={"record": str(record)}, retry=ONCE
        )
        await until(record.exists)
        await until(lambda: len(record.read_text().split()) == 2)
        pid = int(record.read_text().split()[1])
        if how == "killed worker":
            await running.stop(signal.SIGKILL)
        elif how == "lost lease":
            await jobs.break_session(job.job_id)
        else:
            os.kill(_parent(pid), signal.SIGKILL)
        await until(lambda: not alive(pid))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a]\nargv = ['no-such-program']", "commands.toml: [a] argv: there is no program 'no-such-program'"),
        ("[demo]\nargv = ['ls']", "commands.toml: handler 'demo' is defined twice: in joblease.demo and in /"),
    ],
)
async def test_a_worker_with_a_bad_file_does_not_start(
    amqp_url: str, storage: str, commands: Path, tmp_path: Path, text: str, message: str
) -> None:
    await asyncio.to_thread(commands.write_text, text)
    with pytest.raises(AssertionError, match="the program ended"):
        async with _program(amqp_url, storage, commands, tmp_path):
            pass
    assert message in (tmp_path / "worker.log").read_text()


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def _program(
    amqp_url: str, storage: str, commands: Path, folder: Path, **settings: str
) -> AbstractAsyncContextManager[Program]:
    variables = {
        "JOBLEASE_AMQP_URL": amqp_url,
        "JOBLEASE_STORAGE_CONNECTION_STRING": storage,
        "JOBLEASE_COMMANDS": str(commands),
        "JOBLEASE_LEASE_SECONDS": "15",
        "JOBLEASE_CANCEL_GRACE_SECONDS": "1",
        **settings,
    }
    return program("joblease-worker", variables, folder / "worker.log")
