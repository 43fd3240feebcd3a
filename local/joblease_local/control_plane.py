"""A real Kubernetes API without nodes: etcd and kube-apiserver.

Access is by bearer token with RBAC on, and `service_account_kubeconfig` makes credentials of an ordinary service
account, so that the operator runs with exactly the rights that its manifest gives it.
"""

import base64
import json
import secrets
import ssl
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from joblease_local.processes import Process

READY_SECONDS = 90
TOKEN_SECONDS = 365 * 86_400


class ControlPlane:
    """etcd and kube-apiserver on the loopback address."""

    name = "Kubernetes API"

    def __init__(
        self,
        binaries: Path,
        state: Path,
        ports: tuple[int, int, int],
        *,
        durable: bool = True,
        options: Sequence[str] = (),
    ) -> None:
        """`ports`: API server, etcd for clients, etcd for peers. Without `durable`, etcd does not wait for the disk.

        `options` are more of the API server's.
        """
        self._binaries = binaries
        self._folder = state / "kubernetes"
        self._port, self._etcd_port, self._peer_port = ports
        self._durable = durable
        self._options = options
        self._certificate = self._folder / "certificates" / "apiserver.crt"
        self.etcd = Process("etcd", state)
        self.server = Process("kube-apiserver", state)
        self.kubeconfig = state / "kubeconfig"

    def ended(self) -> None:
        """Nothing is to be done."""

    def start(self) -> None:
        """Start what does not run of the two, etcd first."""
        self._folder.mkdir(parents=True, exist_ok=True)
        key, tokens = self._folder / "service-account.key", self._folder / "tokens.csv"
        if not key.exists():
            key.touch(mode=0o600)
            key.write_bytes(_private_key())
        if not tokens.exists():
            tokens.touch(mode=0o600)
            tokens.write_text(f"{secrets.token_hex(24)},admin,admin,system:masters\n")
        self._token = tokens.read_text().split(",")[0]
        if not self.etcd.running:
            self._start_etcd()
        if not self.server.running:
            self._start_server(key, tokens)

    def ready(self) -> None:
        """Wait until the API server serves, and write an administrator's kubeconfig."""
        self.server.until(
            lambda: self._certificate.exists() and self.request("GET", "/readyz") is not None, READY_SECONDS
        )
        _write(self.kubeconfig, self._kubeconfig("admin", self._token))

    def stop(self) -> None:
        """End both, the API server first."""
        self.server.stop()
        self.etcd.stop()

    def forget_the_past(self) -> None:
        """Compact etcd to the present, and start the API server anew: a watch from before gets 410 Gone."""
        etcd = f"http://127.0.0.1:{self._etcd_port}/v3/kv"
        present = _post(f"{etcd}/range", {"key": base64.b64encode(b"/").decode()})["header"]["revision"]
        _post(f"{etcd}/compaction", {"revision": present, "physical": True})
        self.server.stop()
        self.start()
        self.ready()

    @property
    def running(self) -> bool:
        """Whether both live."""
        return self.etcd.running and self.server.running

    @property
    def ending(self) -> str:
        """How it ended."""
        return " and ".join(f"({each.name}) {each.ending}" for each in (self.etcd, self.server) if not each.running)

    def _start_etcd(self) -> None:
        client, peer = f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{self._peer_port}"
        self.etcd.start(
            [
                self._binaries / "etcd",
                f"--data-dir={self._folder / 'etcd'}",
                f"--listen-client-urls={client}",
                f"--advertise-client-urls={client}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=default={peer}",
                "--log-level=warn",
                "--auto-compaction-retention=1h",
                *([] if self._durable else ["--unsafe-no-fsync"]),
            ]
        )
        self.etcd.until(lambda: _answers(f"{client}/health"), READY_SECONDS)

    def _start_server(self, key: Path, tokens: Path) -> None:
        self.server.start(
            [
                self._binaries / "kube-apiserver",
                f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
                "--bind-address=127.0.0.1",
                "--advertise-address=127.0.0.1",
                f"--secure-port={self._port}",
                f"--cert-dir={self._certificate.parent}",
                f"--token-auth-file={tokens}",
                "--authorization-mode=RBAC",
                "--service-cluster-ip-range=10.96.0.0/16",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={key}",
                f"--service-account-signing-key-file={key}",
                "--disable-admission-plugins=ServiceAccount",  # nothing here makes the accounts of new namespaces
                *self._options,
            ]
        )

    def request(self, method: str, path: str, body: Any = None) -> bytes | None:
        """A request as administrator; None when the server does not answer, or not with success."""
        request = urllib.request.Request(
            f"https://127.0.0.1:{self._port}{path}",
            None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
            method=method,
        )
        try:
            trust = ssl.create_default_context(cafile=str(self._certificate))
            with urllib.request.urlopen(request, timeout=5, context=trust) as answer:  # noqa: S310
                content: bytes = answer.read()
                return content
        except (OSError, ssl.SSLError):
            return None

    def service_account_kubeconfig(self, namespace: str, name: str, target: Path) -> None:
        """Write a kubeconfig with a token of a service account."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        answer = self.request("POST", path, {"spec": {"expirationSeconds": TOKEN_SECONDS}})
        if answer is None:
            raise LookupError(f"the API server gave no token for service account {namespace}/{name}")
        _write(target, self._kubeconfig(name, json.loads(answer)["status"]["token"]))

    def _kubeconfig(self, user: str, token: str) -> str:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "joblease",
            "clusters": [
                {
                    "name": "joblease",
                    "cluster": {
                        "server": f"https://127.0.0.1:{self._port}",
                        "certificate-authority": str(self._certificate.resolve()),
                    },
                }
            ],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [
                {"name": "joblease", "context": {"cluster": "joblease", "user": user, "namespace": "default"}}
            ],
        }
        return yaml.safe_dump(config, sort_keys=False)


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):  # noqa: S310 - etcd on this machine
            return True
    except (urllib.error.URLError, OSError):
        return False


def _post(url: str, body: dict[str, Any]) -> Any:
    """A request to etcd's gateway: https://etcd.io/docs/v3.5/dev-guide/api_grpc_gateway/."""
    request = urllib.request.Request(url, json.dumps(body).encode(), method="POST")  # noqa: S310 - etcd on this machine
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        return json.load(answer)


def _private_key() -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
