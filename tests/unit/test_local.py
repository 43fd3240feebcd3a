"""The embedded default's own logic: processes, ports, settings, and what is started again when."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from joblease.settings import describe
from joblease_local.binaries import NAMES, kubernetes_binaries
from joblease_local.main import status
from joblease_local.ports import free_ports, listening, owner_of, require_free
from joblease_local.processes import PartFailed, Process, end_group, record, recorded, started_at
from joblease_local.run import hints, ready_file
from joblease_local.settings import LocalSettings
from joblease_local.supervisor import LONGEST_PAUSE_SECONDS, TRUSTED_SECONDS, Supervisor


class StubPart:
    """A part that ends when the test says so."""

    name = "stub"
    ending = "ended by SIGKILL"

    def __init__(self) -> None:
        self.running = True
        self.starts = self.ends = 0
        self.fails = False

    def start(self) -> None:
        self.starts += 1
        if self.fails:
            raise PartFailed("no luck")
        self.running = True

    def ended(self) -> None:
        self.ends += 1

    def ready(self) -> None: ...

    def stop(self) -> None: ...


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def test_status_tells_what_keeps_ending(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = LocalSettings(state=tmp_path)
    record(tmp_path, "up", os.getpid())
    ready_file(tmp_path).touch()
    worker = Process("worker-1", tmp_path)
    try:
        worker.start(python("import time; time.sleep(60)"))
        assert status(settings) == 0
        worker.kill()
        assert status(settings) == 1
        assert re.search(r"worker-1 +has ended by itself and is started again.*worker-1.log", capsys.readouterr().out)
        worker.start(python("import time; time.sleep(60)"))
        assert status(settings) == 1
        assert "started 2 times" in capsys.readouterr().out
    finally:
        worker.stop()
    assert status(settings) == 0


def test_what_ends_is_started_again_at_once_and_then_after_a_wait() -> None:
    part, said = StubPart(), list[str]()
    supervisor = Supervisor([part], said.append)
    supervisor.look(0)
    assert (part.starts, said) == (0, [])
    part.running = False
    supervisor.look(1)
    assert part.starts == 1
    assert said == ["stub ended by SIGKILL; starting it again in 0 s"]
    part.running = False
    supervisor.look(1.5)
    supervisor.look(2.9)
    assert (part.starts, part.ends) == (1, 2)  # what its end asks for does not wait
    supervisor.look(3)
    assert part.starts == 2


def test_waits_grow_up_to_a_bound_while_it_keeps_ending() -> None:
    part, said, now = StubPart(), list[str](), 0.0
    supervisor = Supervisor([part], said.append)
    for _ in range(8):
        part.running = False
        supervisor.look(now)
        while not part.running:
            now += 1
            supervisor.look(now)
    waits = [int(match[0]) for line in said if (match := re.search(r"\d+(?= s)", line))]
    assert waits == [0, 2, 4, 8, 16, LONGEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS]


def test_what_has_run_for_a_while_is_trusted_again() -> None:
    part, said = StubPart(), list[str]()
    supervisor = Supervisor([part], said.append)
    for ended_at in (0.0, 0.0):
        part.running = False
        supervisor.look(ended_at)
        supervisor.look(ended_at + 2)
    assert said[-1].endswith("in 2 s")
    supervisor.look(2 + TRUSTED_SECONDS + 1)
    for ended_at, words in ((100.0, "in 0 s"), (100.5, "in 2 s")):
        part.running = False
        supervisor.look(ended_at)
        assert said[-1].endswith(words)


def test_a_part_that_cannot_start_is_tried_again() -> None:
    part, said = StubPart(), list[str]()
    supervisor = Supervisor([part], said.append)
    part.running, part.fails = False, True
    for now in (0, 1, 2, 4):
        supervisor.look(now)
    assert part.starts == 2
    assert said.count("no luck") == 2


def test_a_process_is_recorded_and_ended_with_its_children(tmp_path: Path) -> None:
    child = "import subprocess, sys; subprocess.Popen(['sleep', '600']); print('up', flush=True); sys.stdin.close()\n"
    process = Process("parent", tmp_path)
    process.start(python(f"{child}\nimport time; time.sleep(600)"))
    process.until(lambda: "up" in process.log.read_text(), 10)
    (pid,) = recorded(tmp_path).values()
    members = subprocess.run(["pgrep", "-g", str(pid)], capture_output=True, text=True, check=True).stdout.split()
    assert len(members) == 2
    process.stop(5)
    assert not process.running
    assert process.ending == "ended by SIGTERM"
    assert recorded(tmp_path) == {}
    assert all(started_at(int(member)) is None for member in members)


def test_a_process_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    process = Process("stubborn", tmp_path)
    process.start(
        python("import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)")
    )
    process.until(lambda: "up" in process.log.read_text(), 10)
    process.stop(0.2)
    assert process.ending == "ended by SIGKILL"


def test_a_part_that_ends_at_once_tells_why(tmp_path: Path) -> None:
    process = Process("broken", tmp_path)
    process.start(python("print('the disk is on fire'); raise SystemExit(3)"))
    with pytest.raises(PartFailed, match="broken ended with exit code 3:\n    the disk is on fire") as caught:
        process.until(lambda: False, 10)
    assert str(process.log) in str(caught.value)
    process.stop()


def test_a_part_that_never_gets_ready_is_given_up(tmp_path: Path) -> None:
    process = Process("slow", tmp_path)
    process.start(["sleep", "600"])
    with pytest.raises(PartFailed, match="slow was not ready within 0 s"):
        process.until(lambda: False, 0.1)
    process.stop()


def test_a_process_id_that_was_used_again_is_not_ours(tmp_path: Path) -> None:
    record(tmp_path, "ours", os.getpid())
    assert recorded(tmp_path) == {"ours": os.getpid()}
    path = tmp_path / "run" / "ours.json"
    path.write_text(path.read_text().replace(str(started_at(os.getpid())), "12345"))
    assert recorded(tmp_path) == {}


def test_a_process_that_nobody_waited_for_has_ended() -> None:
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    end_group(child.pid, 5)
    assert started_at(child.pid) is None
    assert child.wait() == -signal.SIGTERM


def test_a_taken_port_is_reported_with_its_owner_and_the_setting() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        assert listening(port)
        with pytest.raises(PartFailed, match=rf"port {port}, which is for tests,.* process {os.getpid()} .*A_SETTING"):
            require_free(port, "tests", "A_SETTING")
    require_free(port, "tests", "A_SETTING")
    assert owner_of(port) is None


def test_free_ports_are_those_of_one_process_and_of_no_connection() -> None:
    connections = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    command = [sys.executable, "-c", "from joblease_local.ports import *; print(free_ports(150)); input()"]
    others = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(5)]
    ports = free_ports(150)
    for other in others:
        assert other.stdout
        ports += json.loads(other.stdout.readline())
    for other in others:
        other.communicate(b"\n", timeout=20)
    assert len(set(ports)) == 6 * 150
    assert max(ports) < connections


def test_what_a_killed_test_run_has_started_ends(tmp_path: Path) -> None:
    script = (
        "from joblease_local.processes import *; import subprocess, sys, time\n"
        "process = Process('part', Path(sys.argv[1]) / 'deep')\n"
        "process.start(['sleep', '600'])\n"
        "command = [sys.executable, '-m', 'support.reaper', sys.argv[1]]\n"
        "subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)\n"
        "print(process._child.pid, flush=True); time.sleep(600)\n"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent
    )
    assert run.stdout
    part = int(run.stdout.readline())
    assert recorded(tmp_path / "deep") == {"part": part}
    run.kill()
    run.wait()
    run.stdout.close()
    deadline = time.monotonic() + 20
    while recorded(tmp_path / "deep"):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_ports_of_all_parts_follow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBLEASE_LOCAL_FIRST_PORT", "30000")
    monkeypatch.setenv("JOBLEASE_LOCAL_WORKERS", "2")
    ports = LocalSettings().ports()
    assert list(ports.values()) == list(range(30000, 30013))
    assert list(ports)[-3:] == ["worker-1", "worker-2", "dashboard"]


def test_every_setting_is_described() -> None:
    assert describe(LocalSettings).count("JOBLEASE_LOCAL_") == len(LocalSettings.model_fields)
    assert all(field.description for field in LocalSettings.model_fields.values())


@pytest.mark.parametrize(("kubectl", "others"), [(True, 2), (False, 0)])
def test_hints_name_three_commands_that_exist_here(*, kubectl: bool, others: int) -> None:
    text = hints(LocalSettings(), programs=True, kubectl=kubectl)
    commands = [line for line in text.splitlines() if line.startswith("  ")]
    assert "http://127.0.0.1:8080" in text
    assert len(commands) == 3
    assert sum("kubectl " in command for command in commands) == others


def test_given_binaries_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, cache = tmp_path / "given", tmp_path / "cache"
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(given))
    with pytest.raises(PartFailed, match="KUBEBUILDER_ASSETS"):
        kubernetes_binaries(cache, print)
    for folder in (given, cache):
        folder.mkdir()
        for name in NAMES:
            (folder / name).touch(mode=0o755)
    assert kubernetes_binaries(cache, print) == given
    monkeypatch.delenv("KUBEBUILDER_ASSETS")
    assert kubernetes_binaries(cache, print) == cache


def test_without_any_source_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PartFailed, match=r"KUBEBUILDER_ASSETS .* Go"):
        kubernetes_binaries(tmp_path / "cache", print)
