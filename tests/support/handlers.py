"""Handlers that behave and misbehave; workers in tests load them by JOBLEASE_HANDLERS=support.handlers."""

import asyncio
import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from joblease import JobCancelled, JobContext, PermanentError, handler


def _note(parameters: dict[str, Any], word: str) -> None:
    """An independent record of what ran when, outside of the system under test."""
    if "record" in parameters:
        with Path(parameters["record"]).open("a") as record:
            record.write(f"{word} {os.getpid()} {time.monotonic()}\n")


@handler("noop")
def noop(job: JobContext) -> None:
    _note(job.parameters, f"run:{job.name}")


@handler("echo")
def echo(job: JobContext, width: int = 800, **others: Any) -> dict[str, Any]:
    print(f"hello from {job.name}")
    return {"width": width, "others": others, "attempt": job.attempt, "traceparent": job.traceparent}


@handler("hold")
def hold(job: JobContext, seconds: float = 60.0) -> str:
    """Run for a while; says in the record when it begins, ends or is stopped."""
    _note(job.parameters, f"start:{job.name}")
    job.step("holding", progress=0.5)
    try:
        time.sleep(seconds)
    except JobCancelled:
        _note(job.parameters, f"stopped:{job.name}")
        raise
    _note(job.parameters, f"end:{job.name}")
    return "held"


@handler("hold-async")
async def hold_async(job: JobContext, seconds: float = 60.0) -> str:
    job.step("holding")
    await asyncio.sleep(seconds)
    return "held"


@handler("spin")
def spin(job: JobContext) -> None:
    """Never lets go of the interpreter."""
    re.match(r"(a+)+$", "a" * 40 + "b")


@handler("silent")
def silent(job: JobContext) -> None:
    """Hears no signals."""
    signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    time.sleep(60)


@handler("stubborn")
def stubborn(job: JobContext) -> None:
    """Does not listen when it is asked to stop."""
    first = [f"start:{job.name}"]
    while True:
        try:
            if first:
                _note(job.parameters, first.pop())
            time.sleep(3600)
        except JobCancelled:
            continue


@handler("steps")
def steps(job: JobContext, count: int = 3, rest: float = 0, checkpoints: bool = False) -> None:  # noqa: FBT001, FBT002
    for number in range(1, count + 1):
        if checkpoints:
            job.checkpoint({"number": number})
        job.step(f"step {number}", progress=number / count, data={"number": number})
    time.sleep(rest)


@handler("fail")
def fail(job: JobContext, until_attempt: int = 100) -> str:
    if job.attempt < until_attempt:
        raise ValueError(f"no luck in attempt {job.attempt}")
    return "at last"


@handler("fail-for-good")
def fail_for_good(_: JobContext) -> None:
    raise PermanentError("the input is broken")


@handler("exit")
def leave(_: JobContext, code: int = 3) -> None:
    os._exit(code)


@handler("import")
def import_rows(
    job: JobContext,
    rows: int = 10,
    stop_at: int = 0,
    how: str = "raise",
    filler: str = "",
    times: int = 1,
    folder: str = "",
) -> dict[str, Any]:
    """Counts rows, with a checkpoint for each; a run that began with the first one does not come beyond `stop_at`."""
    filler *= times
    last = job.last_checkpoint or {"row": 0, "filler": filler}
    first = last["row"]
    for row in range(first + 1, rows + 1):
        job.checkpoint({"row": row, "filler": filler})
        if row == stop_at and not first:
            if how == "raise":
                raise ValueError(f"fell at row {row}")
            if how == "exit":
                os._exit(3)
            if how == "step":
                job.step(f"{row} rows")
            while not (Path(folder) / "go").exists():
                time.sleep(0.02)
    return {"from": first, "rows": rows, "same": last["filler"] == filler}


@handler("sys-exit")
def sys_exit(_: JobContext) -> None:
    sys.exit("enough")


@handler("segfault")
def segfault(_: JobContext) -> None:
    ctypes.string_at(0)


@handler("not-json")
def not_json(_: JobContext) -> Any:
    return object()


@handler("large-result")
def large_result(_: JobContext) -> str:
    return "x" * 5_000


@handler("talkative")
def talkative(_: JobContext, megabytes: int = 8) -> str:
    for _number in range(megabytes):
        print(("y" * 1023 + "\n") * 1024, end="")
    sys.stdout.write("z" * (2 << 20))  # one line without an end
    return "said it all"


@handler("endless")
def endless(job: JobContext) -> None:
    """Holds the interpreter and never lets go: no Python thread or signal handler of its process gets a turn."""
    _note(job.parameters, f"start:{job.name}")
    job.step("spinning")
    library, mutex = ctypes.PyDLL(None), ctypes.create_string_buffer(64)  # calls that keep the interpreter's lock
    library.pthread_mutex_lock(mutex)
    library.pthread_mutex_lock(mutex)  # for ever, and no signal interrupts it


@handler("greedy")
def greedy(_: JobContext) -> int:
    return len(bytearray(1 << 30))


@handler("offspring")
def offspring(job: JobContext, seconds: float = 60.0, crash: bool = False) -> None:  # noqa: FBT001, FBT002
    """Starts a process of its own, which must not outlive the run; its id goes into the record."""
    child = subprocess.Popen(["sleep", "3600"])
    with Path(job.parameters["record"]).open("a") as record:
        record.write(f"{child.pid}\n")
    job.step("started a process")
    if crash:
        os._exit(3)
    time.sleep(seconds)


@handler("bulky")
def bulky(job: JobContext, count: int = 300) -> None:
    """Each of its steps is as large as a step may be."""
    for _ in range(count):
        job.step("\N{GRINNING FACE}" * 4000, data={"x": "a" * 16_000})


@handler("paced")
def paced(job: JobContext, folder: str, count: int = 3) -> str:
    """Takes its n-th step when the file `n` appears in the folder, and returns after the last one."""
    _note(job.parameters, f"start:{job.name}")
    for number in range(1, count + 1):
        while not (Path(folder) / str(number)).exists():
            time.sleep(0.02)
        job.step(f"step {number}")
    return "paced"
