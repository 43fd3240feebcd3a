"""JobLease on parts of its own, where every program reaches broker and storage through proxies that can break."""

import asyncio
import base64
import os
import secrets
import signal
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from joblease_local.azurite import Azurite
from joblease_local.control_plane import ControlPlane
from joblease_local.manifests import apply, apply_file, wait_for_crd
from joblease_local.ports import free_ports
from joblease_local.rabbitmq import RabbitMQ
from joblease_local.settings import ROOT
from support.tcp_proxy import TcpProxy

BIN = Path(sys.executable).parent
ACCOUNT = "faults"
NAMESPACE = "faults"
LEASE_SECONDS = 15
SETTINGS = {
    "JOBLEASE_LEASE_SECONDS": str(LEASE_SECONDS),
    "JOBLEASE_DEFER_SECONDS": "1",
    "JOBLEASE_AMQP_TIMEOUT_SECONDS": "3",
    "JOBLEASE_AMQP_HEARTBEAT_SECONDS": "3",
    "JOBLEASE_STORAGE_TIMEOUT_SECONDS": "3",
    "JOBLEASE_CANCEL_GRACE_SECONDS": "1",
    "JOBLEASE_DRAIN_GRACE_SECONDS": "1",
    "JOBLEASE_WORKER_CONCURRENCY": "2",
    "JOBLEASE_HANDLERS": "faults.handlers",
    "JOBLEASE_OPERATOR_NAMESPACES": f'["{NAMESPACE}"]',
    "JOBLEASE_OPERATOR_RESYNC_SECONDS": "5",
    "JOBLEASE_OPERATOR_SWEEP_SECONDS": "5",
    "JOBLEASE_OPERATOR_REPUBLISH_SECONDS": "20",
    "JOBLEASE_OPERATOR_API_TIMEOUT_SECONDS": "5",
    "JOBLEASE_OPERATOR_LEASE_NAMESPACE": NAMESPACE,
    "JOBLEASE_METRICS_HOST": "127.0.0.1",
    "JOBLEASE_LOG_FORMAT": "json",
}


@dataclass(slots=True)
class Network:
    """A program's ways to the others."""

    broker: TcpProxy
    blob: TcpProxy
    table: TcpProxy
    api: TcpProxy

    def all(self) -> list[TcpProxy]:
        return [self.broker, self.blob, self.table, self.api]


class Supervised:
    """A program that is started again whenever it ends, as its Deployment would."""

    def __init__(self, name: str, command: str, environment: Mapping[str, str], network: Network, log: Path) -> None:
        self.name = name
        self.network = network
        self.starts = 0
        self._command = command
        self._environment = environment
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=self.name)

    async def _run(self) -> None:
        while True:
            with self._log.open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    BIN / self._command, env=dict(self._environment), stdout=log, stderr=log
                )
            self.starts += 1
            await self._process.wait()

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    def signal(self, number: int) -> bool:
        """Send a signal; False when it does not run just now."""
        if (pid := self.pid) is None:
            return False
        try:
            os.kill(pid, number)
        except ProcessLookupError:  # it has ended in this very moment
            return False
        return True

    def children(self) -> list[int]:
        """Its child processes: the guardian, and the handlers' processes."""
        with suppress(OSError):
            return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]
        return []

    async def stop(self) -> None:
        """End it for good."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._process and self.signal(signal.SIGCONT):
            self.signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self._process.wait(), 20)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()


class Installation:
    """Use as an async context manager."""

    def __init__(self, state: Path, binaries: Path, rabbitmq: Path, azurite: Path, workers: int) -> None:
        self.state = state
        self.record = state / "record.jsonl"
        ports = free_ports(9)
        account_key = base64.b64encode(secrets.token_bytes(32)).decode()
        self.api = ControlPlane(binaries, state, (ports[0], ports[1], ports[2]), durable=False)
        self.broker = RabbitMQ(rabbitmq, state, (ports[3], ports[4], ports[5]))
        self.storage = Azurite(azurite, state, (ports[6], ports[7], ports[8]), {ACCOUNT: account_key})
        self._ports = {"api": ports[0], "broker": ports[3], "blob": ports[6], "table": ports[8]}
        self._worker_count = workers
        self.workers: list[Supervised] = []
        self.operator: Supervised
        self.dashboard: Supervised
        self._stack = AsyncExitStack()

    @property
    def programs(self) -> list[Supervised]:
        return [*self.workers, self.operator, self.dashboard]

    @property
    def connection_string(self) -> str:
        """Storage without a proxy: the tests' own way."""
        return self.storage.connection_string(ACCOUNT)

    async def __aenter__(self) -> Self:
        try:
            parts = (self.api, self.broker, self.storage)
            for part in parts:
                self._stack.push_async_callback(asyncio.to_thread, part.stop)
            await asyncio.gather(*(asyncio.to_thread(part.start) for part in parts))
            for part in parts:
                await asyncio.to_thread(part.ready)
            await asyncio.to_thread(self._prepare_api)
            self.workers = [await self._program(f"worker-{n}", "joblease-worker") for n in range(self._worker_count)]
            self.operator = await self._program("operator", "joblease-operator")
            self.dashboard = await self._program("dashboard", "joblease-dashboard")
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(program.stop() for program in self.programs))
        await self._stack.aclose()

    def start(self) -> None:
        """Start all programs."""
        for program in self.programs:
            program.start()

    def _prepare_api(self) -> None:
        apply_file(self.api.kubeconfig, ROOT / "manifests" / "crd.yaml")
        wait_for_crd(self.api.kubeconfig)
        apply(self.api.kubeconfig, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})

    async def _program(self, name: str, command: str) -> Supervised:
        proxies = [await self._stack.enter_async_context(TcpProxy(port)) for port in self._ports.values()]
        network = Network(api=proxies[0], broker=proxies[1], blob=proxies[2], table=proxies[3])
        kubeconfig = self.state / f"{name}.kubeconfig"
        text = self.api.kubeconfig.read_text()
        kubeconfig.write_text(text.replace(f":{self._ports['api']}", f":{network.api.port}"))
        probes, pages = map(str, free_ports(2))
        connection = self.connection_string
        for service in ("blob", "table"):
            connection = connection.replace(f":{self._ports[service]}/", f":{getattr(network, service).port}/")
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("JOBLEASE_")},
            **SETTINGS,
            "PYTHONPATH": str(ROOT / "tests"),
            "KUBECONFIG": str(kubeconfig),
            "JOBLEASE_AMQP_URL": f"amqp://guest:guest@127.0.0.1:{network.broker.port}/",
            "JOBLEASE_STORAGE_CONNECTION_STRING": connection,
            "JOBLEASE_METRICS_PORT": probes,
            "JOBLEASE_DASHBOARD_PORT": pages,
            "JOBLEASE_WORKER_NAME": name,
        }
        return Supervised(name, command, environment, network, self.state / f"{name}.log")
