"""The guardian's process: waits for nothing but deadlines, and kills the process trees that outlive theirs.

Run as a file, without site packages, and with the fewest imports, so that it takes a few megabytes and is up before a
handler is. `guardian.py` says what it is for.
"""

import contextlib
import os
import select
import signal
import time

LONGEST_SLEEP_SECONDS = 1.0
"""A pause of `select` stands still while the machine sleeps, the deadlines do not."""
MAX_ROUNDS = 100


def guard() -> None:
    """Read deadlines from standard input, kill what outlives them, and everything when the worker ends."""
    deadlines: dict[tuple[int, str], float] = {}
    rest = b""
    while True:
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        for late in {pid for (pid, _), deadline in deadlines.items() if deadline <= now}:
            end_tree(late)
            deadlines = {key: deadline for key, deadline in deadlines.items() if key[0] != late}
        pause = min(LONGEST_SLEEP_SECONDS, max(0.0, min(deadlines.values()) - now)) if deadlines else None
        if select.select([0], [], [], pause)[0]:
            block = os.read(0, 65_536)
            if not block:
                break
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                with contextlib.suppress(ValueError):  # what cannot be read says nothing; the others still count
                    obey(line.decode(), deadlines)
    for pid in {pid for pid, _ in deadlines}:
        end_tree(pid)


def obey(line: str, deadlines: dict[tuple[int, str], float]) -> None:
    """Note a deadline, `PID LEASE SECONDS`, or strike it out, `PID LEASE -`. Raises `ValueError`."""
    number, lease, deadline = line.split(" ")
    pid = int(number)
    if pid <= 1:  # groups and init: nobody's handler
        raise ValueError(line)
    if deadline == "-":
        deadlines.pop((pid, lease), None)
    else:
        seconds = float(deadline)
        if seconds != seconds:
            raise ValueError(line)
        deadlines[pid, lease] = seconds


def end_tree(root: int) -> None:
    """Kill a process, its group, and everything that descends from it.

    Handler processes adopt orphans, so what was daemonised is below them, too. Each process is stopped before its
    children are looked up, until a round finds no other: what is stopped starts nothing more, and cannot reap, so that
    no number changes its owner meanwhile.
    """
    tree = {root}
    for _ in range(MAX_ROUNDS):
        for pid in tree:
            _send(pid, signal.SIGSTOP)
        found = {child for pid in tree for child in children(pid)}
        if found <= tree:
            break
        tree |= found
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(root, signal.SIGKILL)
    for pid in tree:
        _send(pid, signal.SIGKILL)


def children(pid: int) -> list[int]:
    """The processes whose parent a process is, ended ones that nobody has waited for included."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - pathlib is a megabyte
            with open(f"/proc/{pid}/task/{thread}/children") as listing:  # noqa: PTH123
                found += map(int, listing.read().split())
    except OSError:  # it has gone, or this kernel has no such file
        return [each for each in map(int, filter(str.isdigit, os.listdir("/proc"))) if _parent(each) == pid]  # noqa: PTH208
    return found


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123
            return int(stat.read().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


if __name__ == "__main__":
    for ignored in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # it ends when its worker does, not before
        signal.signal(ignored, signal.SIG_IGN)
    guard()
