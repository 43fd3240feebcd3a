"""A RabbitMQ of our own: node name, ports and data apart from any other on the machine.

The distribution's start script would switch to the user `rabbitmq` and the system's data; the server itself is called
instead, with everything set by environment. Its name server (epmd) is started by us as well, in the foreground, because
the one that Erlang starts by itself stays behind when everything else has ended.
"""

import base64
import hashlib
import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from joblease_local.ports import listening
from joblease_local.processes import OneProcess, PartFailed, Process, Say

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
READY_SECONDS = 90
INSTALL_SECONDS = 600


def require_rabbitmq(say: Say) -> Path:
    """The server's start script; installs Debian's package if there is none. Raises `PartFailed`."""
    found = _find()
    if found:
        return found
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise PartFailed(
            "there is no rabbitmq-server on this machine. Install it (Debian: apt-get install rabbitmq-server), or set "
            "JOBLEASE_AMQP_URL to a RabbitMQ that is running."
        )
    say("RabbitMQ: installing Debian's package rabbitmq-server (about a minute)")
    # RUNLEVEL=1 keeps the package's scripts from starting the system's service.
    environment = {**os.environ, "RUNLEVEL": "1", "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", "rabbitmq-server"]):
        done = subprocess.run(
            ["apt-get", *command], env=environment, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
        )
        if done.returncode:
            raise PartFailed(f"apt-get {command[0]} failed: {done.stderr.strip()[-500:]}")
    found = _find()
    if not found:
        raise PartFailed("the package rabbitmq-server was installed, but its server is not where it is expected")
    return found


def _find() -> Path | None:
    if SERVER.exists():
        return SERVER
    other = shutil.which("rabbitmq-server")
    return Path(other) if other else None


class RabbitMQ(OneProcess):
    """A broker on the loopback address with the account guest/guest."""

    name = "RabbitMQ"

    def __init__(self, server: Path, state: Path, ports: tuple[int, int, int], vhosts: Sequence[str] = ()) -> None:
        """`ports`: AMQP, Erlang distribution, epmd. `vhosts` are made beside `/`."""
        self._server = server
        self._folder = state / "rabbitmq"
        self._port, self._distribution_port, self._epmd_port = ports
        self._vhosts = ["/", *vhosts]
        self._epmd = Process("epmd", state)
        self.process = Process("rabbitmq", state)

    @property
    def url(self) -> str:
        """Address of the vhost `/`."""
        return f"amqp://guest:guest@127.0.0.1:{self._port}/"

    def start(self) -> None:
        """Start it, its name server first."""
        self._folder.mkdir(parents=True, exist_ok=True)
        config, definitions, plugins = (
            self._folder / each for each in ("rabbitmq.conf", "definitions.json", "plugins")
        )
        (self._folder / "rabbitmq-env.conf").touch()
        definitions.write_text(json.dumps(self._definitions()))
        plugins.write_text("[].\n")
        config.write_text(
            f"listeners.tcp.default = 127.0.0.1:{self._port}\n"
            f"load_definitions = {definitions}\n"
            "disk_free_limit.absolute = 50MB\n"
            "log.file = false\nlog.console = true\nlog.console.level = warning\n"
        )
        epmd = shutil.which("epmd")
        if epmd and not self._epmd.running:
            self._epmd.start([epmd, "-port", str(self._epmd_port), "-address", "127.0.0.1"], self._environment())
            self._epmd.until(lambda: listening(self._epmd_port), READY_SECONDS)
        self.process.start([self._server], self._environment(), self._folder)  # where it dumps what it dies of

    def ready(self) -> None:
        """Wait until it takes connections."""
        self.process.until(lambda: listening(self._port), READY_SECONDS)

    def stop(self) -> None:
        """End the broker, then its name server."""
        self.process.stop(20)
        self._epmd.stop()

    def control(self, *arguments: str) -> str:
        """What `rabbitmqctl` answers. Raises `PartFailed`."""
        command = [str(self._server.with_name("rabbitmqctl")), *arguments]
        environment = {**os.environ, **self._environment()}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=READY_SECONDS, check=False
        )
        if done.returncode:
            raise PartFailed(f"rabbitmqctl {arguments[0]} failed: {done.stdout}{done.stderr}")
        return done.stdout

    def _environment(self) -> dict[str, str]:
        return {
            "HOME": str(self._folder),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": "joblease@localhost",  # alone with its name server; its data is named after it
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": str(self._folder / "data"),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(self._folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(self._folder / "rabbitmq-env.conf"),  # instead of the system's
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "plugins"),
            "RABBITMQ_PID_FILE": str(self._folder / "pid"),
            "RUNNING_UNDER_SYSTEMD": "1",  # the script becomes the server instead of waiting for it
        }

    def _definitions(self) -> dict[str, object]:
        every = {"configure": ".*", "write": ".*", "read": ".*"}
        return {
            "users": [
                {
                    "name": "guest",
                    "password_hash": _password_hash("guest"),
                    "hashing_algorithm": "rabbit_password_hashing_sha256",
                    "tags": "administrator",
                }
            ],
            "vhosts": [{"name": vhost} for vhost in self._vhosts],
            "permissions": [{"user": "guest", "vhost": vhost, **every} for vhost in self._vhosts],
        }


def _password_hash(password: str) -> str:
    """As RabbitMQ stores it: base64 of a 4-byte salt and SHA-256 of salt and password."""
    salt = secrets.token_bytes(4)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
