"""The process in which handlers run, one job at a time, started once and used for many jobs.

It knows nothing of brokers, leases or storage: it gets a job over a socket from the worker and answers with steps and
one ending. That is what makes it safe to kill at any moment. It dies with its worker (Linux' parent death signal), even
when a handler never lets go of the interpreter: a handler without a lease must not live on. During a run the kernel
only stops it, since its guardian then kills it together with what it has started, which without it nobody could find.

A handler's module may put others in the place of the standard library's functions (gevent does). So what is used here
once the handlers are imported was taken before, by name; a `threading.Thread` would be theirs all the same.
"""

import contextlib
import contextvars
import faulthandler
import inspect
import os
import resource
import signal
import socket
import sys
import traceback
from _thread import allocate_lock, get_ident, start_new_thread
from collections.abc import Mapping
from pathlib import Path
from queue import SimpleQueue
from signal import pthread_kill, pthread_sigmask
from signal import signal as set_handler
from time import sleep
from typing import TYPE_CHECKING, Any

from joblease import values
from joblease.clock import boot_seconds
from joblease.handlers import JobCancelled, JobContext, PermanentError, find, handler, load_handlers
from joblease.parameters import describe, fit
from joblease.states import State

from joblease_worker import frames, linux, where
from joblease_worker.copies import no_copies
from joblease_worker.ending import STOPPED, UNSTARTED
from joblease_worker.failure import failure
from joblease_worker.leftovers import Leftovers, Surroundings
from joblease_worker.library import Library
from joblease_worker.log_lines import log_to_stderr
from joblease_worker.speech import Run

if TYPE_CHECKING:
    import asyncio


GUARDIAN_SECONDS = 10.0
"""For the guardian to end this process after the worker."""


class Child:
    """The loop of the handler process."""

    def __init__(self, connection: socket.socket, answer: where.Answer) -> None:
        self._socket = connection
        self._answer = answer
        self._place = _place(connection.fileno())
        self._pid = os.getpid()
        self._thread = get_ident()
        self._sending, self._listening = allocate_lock(), allocate_lock()
        self._orders: SimpleQueue[Run] = SimpleQueue()
        self._run: Run | None = None
        self._task: asyncio.Task[Any] | None = None
        self._interruptible = False

    def serve(self) -> None:
        """Announce the handlers, then run jobs until the worker hangs up."""
        signal.signal(signal.SIGINT, lambda *_: None)  # SIG_IGN would be inherited by what handlers start
        os.register_at_fork(after_in_child=self._hang_up)
        with no_copies():
            names = load_handlers()
        handlers = [*(describe(name, find(name)) for name in names), *_register_commands()]
        faulthandler.unregister(signal.SIGUSR1)  # whoever took it for a stack dump took the cancel order's signal
        set_handler(signal.SIGUSR1, self._interrupt)
        self._answer.listen()
        self._listening.acquire()
        start_new_thread(self._listen, ())
        self._listening.acquire()
        surroundings, library, leftovers = Surroundings(), Library(), Leftovers()
        self._send(frames.Ready(handlers=handlers))
        while True:
            run = self._orders.get()
            linux.on_parents_death(signal.SIGSTOP)
            try:
                ending = contextvars.copy_context().run(self._execute, run)
            except BaseException as error:  # noqa: BLE001 - of the job's signal handler, which came too late
                ending = frames.Ended(run=run.id, **failure(error))
            try:
                surroundings.restore()
                library.restore()
                self._answer.listen()
                ending.left = values.printable(leftovers.find() or library.changed())
            except BaseException as error:  # noqa: BLE001 - a process whose streams were closed, say, is worth nothing
                ending.left = f"what cannot be put back ({failure(error)['error']})"
            if not ending.left:
                linux.on_parents_death(signal.SIGKILL)
            try:
                run.end(ending)
            except ConnectionError:
                _leave()

    def _hang_up(self) -> None:
        """Called in a copy of this process that a handler has forked: it must not speak for the job."""
        with contextlib.suppress(OSError):
            os.close(self._socket.detach())

    def _listen(self) -> None:
        pthread_sigmask(signal.SIG_BLOCK, [where.SIGNAL])  # it is for the handler's thread
        self._listening.release()
        try:
            for order in frames.orders(self._socket):
                if isinstance(order, frames.Run):
                    self._run = Run(order, self._report, self._send)
                    self._orders.put(self._run)
                elif self._run and self._run.id == order.run:
                    self._run.job.cancelled = True
                    self._stop()
        except OSError:
            pass
        except BaseException:  # noqa: BLE001 - not to be understood, which is the end of it
            traceback.print_exc()
        _leave()

    def _stop(self) -> None:
        task = self._task
        if task is not None:
            with contextlib.suppress(RuntimeError):  # its loop has just ended
                task.get_loop().call_soon_threadsafe(task.cancel)
        else:
            pthread_kill(self._thread, signal.SIGUSR1)

    def _interrupt(self, *_: object) -> None:
        if self._interruptible and self._run and self._run.job.cancelled:  # not the next run, should this come late
            self._interruptible = False
            raise JobCancelled

    def _execute(self, run: Run) -> frames.Ended:
        job = run.job
        try:
            if decimal := sys.modules.get("decimal"):  # its precision is in an object that all contexts share
                decimal.setcontext(decimal.getcontext().copy())
            if boot_seconds() > run.deadline:  # the worker, or this process, stood still after it was sent
                return frames.Ended(run=run.id, how=UNSTARTED)
            if job.cancelled:
                return frames.Ended(run=run.id, how=STOPPED)
            function = find(job.handler)
            returned = self._call(function, job, fit(job.handler, function, job.parameters))
            return frames.Ended(run=run.id, how=State.COMPLETED, result=_result(returned))
        except JobCancelled:
            return frames.Ended(run=run.id, how=STOPPED)
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is its failure, not ours
            return frames.Ended(run=run.id, **failure(error))

    def _call(self, function: Any, job: JobContext, arguments: Mapping[str, Any]) -> Any:
        with no_copies():
            try:
                self._interruptible = True
                if job.cancelled:  # while nobody could be interrupted
                    raise JobCancelled
                returned = function(job, **arguments)
            finally:
                self._interruptible = False
            return self._await(returned, job) if inspect.isawaitable(returned) else returned

    def _await(self, work: Any, job: JobContext) -> Any:
        import asyncio  # only now: a third of this process's memory, which most handlers have no use for

        async def run() -> Any:
            with no_copies():  # here, since the end of the loop would spoil that of the original
                self._task = asyncio.current_task()
                try:
                    if job.cancelled:
                        raise JobCancelled
                    return await work
                finally:
                    self._task = None

        try:
            return asyncio.run(run())
        except asyncio.CancelledError:
            raise JobCancelled from None

    def _report(self, run: Run, step: Mapping[str, Any]) -> None:
        """Send a step; what a cancel order finds here is raised."""
        if os.getpid() != self._pid:
            raise RuntimeError("job.step was called in a copy of the handler's process; only the original may")
        if get_ident() != self._thread or not self._interruptible:
            return run.tell(step)
        self._interruptible = False  # half a line on the socket would end this process' usefulness
        try:
            run.tell(step)
        finally:
            self._interruptible = True
        if run.job.cancelled:
            raise JobCancelled
        return None

    def _send(self, frame: frames.Said) -> None:
        with self._sending:  # whole lines: threads of a run may speak at the same time
            if _place(self._socket.fileno()) != self._place:  # closed, and its number is another's
                raise OSError("the connection to the worker is closed")
            self._socket.sendall(frames.encode(frame))


