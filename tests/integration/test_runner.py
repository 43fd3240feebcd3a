"""The worker's side of a handler process, against processes that do not keep to the protocol, and against the clock."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from joblease.clock import boot_seconds
from joblease_worker import frames, guardian_process, linux, offspring, output, process
from joblease_worker.environment import without_keys
from joblease_worker.guardian import Guardian
from joblease_worker.guardian_process import children, end_tree, obey
from joblease_worker.pool import HandlerProcess, ProcessPool, StartFailed
from joblease_worker.settings import WorkerSettings
from pydantic import SecretStr
from support.hostile import WAYS
from support.programs import TESTS, alive

READY = frames.encode(frames.Ready(handlers=[]))
JOB = {"id": "1", "epoch": 1, "handler": "any"}


def a_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Handler processes that do as the script says; `say` and `hear` are theirs."""
    program = tmp_path / "child.py"
    program.write_text(
        "import os, socket, sys, time\n"
        "connection = socket.socket(fileno=int(sys.argv[1]))\n"
        "say, hear = connection.sendall, lambda: connection.recv(65536)\n" + textwrap.dedent(script)
    )
    monkeypatch.setattr(process, "CHILD", (str(program),))


async def nothing(_: Mapping[str, Any]) -> None:
    """What a step is passed on to."""


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("say(READY.replace(b'version\":', b'version\":9'))", f"speaks version 9{frames.VERSION} of their protocol"),
        ("say(b'hello\\n'); time.sleep(60)", "Invalid JSON"),
        ("say(b'x' * (5 << 20)); time.sleep(60)", "a line of more than 4194304 bytes"),
        ("sys.exit(1)", "its output is in the lines above"),
        ("connection.close(); time.sleep(60)", "its output is in the lines above"),
        ("time.sleep(60)", r"within 1 s \(JOBLEASE_IMPORT_TIMEOUT_SECONDS\)"),
    ],
)
async def test_a_process_that_does_not_say_hello_is_not_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, problem: str
) -> None:
    a_child(tmp_path, monkeypatch, f"READY = {READY!r}\n{script}")
    async with asyncio.timeout(20):
        with pytest.raises(StartFailed, match=problem):
            await HandlerProcess.start(WorkerSettings(import_timeout_seconds=1 if problem.startswith("within") else 20))


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("say(b'nonsense\\n'); time.sleep(60)", "it wrote into the worker's socket"),
        ("say(b'{}' * 4 + b'\\n'); time.sleep(60)", "it wrote into the worker's socket"),
        ("say(READY); time.sleep(60)", "it wrote into the worker's socket"),
        ("say(b'x' * (9 << 20)); time.sleep(60)", "it wrote into the worker's socket"),
        ('say(b\'{"type":"ended"\'); sys.exit(7)', "it wrote into the worker's socket"),
        ("connection.close(); time.sleep(60)", "it closed its connection to the worker"),
        ("sys.exit(7)", "ended by itself with exit code 7"),
        ("os.kill(os.getpid(), 9)", "killed by SIGKILL: out of memory, most likely"),
        ("os.fork() or time.sleep(60); os._exit(7)", "ended by itself with exit code 7"),
    ],
)
async def test_a_run_ends_when_its_process_does_not_keep_to_the_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, error: str
) -> None:
    a_child(tmp_path, monkeypatch, f"READY = {READY!r}\nsay(READY); hear()\n{script}")
    started = await HandlerProcess.start(WorkerSettings())
    async with asyncio.timeout(20):
        ending = await started.run(JOB, boot_seconds() + 60, nothing, {})
    assert (ending.how, started.alive) == ("died", False)
    assert error in ending.error
    await started.close()


async def test_a_step_that_cannot_be_passed_on_ends_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = b'{"type":"step","run":"1.1","step":1,"message":"","progress":null,"data":null}\n'
    a_child(tmp_path, monkeypatch, f"say({READY!r}); hear(); say({step!r}); time.sleep(60)")
    started = await HandlerProcess.start(WorkerSettings())

    async def fail(_: Mapping[str, Any]) -> None:
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        await started.run(JOB, boot_seconds() + 60, fail, {})
    assert not started.alive
    await started.close()


