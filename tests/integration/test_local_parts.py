"""`python -m joblease_local` as a person uses it: everything comes up, serves, survives a crash, ends, and goes on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from joblease_local.ports import free_ports, listening
from joblease_local.processes import recorded
from joblease_local.settings import LocalSettings
from kubernetes import client, config

PARTS = {"azurite", "epmd", "etcd", "kube-apiserver", "rabbitmq", "up"}

pytestmark = pytest.mark.timeout(240)


def eventually(condition: Callable[[], bool], what: str, timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(0.1)


class Local:
    """The command, with a state folder and ports of its own."""

    def __init__(self, state: Path, environment: Mapping[str, str]) -> None:
        self.state = state
        self._environment = environment

    def run(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "joblease_local", *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def kubernetes(self) -> client.CoreV1Api:
        return client.CoreV1Api(config.new_client_from_config(str(self.state / "kubeconfig")))


@pytest.fixture
def local(tmp_path: Path, broker: object, _emulator: object, api_server: object) -> Iterator[Local]:
    """The session's parts are asked for because they make sure that all tools are here."""
    (state := tmp_path / "state").mkdir()
    for cache in ("bin", "azurite"):
        (state / cache).symlink_to(LocalSettings().folder / cache)
    others = {key: value for key, value in os.environ.items() if not key.startswith("JOBLEASE_")}
    first = next(port for port in range(23000, 30000, 50) if not any(map(listening, range(port, port + 13))))
    environment = {
        **others,
        "JOBLEASE_LOCAL_STATE": str(state),
        "JOBLEASE_LOCAL_WORKERS": "1",
        "JOBLEASE_LOCAL_FIRST_PORT": str(first),
        "JOBLEASE_LOCAL_DASHBOARD_PORT": str(free_ports(1)[0]),
    }
    here = Local(state, environment)
    yield here
    here.run("down")


def test_parts_serve_and_end_and_go_on_with_their_data(local: Local) -> None:
    assert "does not run here" in local.run("status", code=1)
    assert "The parts run" in local.run("up", "--detach", "--parts-only")
    assert set(recorded(local.state)) == PARTS
    local.run("status")
    assert "runs here already" in local.run("up", "--detach", code=1)
    assert "end it first" in local.run("clean", code=1)
    local.kubernetes().create_namespace({"metadata": {"name": "kept"}})
    operator = config.new_client_from_config(str(local.state / "operator.kubeconfig"))
    client.CustomObjectsApi(operator).list_cluster_custom_object("joblease.dev", "v1alpha1", "jobrequests")
    with pytest.raises(client.ApiException, match="Forbidden"):
        client.CoreV1Api(operator).list_secret_for_all_namespaces()

    local.run("down")
    assert recorded(local.state) == {}
    local.run("up", "--detach", "--parts-only")
    assert local.kubernetes().read_namespace("kept").metadata.name == "kept"

    local.run("down")
    local.run("clean")
    assert {path.name for path in local.state.iterdir()} <= {"azurite", "azurite.lock", "bin", "bin.lock"}


def test_a_killed_worker_comes_back_and_nothing_outlives_a_killed_supervisor(local: Local) -> None:
    local.run("up", "--detach")
    running = recorded(local.state)
    assert set(running) == {*PARTS, "operator", "worker-1", "dashboard"}
    os.kill(running["worker-1"], signal.SIGKILL)
    eventually(
        lambda: recorded(local.state).get("worker-1", running["worker-1"]) != running["worker-1"], "a new worker"
    )
    assert "worker-1 ended by SIGKILL; starting it again in 0 s" in (local.state / "logs" / "up.log").read_text()

    os.kill(running["up"], signal.SIGKILL)
    eventually(lambda: "up" not in recorded(local.state), "the supervisor's end")
    assert "worker-1" in local.run("down")
    assert recorded(local.state) == {}
