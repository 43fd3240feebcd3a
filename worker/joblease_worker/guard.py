"""The guardian's process: waits for nothing but deadlines, and kills the process groups that outlive theirs.

Run as a file, without site packages, and with the fewest imports, so that it takes a few megabytes and is up before a
handler is. `guardian.py` says what it is for.
"""

import contextlib
import os
import select
import signal
import time


def guard() -> None:
    """Read deadlines from standard input, kill what outlives them, and everything when the worker ends."""
    deadlines: dict[tuple[int, str], float] = {}
    rest = b""
    while True:
        pause = max(0.0, min(deadlines.values()) - time.monotonic()) if deadlines else None
        if select.select([0], [], [], pause)[0]:
            block = os.read(0, 65_536)
            if not block:
                break
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                pid, lease, deadline = line.decode().split(" ")
                if deadline == "-":
                    deadlines.pop((int(pid), lease), None)
                else:
                    deadlines[int(pid), lease] = float(deadline)
        now = time.monotonic()
        for late in {pid for (pid, _), deadline in deadlines.items() if deadline <= now}:
            _kill(late)
            deadlines = {key: deadline for key, deadline in deadlines.items() if key[0] != late}
    for group in {pid for pid, _ in deadlines}:
        _kill(group)


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends when its worker does, not before
    guard()
