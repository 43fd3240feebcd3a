"""Child processes that can be found again: started with a log, recorded by process id, ended for certain.

A process id alone is not an identity, since the kernel uses numbers again; so the record holds the start time as well,
and nothing is ever signalled whose start time differs.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


class PartFailed(Exception):
    """A part did not come up, or a tool is missing; the text says what to do."""


class Process:
    """A child process with a log and a record."""

    def __init__(self, name: str, state: Path) -> None:
        self.name = name
        self.log = state / "logs" / f"{name}.log"
        self._record = state / "run" / f"{name}.json"
        self._child: subprocess.Popen[bytes] | None = None

    def start(self, command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> None:
        """Start the command in a session of its own, its output appended to the log."""
        for path in (self.log, self._record):
            path.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                list(map(str, command)),
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._record.write_text(json.dumps({"pid": self._child.pid, "started": started_at(self._child.pid)}))

    @property
    def running(self) -> bool:
        """Whether the process that we started lives."""
        return self._child is not None and self._child.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How it ended, or None."""
        return self._child.poll() if self._child else None

    def until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until it is ready. Raises `PartFailed` with the end of its log."""
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.running:
                raise PartFailed(f"{self.name} ended with exit code {self.exit_code}:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise PartFailed(f"{self.name} was not ready within {seconds:.0f} s:\n{self.log_tail()}")
            time.sleep(0.05)

    def log_tail(self, lines: int = 15) -> str:
        """The last lines of the log, indented."""
        text = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(f"    {line}" for line in text[-lines:]) + f"\n  (from {self.log})"

    def stop(self, seconds: float = 10, number: int = signal.SIGTERM) -> None:
        """End the process and its children: with the signal first, after some seconds for certain."""
        if self._child is None:
            return
        end_group(self._child.pid, number, seconds, lambda: self._child is not None and self._child.poll() is not None)
        self._record.unlink(missing_ok=True)


def started_at(pid: int) -> str | None:
    """When a process started, as the kernel counts it; None when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return None


def recorded(state: Path) -> dict[str, int]:
    """Name and process id of each recorded process that still lives."""
    found = {}
    for record in sorted((state / "run").glob("*.json")):
        entry = json.loads(record.read_text())
        if entry["started"] is not None and started_at(entry["pid"]) == entry["started"]:
            found[record.stem] = entry["pid"]
        else:
            record.unlink()
    return found


def end_group(pid: int, number: int, seconds: float, ended: Callable[[], bool]) -> None:
    """Signal a process group, and kill it when it has not ended after some seconds."""
    for signal_number, patience in ((number, seconds), (signal.SIGKILL, 5)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal_number)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if ended():
                return
            time.sleep(0.02)


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def listening(port: int) -> bool:
    """Whether something accepts connections on this port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def require_free(port: int, purpose: str, variable: str) -> None:
    """Raise `PartFailed` when a port is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise PartFailed(
                f"port {port} (for {purpose}) cannot be used: {error.strerror}. "
                f"End what has it (ss -ltnp 'sport = :{port}'), or choose another port with {variable}."
            ) from None
