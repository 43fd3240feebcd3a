"""A handler that is a command: runs it as a child of the handler process, which listens to it until it ends.

So whatever ends a handler process ends the command: the keeper, the guardian, a memory limit. One thread and one loop:
there is nothing that a run could leave behind. The order to stop arrives as a signal, which is let through only while
the loop waits, so that it cannot tear apart anything else.
"""

import contextlib
import math
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from joblease.handlers import JobCancelled, JobContext, PermanentError

from joblease_worker.commands import Command
from joblease_worker.ending import killed
from joblease_worker.job_document import document, variables
from joblease_worker.said import Said

FD = 3
"""The descriptor on which the command says its steps: shells know numbers of one digit only."""
TOOLS = Path(__file__).with_name("tools")
"""What commands have first in their PATH: `joblease step`."""
TAIL_BYTES = 2_000
TAIL_LINES = 20
"""Of standard error, in the message about a command that failed."""
_BLOCK = 65_536
_LAST_BLOCKS = 16
"""Of what a pipe holds when its writer has ended, at most: somebody else may go on writing."""
_ORDER = signal.SIGUSR1
"""With which `child` interrupts a handler."""


class CommandFailed(Exception):
    """The command has ended, and not well."""


class Program:
    """A handler: `Program(command)(job)`."""

    def __init__(self, command: Command) -> None:
        self.command = command
        self.__module__ = str(command.file)  # where a handler of this name is defined

    def __call__(self, job: JobContext) -> Any:
        """Run the command to its end; its result.

        Raises `CommandFailed`, `PermanentError`, `JobCancelled`.
        """
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [_ORDER])
        try:
            with _started(self.command, job) as run:
                return run.converse()
        except (TypeError, ValueError) as error:  # as `JobContext` raises for what cannot be recorded
            raise CommandFailed(f"handler {self.command.name!r}: {error}") from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _started(command: Command, job: JobContext) -> "Iterator[_Run]":
    """A command that runs; it has ended when the block has."""
    with contextlib.ExitStack() as stack:

        def keep(fd: int) -> int:
            stack.callback(os.close, fd)
            return fd

        given = keep(os.memfd_create("job"))
        os.write(given, document(job))
        os.lseek(given, 0, os.SEEK_SET)
        said, errors = os.pipe(), os.pipe()
        for end in (*said, *errors):
            keep(end)
        environment = command.variables(os.environ)
        executable = command.executable(os.environ)
        environment["PATH"] = f"{TOOLS}:{environment.get('PATH', os.defpath)}"
        environment |= {**variables(job), "JOBLEASE_FD": str(FD), "JOBLEASE_PYTHON": sys.executable}
        try:
            if executable is None:
                raise FileNotFoundError(f"there is no program {command.argv[0]!r} that can be executed")
            os.chdir(command.directory)  # `Surroundings` puts it back
            pid = os.posix_spawn(
                executable,
                command.argv,
                environment,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, given, 0),
                    (os.POSIX_SPAWN_DUP2, errors[1], 2),
                    (os.POSIX_SPAWN_DUP2, said[1], FD),
                ],
                setpgroup=0,
                setsigmask=[],
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # Python ignores them, and that would be inherited
            )
        except OSError as error:
            raise CommandFailed(f"handler {command.name!r} cannot be started: {error}") from None
        run = _Run(command, job, pid, said[0], errors[0])
        stack.callback(run.kill)  # before its ends of the pipes are closed
        yield run


class _Run:
    """A command that was started."""

    def __init__(self, command: Command, job: JobContext, pid: int, said: int, errors: int) -> None:
        self._command = command
        self._said = Said(job)
        self._pid = pid
        self._ended = False
        self._stopped = False
        self._kill_at = math.inf
        self._tail = b""
        self._readers: dict[int, Callable[[bytes], None]] = {said: self._hear, errors: self._note}
        self._poll = select.poll()
        for fd in self._readers:
            os.set_blocking(fd, False)
            self._poll.register(fd, select.POLLIN)

    def converse(self) -> Any:
        """Listen until the command ends; its result. See `Program`."""
        end = os.pidfd_open(self._pid)
        try:
            self._poll.register(end, select.POLLIN)
            ready: list[int] = []
            while end not in ready:
                ready = []
                with self._stopping():
                    ready = self._wait()
                for fd in ready:
                    if fd in self._readers:
                        self._read(fd)
                if time.monotonic() >= self._kill_at:
                    self._kill_at = math.inf
                    self._signal(signal.SIGKILL)
        finally:
            os.close(end)
        code = self.kill()
        for fd in list(self._readers):
            for _ in range(_LAST_BLOCKS):
                if not self._read(fd):
                    break
        with self._stopping():
            if not self._stopped:
                self._said.end()
        return self._result(code)

    def kill(self) -> int:
        """End it and its process group, of which nothing is to outlive it; its exit code. May be repeated."""
        if self._ended:
            return 0
        self._signal(signal.SIGKILL)  # an ended one that nobody has waited for still has its number
        self._ended = True
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def _wait(self) -> list[int]:
        """Descriptors that there is something to do about. Raises `JobCancelled`, and nowhere else."""
        left = self._kill_at - time.monotonic()
        pause = None if left == math.inf else max(0, math.ceil(left * 1_000))
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [_ORDER])
            return [fd for fd, _ in self._poll.poll(pause)]
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, [_ORDER])

    @contextlib.contextmanager
    def _stopping(self) -> Iterator[None]:
        """Have the command end when the job is to stop; what it says from then on is not recorded any more."""
        try:
            yield
        except JobCancelled:
            if not self._stopped:
                self._stopped = True
                self._signal(signal.SIGTERM)
                if self._command.grace_seconds is not None:
                    self._kill_at = time.monotonic() + self._command.grace_seconds

    def _read(self, fd: int) -> bool:
        """One block; False when there is none."""
        try:
            block = os.read(fd, _BLOCK)
        except BlockingIOError:
            return False
        if not block:  # closed by everybody
            self._poll.unregister(fd)
            del self._readers[fd]
            return False
        self._readers[fd](block)
        return True

    def _hear(self, block: bytes) -> None:
        with self._stopping():
            if not self._stopped:
                self._said.hear(block)

    def _note(self, block: bytes) -> None:
        self._tail = (self._tail + block)[-TAIL_BYTES:]
        while block:
            block = block[os.write(2, block) :]

    def _signal(self, number: signal.Signals) -> None:
        if not self._ended:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, number)

    def _result(self, code: int) -> Any:
        if self._stopped:
            raise JobCancelled
        if code == 0:
            return self._said.result
        how = f"ended with exit code {code}" if code > 0 else killed(code)
        text = f"handler {self._command.name!r}: its command {how}"
        if tail := "\n".join(self._tail.decode(errors="backslashreplace").strip().splitlines()[-TAIL_LINES:]):
            text += f"; the end of its standard error:\n{tail}"
        if code in self._command.permanent_exit_codes:
            raise PermanentError(text)
        raise CommandFailed(text)
