"""What `make up` runs: the parts that JobLease needs, then its programs, connected with each other."""

import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from joblease.settings import AZURITE_CONNECTION_STRING

from joblease_local.azurite import Azurite, require_azurite
from joblease_local.binaries import kubernetes_binaries
from joblease_local.control_plane import ControlPlane
from joblease_local.manifests import apply_file, wait_for_crd
from joblease_local.ports import require_free
from joblease_local.processes import Say
from joblease_local.program import Program
from joblease_local.rabbitmq import RabbitMQ, require_rabbitmq
from joblease_local.settings import ROOT, LocalSettings
from joblease_local.supervisor import Part
from joblease_local.worker import Worker

MANIFESTS = ROOT / "manifests"
ACCESS = frozenset({"Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"})
"""Of the installation manifest only what gives the operator its rights; the programs run as processes here."""


def own_broker() -> bool:
    """Whether to run a broker, because the environment names none."""
    return not os.environ.get("JOBLEASE_AMQP_URL")


def own_storage() -> bool:
    """Whether to run a storage emulator, because the environment names no account."""
    return not (os.environ.get("JOBLEASE_STORAGE_CONNECTION_STRING") or os.environ.get("JOBLEASE_STORAGE_ACCOUNT_URL"))


class Stack:
    """All parts and programs of one state folder."""

    def __init__(self, settings: LocalSettings, say: Say) -> None:
        self._settings = settings
        self._say = say
        self._state = settings.folder
        self._ports = settings.ports()
        self.environment: dict[str, str] = {}
        self.parts: list[Part] = []
        self.programs: list[Part] = []

    def require_ports(self, *, programs: bool) -> None:
        """Raise `PartFailed` when a port that we need is taken."""
        unneeded = set() if programs else {"operator", *self._settings.worker_names()}
        unneeded |= {name for name in self._ports if name.startswith("RabbitMQ") and not own_broker()}
        unneeded |= {name for name in self._ports if name.startswith("Azurite") and not own_storage()}
        for purpose, port in self._ports.items():
            if purpose not in unneeded:
                require_free(port, purpose, "JOBLEASE_LOCAL_FIRST_PORT")
        if programs:
            require_free(self._settings.dashboard_port, "the dashboard", "JOBLEASE_LOCAL_DASHBOARD_PORT")

    def prepare(self) -> None:
        """Find, fetch or build what the parts consist of, and connect them; nothing is started."""
        ports = list(self._ports.values())
        self._control_plane = ControlPlane(
            kubernetes_binaries(self._state / "bin", self._say), self._state, (ports[0], ports[1], ports[2])
        )
        self.parts = [self._control_plane]
        if own_broker():
            rabbitmq = RabbitMQ(require_rabbitmq(self._say), self._state, (ports[3], ports[4], ports[5]))
            self.environment["JOBLEASE_AMQP_URL"] = rabbitmq.url
            self.parts.append(rabbitmq)
        if own_storage():
            account = dict(item.split("=", 1) for item in AZURITE_CONNECTION_STRING.rstrip(";").split(";"))
            azurite = Azurite(
                require_azurite(self._state / "azurite", self._say),
                self._state,
                (ports[6], ports[7], ports[8]),
                {account["AccountName"]: account["AccountKey"]},
            )
            self.environment["JOBLEASE_STORAGE_CONNECTION_STRING"] = azurite.connection_string(account["AccountName"])
            self.parts.append(azurite)

    def start_parts(self) -> None:
        """Start the parts, and install the resource and the operator's rights."""
        self._start(self.parts)
        kubeconfig, operator = self._control_plane.kubeconfig, self._state / "operator.kubeconfig"
        apply_file(kubeconfig, MANIFESTS / "crd.yaml")
        apply_file(kubeconfig, MANIFESTS / "install.yaml", ACCESS)
        wait_for_crd(kubeconfig)
        self._control_plane.service_account_kubeconfig("joblease-system", "joblease-operator", operator)
        self.environment["KUBECONFIG"] = str(operator)
        lines = [f"export {name}='{value}'\n" for name, value in sorted(self.environment.items())]
        (self._state / "environment").write_text("".join(lines))

    def start_programs(self) -> None:
        """Start operator, workers and dashboard."""
        self.programs = [
            self._program("joblease-operator", "operator", self._ports["operator"]),
            *(
                self._program("joblease-worker", name, self._ports[name], Worker, JOBLEASE_WORKER_NAME=name)
                for name in self._settings.worker_names()
            ),
            self._program(
                "joblease-dashboard",
                "dashboard",
                self._ports["dashboard"],
                JOBLEASE_DASHBOARD_PORT=str(self._settings.dashboard_port),
                KUBECONFIG=str(self._control_plane.kubeconfig),  # whoever is at this machine is its administrator
            ),
        ]
        self._start(self.programs)

    def stop(self) -> None:
        """End everything, the programs first."""
        for parts in (self.programs, self.parts):
            with ThreadPoolExecutor(max_workers=len(parts) or 1) as together:
                list(together.map(lambda part: part.stop(), parts))

    def _start(self, parts: Sequence[Part]) -> None:
        started = time.monotonic()
        for part in parts:
            part.start()
        for part in parts:
            part.ready()
            self._say(f"{part.name}: ready after {time.monotonic() - started:.1f} s")

    def _program(self, script: str, name: str, port: int, kind: type[Program] = Program, **environment: str) -> Program:
        fixed = {
            "JOBLEASE_WORKER_QUEUE": os.environ.get("JOBLEASE_WORKER_QUEUE", "default"),
            "JOBLEASE_DASHBOARD_HOST": "127.0.0.1",
            "JOBLEASE_METRICS_HOST": "127.0.0.1",
            "JOBLEASE_METRICS_PORT": str(port),
            # Whoever presses Ctrl-C does not want to wait: running jobs are handed back almost at once.
            "JOBLEASE_DRAIN_GRACE_SECONDS": os.environ.get("JOBLEASE_DRAIN_GRACE_SECONDS", "2"),
        }
        path = Path(sys.executable).parent / script
        return kind(path, name, self._state, port, {**self.environment, **fixed, **environment})