async def test_what_a_dead_process_has_said_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = b"".join(
        b'{"type":"step","run":"1.1","step":%d,"message":"","progress":null,"data":null}\n' % n for n in range(1, 101)
    )
    a_child(tmp_path, monkeypatch, f"say({READY!r}); hear(); say({steps!r}); os.kill(os.getpid(), 9)")
    started = await HandlerProcess.start(WorkerSettings())
    heard: list[int] = []

    async def hear(step: Mapping[str, Any]) -> None:
        heard.append(step["step"])

    ending = await started.run(JOB, boot_seconds() + 60, hear, {})
    assert (ending.how, heard) == ("died", list(range(1, 101)))
    await started.close()


@pytest.mark.parametrize("end", ["stay", "speak"])
async def test_a_process_whose_worker_hangs_up_stays_until_what_it_has_started_is_killed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, end: str
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    monkeypatch.setenv("JOBLEASE_HANDLERS", "support.hostile")
    record = tmp_path / "record"
    started = await HandlerProcess.start(WorkerSettings())
    job = {**JOB, "handler": "leave-processes", "parameters": {"record": str(record), "end": end}}
    running = asyncio.create_task(started.run(job, boot_seconds() + 60, nothing, {}))
    async with asyncio.timeout(20):
        while not record.exists() or len(pids := record.read_text().splitlines()) < len(WAYS):
            await asyncio.sleep(0.01)
    started._writer.transport.abort()  # as the end of a worker does, before the kernel has told anybody of it
    assert (await asyncio.wait_for(running, 20)).how == "died"
    async with asyncio.timeout(20):
        while any(alive(int(pid)) for pid in pids):
            await asyncio.sleep(0.01)
    await started.close()


async def test_a_run_that_comes_too_late_does_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBLEASE_HANDLERS", "")
    started = await HandlerProcess.start(WorkerSettings())
    ending = await started.run({**JOB, "handler": "demo"}, boot_seconds() - 1, nothing, {})
    assert (ending.how, started.alive) == ("unstarted", True)
    await started.close()


@pytest.fixture
async def their_process(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HandlerProcess]:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    monkeypatch.setenv("JOBLEASE_HANDLERS", "support.handlers")
    started = await HandlerProcess.start(WorkerSettings())
    yield started
    await started.close()


@pytest.mark.parametrize("handler", ["hold", "hold-async"])
async def test_a_cancel_that_follows_the_order_at_once_is_not_lost(their_process: HandlerProcess, handler: str) -> None:
    for epoch in range(1, 21):
        job = {**JOB, "epoch": epoch, "handler": handler}
        running = asyncio.create_task(their_process.run(job, boot_seconds() + 60, nothing, {}))
        await asyncio.sleep(0)
        their_process.ask_to_stop("1")
        assert (await asyncio.wait_for(running, 20)).how == "stopped"


async def test_the_signal_of_a_cancel_that_comes_too_late_does_not_stop_the_next_run(
    their_process: HandlerProcess, tmp_path: Path
) -> None:
    record = tmp_path / "record"
    job = {**JOB, "handler": "hold", "parameters": {"seconds": 0.3, "record": str(record)}}
    running = asyncio.create_task(their_process.run(job, boot_seconds() + 60, nothing, {}))
    async with asyncio.timeout(20):
        while not record.exists():
            await asyncio.sleep(0.01)
    os.kill(their_process.pid, signal.SIGUSR1)
    assert (await running).how == "Completed"


