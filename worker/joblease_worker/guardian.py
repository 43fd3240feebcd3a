"""Kills handlers whose lease ends while their worker cannot do it.

A worker that is stopped (SIGSTOP, a debugger, a machine that swaps) renews nothing and kills nothing, while its
handlers are processes of their own and run on. So the deadlines of leases are told to a second, tiny process: the
guardian, which does nothing but wait for them. It kills a handler with all that it has started when a deadline passes
that was not moved, and all of them at once when the worker has died, so that what a handler has started does not
outlive its lease either.

This is the worker's side; the process itself is `guardian_process.py`.
"""

import contextlib
import logging
import os
import subprocess
import sys
import threading

from joblease_worker import guardian_process

log = logging.getLogger(__name__)

RESTART_PAUSE_SECONDS = 1.0
"""Between starts of a process that dies at once."""


class Guardian:
    """Tells the process each deadline, and starts another one when it has died.

    Methods may be called from any thread and never block.
    """

    def __init__(self) -> None:
        self._deadlines: dict[tuple[int, str], float] = {}
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = threading.Event()
        self._watch = threading.Thread(target=self._replace, name="guardian", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether its process lives: a worker without one should take no job."""
        process = self._process
        return process is not None and process.poll() is None

    def start(self) -> None:
        """Start the process."""
        with self._lock:
            self._start()
        self._watch.start()

    def expect(self, pid: int, lease: str, deadline: float) -> None:
        """Let the process `pid` live until `deadline` (`boot_seconds`), unless that is moved."""
        with self._lock:
            self._deadlines[pid, lease] = deadline
            self._tell(f"{pid} {lease} {deadline}\n".encode())

    def forget(self, pid: int, lease: str) -> None:
        """Let the process live on without this lease."""
        with self._lock:
            if self._deadlines.pop((pid, lease), None) is not None:
                self._tell(f"{pid} {lease} -\n".encode())

    def close(self) -> None:
        """End the process, and with it every handler that it still guards."""
        self._closed.set()
        with self._lock:
            if self._process:
                self._hang_up(self._process)
                self._process.wait()
        if self._watch.is_alive():
            self._watch.join()

    def _replace(self) -> None:
        """Start another process when one has died, until `close`."""
        while process := self._process:
            process.wait()
            with self._lock:
                if self._closed.is_set():
                    return
                if self._process is process:  # `_tell` has not noticed it first
                    log.error("the guardian has ended (exit code %s); another one is started", process.returncode)
                    self._start()
            self._closed.wait(RESTART_PAUSE_SECONDS)

    def _start(self) -> None:
        if self._process:
            self._hang_up(self._process)
        # In this worker's session, where what handlers leave can never be (`offspring.py`), but in a group of its own:
        # Ctrl-C at a terminal is not for it. Its environment is open to handlers, so it has none.
        self._process = subprocess.Popen(  # noqa: S603 - a file of ours
            [sys.executable, "-I", "-S", guardian_process.__file__],
            stdin=subprocess.PIPE,
            process_group=0,
            bufsize=0,
            env={},
        )
        assert self._process.stdin is not None  # noqa: S101 - we asked for a pipe
        os.set_blocking(self._process.stdin.fileno(), False)
        for (pid, lease), deadline in self._deadlines.items():
            self._process.stdin.write(f"{pid} {lease} {deadline}\n".encode())

    def _tell(self, line: bytes) -> None:
        process = self._process
        if process is None or process.stdin is None or self._closed.is_set():
            return
        try:
            written = process.stdin.write(line)
        except BrokenPipeError:
            written = None
        if written != len(line):  # it has died, or does not read: another one takes over all deadlines
            process.kill()
            process.wait()
            self._start()

    @staticmethod
    def _hang_up(process: "subprocess.Popen[bytes]") -> None:
        if process.stdin:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
