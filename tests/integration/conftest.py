"""An operator and its workers as processes, on a real API server, broker and storage emulator.

Each test has a namespace of its own, which is also its queue and its concurrency group, so that none waits for another.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from joblease_local.control_plane import ControlPlane
from support.accounts import program_kubeconfig
from support.attack import Dashboard
from support.attacked import dashboard_of_two
from support.cli import Cli
from support.cluster import Cluster
from support.jobs import Jobs, open_jobs
from support.programs import Program, program
from support.tcp_proxy import TcpProxy

Start = Callable[..., AbstractAsyncContextManager[Program]]


@pytest.fixture(scope="module")
def operator_kubeconfig(api_server: ControlPlane, crd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The operator runs with the rights of its manifest, not as administrator."""
    return program_kubeconfig(api_server, "operator", tmp_path_factory.mktemp("operator"))


@pytest.fixture(scope="module")
async def dashboard(
    api_server: ControlPlane, crd: Path, amqp_url: str, storage: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Dashboard]:
    """One that tests attack."""
    folder = tmp_path_factory.mktemp("attacked")
    async with dashboard_of_two(api_server, crd, amqp_url, storage, folder) as running:
        yield running


@pytest.fixture
def cluster(crd: Path, kube_namespace: str) -> Cluster:
    return Cluster(crd, kube_namespace)


@pytest.fixture
def cli(crd: Path, kube_namespace: str) -> Cli:
    return Cli(crd, kube_namespace)


@pytest.fixture
async def jobs(amqp_url: str, storage: str) -> AsyncIterator[Jobs]:
    async with open_jobs(amqp_url, storage) as opened:
        yield opened


@pytest.fixture
async def proxy(amqp_url: str) -> AsyncIterator[TcpProxy]:
    """Between a test and the broker."""
    async with TcpProxy(urlsplit(amqp_url).port or 0) as opened:
        yield opened


@pytest.fixture
def operator_variables(operator_kubeconfig: Path, amqp_url: str, storage: str, kube_namespace: str) -> dict[str, str]:
    """The environment of an operator."""
    return {
        "KUBECONFIG": str(operator_kubeconfig),
        "JOBLEASE_AMQP_URL": amqp_url,
        "JOBLEASE_STORAGE_CONNECTION_STRING": storage,
        "JOBLEASE_DEFER_SECONDS": "1",
        "JOBLEASE_OPERATOR_NAMESPACES": f'["{kube_namespace}"]',
        "JOBLEASE_OPERATOR_DEFAULT_GROUP": kube_namespace,
    }


@pytest.fixture
def worker_variables(amqp_url: str, storage: str, kube_namespace: str) -> dict[str, str]:
    """The environment of a worker, but for its name."""
    return {
        "JOBLEASE_AMQP_URL": amqp_url,
        "JOBLEASE_STORAGE_CONNECTION_STRING": storage,
        "JOBLEASE_HANDLERS": "support.handlers",
        "JOBLEASE_WORKER_QUEUE": kube_namespace,
        "JOBLEASE_LEASE_SECONDS": "15",
        "JOBLEASE_DEFER_SECONDS": "1",
        "JOBLEASE_CANCEL_GRACE_SECONDS": "1",
    }


@pytest.fixture
def start_operator(operator_variables: dict[str, str], tmp_path: Path) -> Start:
    def start(**environment: str) -> AbstractAsyncContextManager[Program]:
        return program("joblease-operator", {**operator_variables, **environment}, tmp_path / "operator.log")

    return start


@pytest.fixture
def start_worker(worker_variables: dict[str, str], tmp_path: Path) -> Start:
    def start(name: str = "worker-1", **environment: str) -> AbstractAsyncContextManager[Program]:
        variables = {**worker_variables, "JOBLEASE_WORKER_NAME": name, **environment}
        return program("joblease-worker", variables, tmp_path / f"{name}.log")

    return start


@pytest.fixture
async def operator(start_operator: Start) -> AsyncIterator[Program]:
    async with start_operator() as running:
        yield running


@pytest.fixture
async def worker(start_worker: Start) -> AsyncIterator[Program]:
    async with start_worker() as running:
        yield running


@pytest.fixture
def submit(cluster: Cluster) -> Callable[..., str]:
    def create(handler: str = "noop", **spec: Any) -> str:
        return cluster.create(handler, queue=cluster.namespace, **spec)

    return create