async def test_one_handler_that_cannot_be_described_keeps_no_other_from_being_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_handlers.py").write_text(
        textwrap.dedent("""
        from __future__ import annotations
        from typing import TYPE_CHECKING
        from joblease import handler
        if TYPE_CHECKING:
            from decimal import Decimal
            from joblease import JobContext

        @handler("typed")
        def typed(job: JobContext, price: Decimal, count: int = 3) -> dict[str, object]:
            return {"price": price, "count": count}
        """)
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("JOBLEASE_HANDLERS", "their_handlers")
    started = await HandlerProcess.start(WorkerSettings())
    described = {each.name: each.parameters for each in started.handlers}
    assert described["typed"]["properties"] == {"price": {}, "count": {"default": 3, "type": "integer"}}
    job = {**JOB, "handler": "typed", "parameters": {"price": "1.10", "count": "4"}}
    ending = await started.run(job, boot_seconds() + 60, nothing, {})
    assert ending.result == {"price": "1.10", "count": 4}
    await started.close()


def test_the_environment_of_handlers_has_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBLEASE_AMQP_URL", "amqp://user:secret@broker/")
    monkeypatch.setenv("joblease_storage_account_url", "https://account.blob.core.windows.net")
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "secret")
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", "/token")
    monkeypatch.setenv("JOBLEASE_HANDLERS", "mine")
    settings = WorkerSettings()
    kept = without_keys(settings)
    assert "secret" not in " ".join(kept.values())
    assert "joblease_storage_account_url" not in kept
    assert (kept["JOBLEASE_HANDLERS"], kept["PATH"]) == ("mine", os.environ["PATH"])
    assert kept["AZURE_FEDERATED_TOKEN_FILE"] == "/token"  # the pod's, which any process of it can read
    secrets = {name for name, value in settings if isinstance(value, SecretStr)}
    assert secrets <= {"amqp_url"}  # the connection string is unset here


@pytest.mark.parametrize("hide", [True, False])
def test_the_workers_memory_and_environment_are_closed_to_its_user(hide: bool) -> None:  # noqa: FBT001
    """As a user that is not root, since root may look at everything."""
    user = "import os; os.getuid() or os.setresuid(65534, 65534, 65534)\n"
    script = (
        "import os, time; from joblease_worker import linux; from joblease_worker.guardian_process import children\n"
        f"{user}linux._prctl(linux._PR_SET_DUMPABLE, 1)  # a change of the user takes it away\n"
        f"if {hide}: linux.hide_memory()\n"
        "assert children(os.getpid()) == []\n"
        "print('hidden', flush=True); time.sleep(60)"
    )
    hidden = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    try:
        assert hidden.stdout is not None
        assert hidden.stdout.readline() == b"hidden\n"
        look = f"{user}open('/proc/{hidden.pid}/stat').read(); open('/proc/{hidden.pid}/environ').read()"
        looking = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=False)
        assert ("PermissionError" in looking.stderr) is hide
    finally:
        hidden.kill()
        hidden.communicate()


@pytest.mark.parametrize(
    "line",
    [
        "",
        "nonsense",
        "x job/1 5",
        "12 job/1",
        "12 job/1 soon",
        "12 job/1 nan",
        "0 job/1 5",
        "-5 job/1 5",
        "1 a 5",
        "1 2 3 4",
    ],
)
def test_a_line_that_the_guardian_cannot_read_is_ignored(line: str) -> None:
    deadlines: dict[tuple[int, str], float] = {}
    with pytest.raises(ValueError):  # noqa: PT011 - whichever
        obey(line, deadlines)
    assert deadlines == {}


async def test_a_guardian_survives_what_it_cannot_read() -> None:
    guardian = Guardian()
    guardian.start()
    guarded = await asyncio.create_subprocess_exec("sleep", "60", start_new_session=True)
    before = guardian._process
    guardian._tell(b"\xff\xfe nonsense\n\n1 2 3 4 5\n")
    guardian.expect(guarded.pid, "job/1", boot_seconds() + 0.2)
    assert await asyncio.wait_for(guarded.wait(), 10) == -signal.SIGKILL
    assert guardian._process is before
    assert guardian.alive
    await asyncio.to_thread(guardian.close)
    assert not guardian.alive


async def test_a_guardian_that_dies_is_replaced_before_anybody_needs_it() -> None:
    guardian = Guardian()
    guardian.start()
    guarded = await asyncio.create_subprocess_exec("sleep", "60", start_new_session=True)
    guardian.expect(guarded.pid, "job/1", boot_seconds() + 3)
    first = guardian._process
    assert first is not None
    first.kill()
    assert await asyncio.wait_for(guarded.wait(), 20) == -signal.SIGKILL
    assert guardian.alive
    assert guardian._process is not first
    await asyncio.to_thread(guardian.close)