def _leave() -> None:
    """End, because the worker has gone.

    What a run has started is found below this process and nowhere else, so it waits to be killed together with that:
    the end of the connection may be seen here before the kernel and the guardian have acted.
    """
    sleep(GUARDIAN_SECONDS)
    os._exit(1)


def _register_commands() -> list[dict[str, Any]]:
    """Make handlers of the commands; their descriptions. Raises `BadCommands`."""
    if not (file := os.environ.get("JOBLEASE_COMMANDS")):
        return []
    from joblease_worker.command import Program  # only now: most workers have none
    from joblease_worker.commands import BadCommands, read

    commands = read(Path(file))
    for each in commands:
        try:
            handler(each.name)(Program(each))
        except ValueError as error:
            raise BadCommands(f"{file}: {error}") from None
    return [each.describe() for each in commands]


def _place(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def _result(returned: Any) -> Any:
    try:
        return values.result(returned)
    except Exception as error:
        if type(error) in (TypeError, ValueError):  # ours; what the value's own code raises is as a handler's error
            raise PermanentError(f"the handler returned what cannot be recorded: {error}") from error
        raise


def main() -> None:
    """Entry point of the process: `python -m joblease_worker.child SOCKET PARENT MEMORY_LIMIT_MIB LOG_LEVEL WHERE`."""
    connection, parent, memory_limit = map(int, sys.argv[1:4])
    os.set_inheritable(connection, False)  # noqa: FBT003 - it has no other form
    linux.on_parents_death(signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above took effect
        os._exit(1)
    linux.adopt_orphans()
    Path("/proc/self/oom_score_adj").write_text("1000")  # a machine short of memory takes this one, not the worker
    if memory_limit:
        resource.setrlimit(resource.RLIMIT_DATA, (memory_limit << 20, memory_limit << 20))
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    log_to_stderr(sys.argv[4])
    try:
        Child(socket.socket(fileno=connection), where.Answer(int(sys.argv[5]))).serve()
    except BaseException:  # noqa: BLE001 - nothing is left to be done here, and no thread is worth waiting for
        traceback.print_exc()
        os._exit(1)


if __name__ == "__main__":
    main()
