"""The warden's process: runs a command as a container's first process does, so that nothing of it outlives its end.

`python -I -S warden.py FD COMMAND…` writes to the file descriptor the command's process id, and `over` once the kernel
has said that nothing is left of the command, nor of anything that it has started. Then it ends as the command did.

The proof: whatever loses its parent below a "subreaper" (prctl(2)) becomes the child of the nearest one that lives, be
it a daemon or a leader of a session. The warden is one, so when it has no child left (ECHILD), nothing is left at all.
"""

import contextlib
import ctypes
import os
import resource
import signal
import sys
import time

END_SECONDS = 5.0
"""What outlives SIGKILL for so long hangs in the kernel, or is another user's."""
_PAUSE_SECONDS = 0.005
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 1, 4, 36
_prctl = ctypes.CDLL(None, use_errno=True).prctl


def run(tell: int, command: list[str]) -> int:
    """Run the command to the end of all that it has started, or give up and not say so. How it ended, as `os.wait`."""
    os.set_inheritable(tell, False)  # noqa: FBT003 - whoever else could write to it could say that it is over
    adopts = _prctl(_PR_SET_CHILD_SUBREAPER, 1) == 0
    here = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # nobody would know of it when the warden is killed
        try:
            if os.getppid() != here:  # it was, before that
                os._exit(127)
            os.execv(command[0], command)  # noqa: S606 - no shell is meant
        finally:
            os._exit(127)
    _prctl(_PR_SET_DUMPABLE, 0)  # its environment has the keys to broker and storage, which are not for handlers
    os.write(tell, f"{pid}\n".encode())
    _, status = os.waitpid(pid, 0)
    if end_children() and adopts:
        os.write(tell, b"over\n")
    return status


def end_children() -> bool:
    """Kill and reap what is left, and what comes from below it; whether nothing is, within some seconds."""
    until = time.monotonic() + END_SECONDS
    while time.monotonic() < until:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return True
        for pid in children(os.getpid()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_PAUSE_SECONDS)
    return False


def children(parent: int) -> list[int]:
    """The processes whose parent a process is."""
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _parent(pid) == parent]  # noqa: PTH208


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123 - pathlib is a megabyte
            return int(stat.read().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def end_as(status: int) -> None:
    """End this process as another one has ended."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(OSError):  # SIGKILL is never handled
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    end_as(run(int(sys.argv[1]), sys.argv[2:]))
