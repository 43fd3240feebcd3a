"""The handler of the fault tests: it keeps a record of its own life, outside of JobLease."""

import json
import os
import secrets
import threading
import time
from pathlib import Path

from joblease import JobContext, handler

NOTE_SECONDS = 0.02


class Record:
    """Appends notes to a file: single short writes, which the kernel does not mix."""

    def __init__(self, path: Path, job: JobContext) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._job = job
        self._run = f"{os.getpid()}-{secrets.token_hex(4)}"

    def note(self, kind: str) -> None:
        note = {"job_id": self._job.id, "run": self._run, "epoch": self._job.epoch, "kind": kind}
        line = json.dumps({**note, "at": time.monotonic(), "wall": time.time()}) + "\n"
        os.write(self._file, line.encode())

    def close(self) -> None:
        os.close(self._file)


@handler("witness")
def witness(job: JobContext, record: Path, seconds: float = 0.5, steps: int = 3, failures: int = 0) -> int:
    """Work for a while, tell of it, and fail the first attempts when asked to."""
    notes = Record(record, job)
    done = threading.Event()

    def stay_alive() -> None:
        while not done.wait(NOTE_SECONDS):
            notes.note("alive")

    last = "stopped"
    notes.note("start")
    life = threading.Thread(target=stay_alive, daemon=True)
    life.start()
    try:
        for number in range(1, steps + 1):
            time.sleep(seconds / steps)
            job.step(f"step {number}", progress=number / steps)
        if job.attempt <= failures:
            raise RuntimeError(f"attempt {job.attempt} was to fail")
        last = "end"
    finally:
        done.set()
        life.join()
        notes.note(last)
        notes.close()
    return job.attempt
