"""The handler of the fault tests: it keeps a record of its own life, and misbehaves when it is asked to."""

import threading
import time
from pathlib import Path
from typing import Any

from faults.deeds import DEEDS, RETURNING_COPY
from faults.record import Record
from joblease import JobContext, handler

NOTE_SECONDS = 0.02


@handler("witness")
def witness(
    job: JobContext, record: Path, seconds: float = 0.5, steps: int = 3, failures: int = 0, deed: str = ""
) -> str | dict[str, Any]:
    """Work for a while, tell of it, and fail the first attempts when asked to."""
    notes = Record(record, job)
    if deed == RETURNING_COPY and notes.fork() == 0:
        return "a copy's"
    done = threading.Event()

    def stay_alive() -> None:
        while not done.wait(NOTE_SECONDS):
            notes.note("alive")

    last = "stopped"
    notes.note("start")
    notes.look_around()
    life = threading.Thread(target=stay_alive, daemon=True)
    life.start()
    try:
        gained = DEEDS[deed](job, notes) if deed in DEEDS else None
        for number in range(1, steps + 1):
            time.sleep(seconds / steps)
            notes.step(f"step {number}", progress=number / steps)
        if job.attempt <= failures:
            raise RuntimeError(f"attempt {job.attempt} was to fail")
        last = "end"
    finally:
        done.set()
        life.join()
        notes.note(last)
    return {"run": notes.run, "gained": gained}
