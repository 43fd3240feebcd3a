"""A handler that does whatever its parameters say, also what nobody should do.

`deeds` is a list of things to do one after the other; `end` says how the handler ends, by a name of `any_ends.ENDS`.
Where a value in there is `{"!": NAME, ...}`, it stands for a Python object of `any_values.SPECIALS`.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from joblease import JobContext, handler
from joblease_local.processes import started_at

from support.any_ends import ENDS, LONG
from support.any_values import value_of


class Doer:
    """Does the deeds of one run."""

    def __init__(self, job: JobContext, record: Path) -> None:
        self._job = job
        self._record = record

    def do(self, deed: Mapping[str, Any]) -> None:
        """One deed; what it raises is the handler's error unless the deed says `"caught": true`."""
        with contextlib.suppress(Exception) if deed.get("caught") else contextlib.nullcontext():
            getattr(self, f"_{deed['do']}")(deed)

    def _started(self, pid: int) -> None:
        with self._record.open("a") as record:
            record.write(f"{pid} {started_at(pid)}\n")

    def _step(self, deed: Mapping[str, Any]) -> None:
        arguments = {name: value_of(deed[name]) for name in ("message", "progress", "data") if name in deed}
        for _number in range(int(deed.get("times", 1))):
            self._job.step(arguments.get("message", ""), progress=arguments.get("progress"), data=arguments.get("data"))

    def _print(self, deed: Mapping[str, Any]) -> None:
        print(value_of(deed["message"]), end="")

    def _sleep(self, deed: Mapping[str, Any]) -> None:
        time.sleep(float(deed["seconds"]))

    def _thread(self, _: object) -> None:
        def talk() -> None:
            while True:
                self._job.step("a thread goes on")
                time.sleep(0.05)

        threading.Thread(target=talk, daemon=True).start()

    def _waiting_thread(self, _: object) -> None:
        threading.Thread(target=time.sleep, args=[LONG]).start()

    def _child(self, _: object) -> None:
        self._started(subprocess.Popen(["sleep", str(LONG)]).pid)

    def _session(self, _: object) -> None:
        self._started(subprocess.Popen(["sleep", str(LONG)], start_new_session=True).pid)

    def _daemon(self, _: object) -> None:
        done = subprocess.run(
            ["setsid", "-f", "sh", "-c", f"echo $$; exec sleep {LONG} >/dev/null 2>&1"], stdout=-1, check=True
        )
        self._started(int(done.stdout))

    def _copy(self, _: object) -> None:
        if (pid := os.fork()) == 0:
            time.sleep(LONG)
            os._exit(0)
        self._started(pid)

    def _talking_copy(self, _: object) -> None:
        if (pid := os.fork()) == 0:
            with contextlib.suppress(BaseException):
                while True:
                    self._job.step("a copy goes on")
                    time.sleep(0.05)
            os._exit(0)
        self._started(pid)

    def _returning_copy(self, _: object) -> None:
        if (pid := os.fork()) == 0:
            raise Returned
        self._started(pid)

    def _scribble(self, deed: Mapping[str, Any]) -> None:
        for descriptor in range(3, 64):
            with contextlib.suppress(OSError):
                os.write(descriptor, str(deed["message"]).encode())

    def _close(self, _: object) -> None:
        os.closerange(3, 256)

    def _deafen(self, _: object) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGCHLD):
            signal.signal(number, signal.SIG_IGN)

    def _spoil(self, _: object) -> None:
        os.chdir("/")
        os.umask(0o777)
        os.environ.clear()
        sys.path.clear()
        sys.stdout = sys.stderr = None

    def _alarm(self, _: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.2)

    def _group(self, _: object) -> None:
        """Leave the process group, if the kernel lets it."""
        os.setpgid(0, os.getppid())

    def _stop(self, _: object) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)


class Returned(Exception):
    """The copy of a process is to return from the handler."""


@handler("anything")
def anything(job: JobContext) -> Any:
    """Do the deeds, and end."""
    doer = Doer(job, Path(job.parameters["record"]))
    try:
        for deed in job.parameters["deeds"]:
            doer.do(deed)
    except Returned:
        return "a copy's"
    end = job.parameters["end"]
    return ENDS[end["how"]](value_of(end.get("value")))


@handler("anything-async")
async def anything_async(job: JobContext) -> Any:
    """The same, with a task that is never waited for."""
    job.parameters["task"] = asyncio.create_task(asyncio.sleep(LONG))
    await asyncio.sleep(0)
    return anything(job)
