"""TCP ports of this machine: which are free, and who has the ones that are not."""

import contextlib
import random
import socket
from collections.abc import Iterator
from pathlib import Path

from joblease_local.processes import PartFailed

LISTEN = "0A"
"""The kernel's number for a listening socket."""


FIRST, BLOCK = 10_000, 100


def free_ports(count: int) -> list[int]:
    """Free ports that nobody takes before they are used: neither a connection nor another process that asks here.

    They are below those that the kernel gives to connections, and each process has blocks of them for itself.
    """
    return [next(_ours) for _ in range(count)]


def _free() -> Iterator[int]:
    limit = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    blocks = [*range(FIRST, limit - BLOCK, BLOCK)]
    random.shuffle(blocks)
    for first in blocks:
        if _claimed(first):
            yield from filter(_can_be_bound, range(first, first + BLOCK))
    raise PartFailed(f"all ports from {FIRST} to {limit} are taken")


_ours = _free()


def _claimed(block: int) -> bool:
    """Whether a block is ours until this process ends: an abstract address can be had once in a network namespace."""
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0joblease-ports-{block}")
    except OSError:
        claim.close()
        return False
    claim.detach()  # it stays open until then
    return True


def _can_be_bound(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def listening(port: int, host: str = "127.0.0.1") -> bool:
    """Whether something accepts connections on this port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0


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
