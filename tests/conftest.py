"""Real parts for the tests, started when the first test asks for them, with ports and state of their own.

One API server, one broker and one storage emulator serve the whole session. What keeps tests apart is inside them: a
namespace per test, a vhost and a storage account per test module.
"""

import base64
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from joblease_local.azurite import Azurite, require_azurite
from joblease_local.binaries import kubernetes_binaries
from joblease_local.control_plane import ControlPlane
from joblease_local.ports import free_ports
from joblease_local.rabbitmq import RabbitMQ, require_rabbitmq
from joblease_local.settings import ROOT
from support.parts import CACHE, need, say

MODULES = 60
"""Test modules that can have a vhost and a storage account each."""


@pytest.fixture(scope="session", autouse=True)
def _reaper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A process that outlives this one when it is killed, and ends its parts and programs."""
    command = [sys.executable, "-m", "support.reaper", str(tmp_path_factory.getbasetemp())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=Path(__file__).parent, start_new_session=True):
        yield


@pytest.fixture(scope="session")
def parts_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parts")


def run_control_plane(folder: Path) -> Iterator[ControlPlane]:
    binaries = need(lambda: kubernetes_binaries(CACHE / "bin", say))
    server, client, peer = free_ports(3)
    plane = ControlPlane(binaries, folder, (server, client, peer), durable=False)
    try:
        plane.start()
        plane.ready()
        yield plane
    finally:
        plane.stop()


@pytest.fixture(scope="session")
def api_server(parts_state: Path) -> Iterator[ControlPlane]:
    yield from run_control_plane(parts_state)


@pytest.fixture
def empty_api_server(tmp_path: Path) -> Iterator[ControlPlane]:
    """One of the test's own, which does not know JobRequests yet."""
    yield from run_control_plane(tmp_path / "control-plane")


@pytest.fixture(scope="session")
def control_plane(api_server: ControlPlane) -> Path:
    """An administrator's kubeconfig."""
    return api_server.kubeconfig


@pytest.fixture(scope="session")
def crd(control_plane: Path) -> Path:
    """The custom resource, established; the same kubeconfig."""
    from joblease_local.manifests import apply_file, wait_for_crd

    apply_file(control_plane, ROOT / "manifests" / "crd.yaml")
    wait_for_crd(control_plane)
    return control_plane


@pytest.fixture
def kube_namespace(control_plane: Path) -> str:
    """A fresh namespace. It goes when the whole etcd is thrown away."""
    from joblease_local.manifests import apply

    name = f"test-{secrets.token_hex(4)}"
    apply(control_plane, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name


@pytest.fixture(scope="session")
def broker(parts_state: Path) -> Iterator[RabbitMQ]:
    server = need(lambda: require_rabbitmq(say))
    amqp, distribution, epmd = free_ports(3)
    rabbitmq = RabbitMQ(server, parts_state, (amqp, distribution, epmd), [f"module-{n}" for n in range(MODULES)])
    try:
        rabbitmq.start()
        rabbitmq.ready()
        yield rabbitmq
    finally:
        rabbitmq.stop()


@pytest.fixture(scope="session")
def _emulator(parts_state: Path) -> Iterator[Azurite]:
    script = need(lambda: require_azurite(CACHE / "azurite", say))
    blob, queue, table = free_ports(3)
    accounts = {f"module{n}": base64.b64encode(secrets.token_bytes(32)).decode() for n in range(MODULES)}
    azurite = Azurite(script, parts_state, (blob, queue, table), accounts, durable=False)
    try:
        azurite.start()
        azurite.ready()
        yield azurite
    finally:
        azurite.stop()


@pytest.fixture(scope="session")
def _module_numbers() -> dict[str, int]:
    return {}


@pytest.fixture(scope="module")
def _module_number(request: pytest.FixtureRequest, _module_numbers: dict[str, int]) -> int:
    module: Any = request.module
    return _module_numbers.setdefault(module.__name__, len(_module_numbers))


@pytest.fixture(scope="module")
def amqp_url(broker: RabbitMQ, _module_number: int) -> str:
    """The broker, in a vhost that only this module uses."""
    return f"{broker.url}module-{_module_number}"


@pytest.fixture(scope="module")
def storage(_emulator: Azurite, _module_number: int) -> str:
    """Connection string of a storage account that only this module uses."""
    return _emulator.connection_string(f"module{_module_number}")
