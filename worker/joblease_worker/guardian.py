"""Kills handlers whose lease ends while their worker cannot do it.

A worker that is stopped (SIGSTOP, a debugger, a machine that swaps) renews nothing and kills nothing, while its
handlers are processes of their own and run on. So the deadlines of leases are told to a second, tiny process: the
guardian, which does nothing but wait for them. It kills a handler's whole process group when a deadline passes that was
not moved, and all of them at once when the worker has died, so that what a handler has started does not outlive its
lease either.

This is the worker's side; the process itself is `guard.py`.
"""

import os
import subprocess
import sys
import threading

from joblease_worker import guard


class Guardian:
    """Tells the process each deadline, and starts another one when it has died.

    Methods may be called from any thread and never block.
    """

    def __init__(self) -> None:
        self._deadlines: dict[tuple[int, str], float] = {}
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process."""
        with self._lock:
            self._start()

    def expect(self, pid: int, lease: str, deadline: float) -> None:
        """Let the process group `pid` live until `deadline` (monotonic seconds), unless that is moved."""
        with self._lock:
            self._deadlines[pid, lease] = deadline
            self._tell(f"{pid} {lease} {deadline}\n")

    def forget(self, pid: int, lease: str) -> None:
        """Let the process group live on without this lease."""
        with self._lock:
            if self._deadlines.pop((pid, lease), None) is not None:
                self._tell(f"{pid} {lease} -\n")

    def close(self) -> None:
        """End the process, and with it every handler that it still guards."""
        with self._lock:
            if self._process and self._process.stdin:
                self._process.stdin.close()
                self._process.wait()
                self._process = None

    def _start(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - a file of ours
            [sys.executable, "-I", "-S", guard.__file__], stdin=subprocess.PIPE, start_new_session=True, bufsize=0
        )
        assert self._process.stdin is not None  # noqa: S101 - we asked for a pipe
        os.set_blocking(self._process.stdin.fileno(), False)
        for (pid, lease), deadline in self._deadlines.items():
            self._process.stdin.write(f"{pid} {lease} {deadline}\n".encode())

    def _tell(self, line: str) -> None:
        process = self._process
        if process is None or process.stdin is None:
            return
        try:
            written = process.stdin.write(line.encode())
        except BrokenPipeError:
            written = None
        if written != len(line):  # it has died, or does not read: another one takes over all deadlines
            process.kill()
            process.stdin.close()
            process.wait()
            self._start()
