"""Where a handler stands when it is asked to stop: for the trail of a job whose time was over, or that was cancelled.

Its process writes the stack of its main thread into memory that it shares with the worker, when a signal comes, also
when the handler never lets go of the interpreter (`faulthandler`). Nobody waits for that: the worker reads what is
there when the run has ended.
"""

import contextlib
import faulthandler
import os
import signal
from itertools import takewhile
from pathlib import Path

SIGNAL = signal.SIGRTMAX - 3
"""One that handlers have no use for."""
LONGEST = 4_000
"""Bytes that are read."""
_OURS = str(Path(__file__).with_name("command.py"))
"""Waits for a command; where that stands, only the command knows."""
_CALLED_FROM = str(Path(__file__).with_name("child.py")), (" in _call", " in _await")


class Answer:
    """The handler process's side: writes the stack into the file whenever `SIGNAL` comes, from `listen` on."""

    def __init__(self, fd: int) -> None:
        os.set_inheritable(fd, False)  # noqa: FBT003 - it has no other form
        self._fd, self._file = fd, os.fstat(fd).st_ino

    def listen(self) -> None:
        """Answer from now on; again after each job: who sets all signals back sets back this one, and it would kill.

        Raises `OSError` when the file was closed: the next one of that number is somebody else's.
        """
        if os.fstat(self._fd).st_ino != self._file:
            raise OSError("the file for the stack was closed")
        faulthandler.unregister(SIGNAL)
        faulthandler.register(SIGNAL, self._fd, all_threads=False)


class Where:
    """The worker's side."""

    def __init__(self) -> None:
        self._memory = os.fdopen(os.memfd_create("where"), "r+b", buffering=0)
        self.fd = self._memory.fileno()

    def ask(self, pid: int) -> None:
        """Have the process write down where it stands, now."""
        self._memory.seek(0)  # for both
        self._memory.truncate()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, SIGNAL)

    def read(self) -> str:
        """The handler's part of the stack, as the process has written it; empty when it has not."""
        lines = os.pread(self.fd, LONGEST, 0).decode(errors="replace").splitlines()[1:]
        file, functions = _CALLED_FROM
        handlers = [*takewhile(lambda line: not (file in line and line.endswith(functions)), lines)]
        if any(_OURS in line for line in handlers):
            return ""
        return "\n".join(["Where it stood (most recent call first):", *handlers]) if handlers else ""

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()
