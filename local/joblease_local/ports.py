"""TCP ports of this machine: which are free, and who has the ones that are not."""

import contextlib
import socket
from pathlib import Path

from joblease_local.processes import PartFailed

LISTEN = "0A"
"""The kernel's number for a listening socket."""


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def listening(port: int) -> bool:
    """Whether something accepts connections on this port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def require_free(port: int, purpose: str, variable: str) -> None:
    """Raise `PartFailed` when a port is taken; `variable` is the setting that chooses another one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that just ended do not matter
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            owner = owner_of(port)
            raise PartFailed(
                f"port {port}, which is for {purpose}, cannot be used: "
                f"{f'{owner} has it' if owner else error.strerror}. End that, or choose another port with {variable}."
            ) from None


def owner_of(port: int) -> str | None:
    """The process that listens on a port, as far as we may know: other users' processes do not show."""
    inodes = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        with contextlib.suppress(OSError):
            for line in table.read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTEN and int(fields[1].rsplit(":", 1)[1], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                if any(str(handle.readlink()) in inodes for handle in (process / "fd").iterdir()):
                    command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                    return f"process {process.name} ({command[:80]})"
    return None
