"""The process in which handlers run, one job at a time, started once and used for many jobs.

It knows nothing of brokers, leases or storage: it gets a job over a socket from the worker and answers with steps and
one ending. That is what makes it safe to kill at any moment. It dies with its worker (Linux' parent death signal), even
when a handler never lets go of the interpreter: a handler without a lease must not live on.
"""

import contextlib
import ctypes
import inspect
import json
import os
import queue
import resource
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from joblease.handlers import JobCancelled, JobContext, PermanentError, UnknownHandler, find, load_handlers

from joblease_worker.parameters import describe, fit

if TYPE_CHECKING:
    import asyncio

MAX_TRACEBACK = 8_000
MAX_STEP_DATA = 16_384
MAX_MESSAGE = 4_000
MAX_RESULT = 4_096
_PR_SET_PDEATHSIG = 1


class Child:
    """The loop of the handler process."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._send_lock = threading.Lock()
        self._orders: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._job: JobContext | None = None
        self._task: asyncio.Task[Any] | None = None
        self._interruptible = False

    def serve(self) -> None:
        """Announce the handlers, then run jobs until the worker hangs up."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, self._interrupt)
        names = load_handlers()
        threading.Thread(target=self._listen, name="orders", daemon=True).start()
        self._send({"type": "ready", "handlers": [describe(name, find(name)) for name in names]})
        while True:
            ending = self._run(self._orders.get())
            sys.stdout.flush()
            sys.stderr.flush()
            self._send(ending)

    def _listen(self) -> None:
        with contextlib.suppress(OSError), self._socket.makefile("rb") as lines:
            for line in lines:
                order = json.loads(line)
                if order["type"] == "run":
                    self._orders.put(order)
                elif self._job is not None and self._job.id == order["job"]:
                    self._job.cancelled = True
                    self._stop()
        os._exit(1)  # the worker is gone

    def _stop(self) -> None:
        task = self._task
        if task is not None:
            with contextlib.suppress(RuntimeError):  # its loop has just ended
                task.get_loop().call_soon_threadsafe(task.cancel)
        else:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    def _interrupt(self, *_: object) -> None:
        if self._interruptible:
            self._interruptible = False
            raise JobCancelled

    def _run(self, order: Mapping[str, Any]) -> dict[str, Any]:
        if time.monotonic() > order["deadline"]:  # the worker was stopped after it had sent this
            return {"type": "stopped"}
        job = JobContext(**order["job"], report=self._report)
        self._job = job
        try:
            function = find(job.handler)
            return self._ending(self._call(function, job, fit(job.handler, function, job.parameters)))
        except JobCancelled:
            return {"type": "stopped"}
        except (PermanentError, UnknownHandler) as error:
            return _failure(error, permanent=True)
        except SystemExit as error:
            return _failure(RuntimeError(f"the handler called sys.exit({error.code!r})"), permanent=False)
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is its failure, not ours
            return _failure(error, permanent=False)
        finally:
            self._job = None

    def _call(self, function: Any, job: JobContext, arguments: Mapping[str, Any]) -> Any:
        if inspect.iscoroutinefunction(function):
            return self._call_async(function(job, **arguments))
        try:
            self._interruptible = True
            return function(job, **arguments)
        finally:
            self._interruptible = False

    def _call_async(self, work: Any) -> Any:
        import asyncio  # only now: a third of this process's memory, which most handlers have no use for

        async def run() -> Any:
            self._task = asyncio.current_task()
            try:
                return await work
            finally:
                self._task = None

        try:
            return asyncio.run(run())
        except asyncio.CancelledError:
            raise JobCancelled from None

    def _ending(self, result: Any) -> dict[str, Any]:
        try:
            text = json.dumps(result, allow_nan=False, separators=(",", ":"))
        except (TypeError, ValueError) as error:
            raise PermanentError(f"the handler returned a value that is not JSON: {error}") from None
        if len(text.encode()) > MAX_RESULT:
            raise PermanentError(
                f"the handler returned {len(text.encode())} bytes of JSON; at most {MAX_RESULT} fit. "
                "Write a large result to storage and return its address."
            )
        return {"type": "completed", "result": result}

    def _report(self, step: Mapping[str, Any]) -> None:
        if step["data"] is not None and len(json.dumps(step["data"], allow_nan=False)) > MAX_STEP_DATA:
            raise ValueError(f"a step's data may take {MAX_STEP_DATA} bytes of JSON at most")
        message = {"type": "step", **step, "message": str(step["message"])[:MAX_MESSAGE]}
        if threading.current_thread() is not threading.main_thread() or not self._interruptible:
            return self._send(message)
        self._interruptible = False  # half a line on the socket would end this process' usefulness
        try:
            self._send(message)
        finally:
            self._interruptible = True
        if self._job and self._job.cancelled:
            raise JobCancelled
        return None

    def _send(self, message: Mapping[str, Any]) -> None:
        body = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        with self._send_lock:
            self._socket.sendall(body)


def _failure(error: BaseException, *, permanent: bool) -> dict[str, Any]:
    if isinstance(error, PermanentError | UnknownHandler):
        message = str(error) or type(error).__name__
    elif isinstance(error, MemoryError):
        limit = resource.getrlimit(resource.RLIMIT_DATA)[0] >> 20
        message = f"MemoryError: the handler wanted more than JOBLEASE_JOB_MEMORY_LIMIT_MIB={limit} allows"
    else:
        message = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    text = "".join(traceback.format_exception(error))
    return {
        "type": "failed",
        "error": message[:MAX_MESSAGE],
        "traceback": text[-MAX_TRACEBACK:],
        "permanent": permanent,
    }


def main() -> None:
    """Entry point of the process: `python -m joblease_worker.child SOCKET PARENT MEMORY_LIMIT_MIB`."""
    connection, parent, memory_limit = map(int, sys.argv[1:4])
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above took effect
        os._exit(1)
    Path("/proc/self/oom_score_adj").write_text("1000")  # a machine short of memory takes this one, not the worker
    if memory_limit:
        resource.setrlimit(resource.RLIMIT_DATA, (memory_limit << 20, memory_limit << 20))
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    Child(socket.socket(fileno=connection)).serve()


if __name__ == "__main__":
    main()
