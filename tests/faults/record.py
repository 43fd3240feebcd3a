"""A run's record of its own life, kept outside of JobLease: what it said, what it started, when it lived."""

import json
import os
import secrets
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from joblease import JobContext
from joblease_local.processes import started_at


class Record:
    """Appends notes to a file: single short writes, which the kernel does not mix."""

    def __init__(self, path: Path, job: JobContext) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._family = path.with_name(f"started-by-{job.id}")
        self._job = job
        self.run = f"{os.getpid()}-{secrets.token_hex(4)}"

    def note(self, kind: str, **more: Any) -> None:
        """Write down that something happens now."""
        note = {"job_id": self._job.id, "run": self.run, "epoch": self._job.epoch, "kind": kind, **more}
        line = json.dumps({**note, "at": time.monotonic(), "wall": time.time()}) + "\n"
        os.write(self._file, line.encode())

    def look_around(self) -> None:
        """Note each process that an earlier run of this job has started and that is still there."""
        for line in self._family.read_text().splitlines() if self._family.exists() else ():
            pid, started, run = line.split()
            if run != self.run and started_at(int(pid)) == started:
                self.note("outlived", pid=int(pid), started=started, token=run)

    def step(self, message: str, *, progress: float | None = None, data: Mapping[str, Any] | None = None) -> None:
        """Note a step first, then say it to JobLease: a row in the trail that nobody has noted is another's."""
        token = secrets.token_hex(4)
        self.note("step", token=token)
        self._job.step(message, progress=progress, data={**(data or {}), "token": token})

    def started(self, pid: int) -> None:
        """Note a process that this run has started."""
        if (when := started_at(pid)) is not None:
            self.note("process", pid=pid, started=when)
            with self._family.open("a") as family:
                family.write(f"{pid} {when} {self.run}\n")

    def start(self, command: Sequence[str], **options: Any) -> None:
        """Start a process and leave it alone."""
        self.started(subprocess.Popen(command, **options).pid)

    def fork(self) -> int:
        """As `os.fork`; the copy is noted by its parent."""
        pid = os.fork()
        if pid:
            self.started(pid)
        return pid
