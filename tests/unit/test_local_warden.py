"""Workers of `make up` end as containers do: with all that they have started, or without the proof of it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from joblease.settings import AZURITE_CONNECTION_STRING
from joblease_local import warden
from joblease_local.processes import PartFailed, recorded, started_at
from joblease_local.worker import Warded, Worker

FAMILY = """
import os, subprocess, sys, time
def daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            print("born", os.getpid(), flush=True)
            time.sleep(600)
        os._exit(0)
daemon()
print("born", subprocess.Popen(["sleep", "600"], start_new_session=True).pid, flush=True)
print("born", subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 600; true"]).pid, flush=True)
"""
LIVE = "time.sleep(600)"


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Warded]:
    warded = Warded("worker-1", tmp_path)
    yield warded
    warded.kill()


def born(process: Warded, count: int) -> list[int]:
    def found() -> list[int]:
        return [int(line.split()[1]) for line in process.log.read_text().splitlines() if line.startswith("born")]

    process.until(lambda: len(found()) == count, 20)
    return found()


def ended(process: Warded, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while process.running:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_killed_worker_has_ended_when_all_its_descendants_have(process: Warded, tmp_path: Path) -> None:
    assert process.over()
    process.start([sys.executable, "-c", FAMILY + LIVE])
    assert recorded(tmp_path) == {"worker-1": process.pid}
    descendants = born(process, 3)
    assert not process.over()
    os.kill(process.pid, signal.SIGKILL)
    ended(process)
    assert [started_at(pid) for pid in descendants] == [None, None, None]
    assert process.ending == "ended by SIGKILL"
    assert process.over()


def test_what_a_worker_leaves_that_ends_by_itself_is_killed(process: Warded) -> None:
    process.start([sys.executable, "-c", FAMILY + "raise SystemExit(3)"])
    ended(process)
    assert process.ending == "ended with exit code 3"
    assert [started_at(pid) for pid in born_before(process)] == [None, None, None]


def born_before(process: Warded) -> list[int]:
    lines = process.log.read_text().splitlines()
    return [int(line.split()[1]) for line in lines if line.startswith("born")]


def test_a_killed_warden_proves_nothing_and_takes_its_worker_along(process: Warded) -> None:
    process.start(["/bin/sleep", "600"])
    worker = process.pid
    assert process._child
    process._child.kill()
    ended(process)
    deadline = time.monotonic() + 10
    while started_at(worker) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not process.over()


def test_what_does_not_end_is_given_up_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    child = subprocess.Popen(["sleep", "600"])
    monkeypatch.setattr(warden, "END_SECONDS", 0.1)
    monkeypatch.setattr(warden, "children", lambda _: [])  # as if it belonged to another user
    try:
        assert not warden.end_children()
    finally:
        child.kill()
        child.wait()


def test_a_worker_keeps_its_identity_only_with_the_proof(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\necho $JOBLEASE_WORKER_IDENTITY\nexec sleep 600\n")
    script.chmod(0o755)
    nowhere = AZURITE_CONNECTION_STRING.replace(":10000/", ":1/")
    worker = Worker(script, "worker-1", tmp_path, 0, {"JOBLEASE_STORAGE_CONNECTION_STRING": nowhere})

    def identities(count: int) -> list[str]:
        worker.process.until(lambda: len(worker.process.log.read_text().splitlines()) == count, 20)
        return worker.process.log.read_text().splitlines()

    try:
        worker.start()
        (first,) = identities(1)
        assert first
        worker.process.signal(signal.SIGKILL)
        ended(worker.process)
        worker.start()
        assert identities(2) == [first, first]
        assert worker.process._child
        worker.process._child.kill()  # the warden
        ended(worker.process)
        worker.start()
        assert len(set(identities(3))) == 2
    finally:
        worker.process.kill()


def test_a_command_that_is_missing_is_told(process: Warded, tmp_path: Path) -> None:
    process.start([tmp_path / "nothing"])
    with pytest.raises(PartFailed, match="exit code 127"):
        process.until(lambda: False, 10)