def test_deadlines_are_kept_on_the_clock_that_goes_on_while_the_machine_sleeps() -> None:
    """In a namespace whose CLOCK_BOOTTIME is a day ahead of the monotonic clock, as after a day of sleep."""
    script = (
        "import subprocess, time\n"
        "from joblease.clock import boot_seconds\n"
        "from joblease_worker.guardian import Guardian\n"
        "assert boot_seconds() - time.monotonic() > 80_000\n"
        "guardian = Guardian(); guardian.start()\n"
        "late = subprocess.Popen(['sleep', '60'], start_new_session=True)\n"
        "guardian.expect(late.pid, 'job/1', boot_seconds() + 0.5)\n"
        "assert late.wait(timeout=20) == -9\n"
        "guardian.close()\n"
    )
    command = ["unshare", "--user", "--map-root-user", "--time", "--boottime", "86400", "--fork", "--kill-child"]
    if not shutil.which("unshare") or subprocess.run([*command, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody make a time namespace")
    ran = subprocess.run([*command, sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


BOMB = """
import os, time
for _ in range(200):
    if os.fork() == 0:
        time.sleep(60)
time.sleep(60)
"""


def test_a_tree_is_killed_also_while_it_grows() -> None:
    bomb = subprocess.Popen(
        [sys.executable, "-c", BOMB],
        start_new_session=True,
    )
    while len(children(bomb.pid)) < 5:
        assert bomb.poll() is None
    end_tree(bomb.pid)
    bomb.wait()
    until = time.monotonic() + 10  # SIGKILL has been sent; each of them still has to be given a processor to die on
    while in_group := [path for path in Path("/proc").glob("[0-9]*/stat") if _session(path) == bomb.pid]:
        assert time.monotonic() < until, in_group
        time.sleep(0.01)


def _session(stat: Path) -> int:
    try:
        fields = stat.read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[3])


async def test_the_pool_replaces_a_process_that_died_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBLEASE_HANDLERS", "")
    pool = ProcessPool(WorkerSettings())
    await pool.start()
    async with pool.process() as first:
        pass
    os.kill(first.pid, signal.SIGKILL)
    await asyncio.wait([first._exit])
    async with pool.process() as second:
        assert second.alive
        assert second.pid != first.pid
    await pool.close()


async def test_a_process_that_is_being_started_is_no_leftover(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another job's process ends meanwhile, and what it has left is looked for."""
    known = set(
        guardian_process.children(os.getpid())
    )  # RabbitMQ and Azurite of these tests are children of this process, too
    monkeypatch.setattr(
        offspring, "children", lambda pid: [each for each in guardian_process.children(pid) if each not in known]
    )
    monkeypatch.setattr(linux, "adopts_orphans", lambda: True)
    a_child(tmp_path, monkeypatch, f"say({READY!r}); time.sleep(60)")
    starting = asyncio.create_task(HandlerProcess.start(WorkerSettings()))
    sweeps = []
    while not starting.done():
        sweeps.append(asyncio.create_task(offspring.sweep()))
        await asyncio.sleep(0)
    await (await starting).close()
    await asyncio.gather(*sweeps)


async def test_lines_without_letters_hold_up_no_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_child(
        tmp_path,
        monkeypatch,
        f"say({READY!r}); hear()\n"
        "for _ in range(20): os.write(1, b'\\n' * 50_000)\n"
        """say(b'{"type":"ended","run":"1.1","how":"Completed"}\\n'); hear()""",
    )
    lines: list[str] = []
    monkeypatch.setattr(output.log, "log", lambda *_, **__: lines.append("one"))
    handler = await HandlerProcess.start(WorkerSettings())
    assert (await handler.run(JOB, boot_seconds() + 60, nothing, {})).how == "Completed"
    await handler.close()
    assert 1_000 < len(lines) < 20_000
