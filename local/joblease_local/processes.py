"""Child processes that can be found again: started with a log, recorded by process id, ended for certain.

A process id alone is not an identity, since the kernel uses numbers again; so the record holds the start time as well,
and nothing is ever signalled whose start time differs. Each child leads a process group, and is ended with its group.
"""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KILL_SECONDS = 5
LEFTOVER_SECONDS = 10
LOG_BYTES = 20 << 20
"""A log that is larger is put aside when its process is started."""

Say = Callable[[str], None]
"""Where lines of progress go."""


class PartFailed(Exception):
    """A part did not come up, or a tool is missing; the text says what to do."""


class Process:
    """A child process with a log and a record."""

    def __init__(self, name: str, state: Path) -> None:
        self.name = name
        self.log = state / "logs" / f"{name}.log"
        self._state = state
        self._child: subprocess.Popen[bytes] | None = None
        self.pid = 0
        """Of the process that leads the group."""

    def start(
        self,
        command: Sequence[str | Path],
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        """Start the command in a session of its own, its output appended to the log; `folder` is where it works."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            self.log.replace(self.log.with_suffix(".old.log"))
        with self.log.open("ab") as log:
            self._child = self._launch(
                list(map(str, command)),
                cwd=folder,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        record(self._state, self.name, self.pid)

    def _launch(self, command: Sequence[str], **how: Any) -> "subprocess.Popen[bytes]":
        """Start a process, as `subprocess.Popen`, and note its number."""
        child = subprocess.Popen(command, **how)
        self.pid = child.pid
        return child

    @property
    def running(self) -> bool:
        """Whether the process that we started lives."""
        return self._child is not None and self._child.poll() is None

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        code = self._child.poll() if self._child else None
        if code is None:
            return "did not end"
        return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until it is ready. Raises `PartFailed` with the end of its log."""
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.running:
                raise PartFailed(f"{self.name} {self.ending}:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise PartFailed(f"{self.name} was not ready within {seconds:.0f} s:\n{self.log_tail()}")
            time.sleep(0.05)

    def log_tail(self, lines: int = 15) -> str:
        """The last lines of the log, indented."""
        text = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join([*(f"    {line}" for line in text[-lines:]), f"  (from {self.log})"])

    def signal(self, number: int) -> None:
        """Send a signal to it alone, for tests of what happens when it fails."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it and its group at once, without a chance to tidy up."""
        if self._child:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._child.wait()

    def stop(self, seconds: float = 10) -> None:
        """Ask it to end, and end it for certain when it has not after some seconds."""
        if self._child is None:
            return
        end_group(self.pid, seconds)
        self._child.wait()
        forget(self._state, self.name)


class OneProcess:
    """A part whose life is that of one process."""

    process: Process

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self.process.running

    @property
    def ending(self) -> str:
        """How it ended."""
        return self.process.ending

    def ended(self) -> None:
        """Nothing is to be done."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A process that was started and not stopped."""

    name: str
    pid: int
    lives: bool
    starts: int
    """How often it was started: more than once when it keeps ending."""
    seconds: float
    """Since the last start."""


def record(state: Path, name: str, pid: int) -> None:
    """Remember a process."""
    path = state / "run" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    starts = json.loads(path.read_text()).get("starts", 0) if path.exists() else 0
    path.write_text(json.dumps({"pid": pid, "started": started_at(pid), "starts": starts + 1, "time": time.time()}))


def forget(state: Path, name: str) -> None:
    """Forget a process."""
    (state / "run" / f"{name}.json").unlink(missing_ok=True)


def recorded(state: Path) -> dict[str, int]:
    """Name and process id of each recorded process that still lives."""
    return {each.name: each.pid for each in records(state) if each.lives}


def records(state: Path) -> list[Recorded]:
    """All processes that were started and not stopped, also those that have ended by themselves."""
    found = []
    for path in sorted((state / "run").glob("*.json")):
        entry = json.loads(path.read_text())
        lives = entry["started"] is not None and started_at(entry["pid"]) == entry["started"]
        found.append(
            Recorded(path.stem, entry["pid"], lives, entry.get("starts", 1), time.time() - entry.get("time", 0))
        )
    return found


def started_at(pid: int) -> str | None:
    """When a process started, as the kernel counts it; None when it has ended."""
    fields = _stat(pid)
    return fields[19] if fields and fields[0] != "Z" else None


def _stat(pid: int | str) -> list[str] | None:
    """The kernel's fields about a process, from its state on (the name before it may hold anything)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None


def end_group(pid: int, seconds: float) -> None:
    """Ask a process group to end, and kill it when it has not after some seconds."""
    for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, KILL_SECONDS)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, number)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if not _group_lives(pid):
                return
            time.sleep(0.05)


def end_leftovers(processes: Mapping[str, int], say: Say) -> None:
    """End recorded processes that nobody looks after any more, all at once."""
    for name, pid in processes.items():
        say(f"{name} (process {pid}) is left over; ending it")
    with ThreadPoolExecutor(max_workers=len(processes) or 1) as together:
        list(together.map(lambda pid: end_group(pid, LEFTOVER_SECONDS), processes.values()))


def _group_lives(group: int) -> bool:
    """Whether a process of the group still runs; ended ones that nobody has waited for do not count."""
    every = (_stat(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
    return any(fields[2] == str(group) and fields[0] != "Z" for fields in every if fields)


@contextlib.contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Let one process after the other fill a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
