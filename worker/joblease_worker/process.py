"""The worker's side of a handler process: start it, hand it jobs, read what it says, kill it.

A process can be killed, a thread cannot; so a handler that blocks, leaks, crashes or must not go on costs its own
process and nothing else. Processes are kept warm and used again, because starting one and importing handlers takes
longer than many jobs do; but only when the run before has left nothing behind.

A run ends with its ending or with its process, whichever comes first. When `run` returns, nothing that the run started
lives on.
"""

import asyncio
import logging
import os
import resource
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from joblease import values
from joblease.messages import HandlerDescription
from joblease.states import State

from joblease_worker import frames, guardian_process, offspring
from joblease_worker.ending import DIED, Ending, died
from joblease_worker.environment import without_keys
from joblease_worker.metrics import FOREIGN_FRAMES, HANDLER_PROCESSES, HANDLER_PROCESSES_RETIRED
from joblease_worker.output import Output
from joblease_worker.where import Where

if TYPE_CHECKING:
    from joblease_worker.settings import WorkerSettings

log = logging.getLogger(__name__)

CHILD = ("-m", "joblease_worker.child")
GONE_SECONDS = 1.0
"""Between the end of a process's socket and its own."""
END_SECONDS = 10.0
"""For a killed process and all that it has started to be gone."""
LAST_WORDS_SECONDS = 1.0
"""For the socket to end after its process: somebody who cannot be killed may hold a copy."""
_SCRIBBLED = "it wrote into the worker's socket"

OnSaid = Callable[[Mapping[str, Any]], Awaitable[None]]
"""Takes `step`, `message`, `progress` and `data` of a step, or `checkpoint`."""


class StartFailed(Exception):
    """A handler process did not come up: its handlers cannot be imported, most likely."""


class HandlerProcess:
    """One warm process."""

    def __init__(
        self, settings: "WorkerSettings", process: asyncio.subprocess.Process, output: Output, where: Where
    ) -> None:
        self.handlers: list[HandlerDescription] = []
        self._settings = settings
        self._process = process
        self._output = output
        self._where = where
        self._run: frames.Run | None = None
        self._jobs = 0
        self._killed = ""
        self._retired = ""
        self._heard_foreign = False
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self._exit: asyncio.Task[int]

    @classmethod
    async def start(cls, settings: "WorkerSettings") -> "HandlerProcess":
        """Start a process and wait until its handlers are imported. Raises `StartFailed`."""
        ours, theirs = socket.socketpair()
        output, where = Output(settings.output_limit_bytes), Where()
        try:
            with offspring.birth():
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, *CHILD),
                    *map(str, (theirs.fileno(), os.getpid(), settings.job_memory_limit_mib, settings.log_level)),
                    str(where.fd),
                    pass_fds=[theirs.fileno(), where.fd],
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output.write_end,
                    stderr=asyncio.subprocess.STDOUT,
                    start_new_session=True,
                    env=without_keys(settings),
                )
                offspring.handler_processes.add(process.pid)
        except BaseException:
            ours.close()
            where.close()
            await output.close()
            raise
        finally:
            theirs.close()
            os.close(output.write_end)
        HANDLER_PROCESSES.inc()
        self = cls(settings, process, output, where)
        self._reader, self._writer = await asyncio.open_connection(sock=ours, limit=frames.MAX_FRAME)
        self._exit = asyncio.create_task(self._watch_exit(), name=f"handler process {process.pid}")
        try:
            self.handlers = await self._hello()
        except BaseException:
            await self.close()
            raise
        return self

    @property
    def pid(self) -> int:
        """Process id; its process group has the same number."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can take another job."""
        return self._process.returncode is None and not self._killed and not self._retired

    async def run(
        self, job: Mapping[str, Any], deadline: float, on_said: OnSaid, log_fields: Mapping[str, Any]
    ) -> Ending:
        """Run a job to its end; what it says is passed on before more is read, so a flood waits here.

        The handler is not called after `deadline` (`boot_seconds`): an order may be late. What ends the waiting is the
        process's word or its death; `kill` brings about the latter.
        """
        run = frames.Run(run=f"{job['id']}.{job['epoch']}", job=dict(job), deadline=deadline)
        self._output.begin(log_fields)
        self._run = run
        try:
            try:
                self._send(run)
            except (ValueError, RecursionError) as error:
                return Ending(State.FAILED, error=f"the job cannot be handed to its handler: {error}")
            ended = await self._listen(run.run, on_said)
        except BaseException:  # nobody waits for the ending any more
            self.kill("the run was given up")
            raise
        finally:
            self._run = None
            await self._output.catch_up()
        if ended is None:
            await self._end("it closed its connection to the worker", GONE_SECONDS)
            return Ending(DIED, error=self._killed or died(self._process.returncode))
        if ended.left:
            log.warning("the run has left %s behind; its process %d is replaced", ended.left, self.pid)
            HANDLER_PROCESSES_RETIRED.labels("leftovers").inc()
            self.kill("a run has left something behind")
        if self._killed:
            await self._end()
        else:
            self._retire_worn_out()
        return Ending(ended.how, ended.result, ended.error, ended.traceback)

    def ask_to_stop(self, job_id: str) -> None:
        """Raise `JobCancelled` inside the handler, if it still runs that job; it notes where that stands."""
        if self._run and self._run.job["id"] == job_id:
            self._where.ask(self.pid)
            self._send(frames.Cancel(run=self._run.run))

    def stood(self) -> str:
        """Where the handler stood when it was asked to stop, if that is known."""
        return values.printable(self._where.read())

    def kill(self, why: str) -> None:
        """End the process and all that it started, at once. May be called from any thread.

        What a process that has died by itself has left is killed by `_watch_exit`.
        """
        if self._process.returncode is None:
            self._killed = self._killed or why
            guardian_process.end_tree(self.pid)

    async def close(self) -> None:
        """Kill the process and wait until it is gone, with all that it started."""
        self._where.close()
        await self._end("closed")
        self._writer.close()
        await self._output.close()

    async def _hello(self) -> list[HandlerDescription]:
        seconds = self._settings.import_timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                said = await self._read()
        except TimeoutError:
            raise StartFailed(
                f"the handlers were not imported within {seconds:g} s (JOBLEASE_IMPORT_TIMEOUT_SECONDS)"
            ) from None
        except frames.BadFrame as error:
            raise StartFailed(str(error)) from None
        if not isinstance(said, frames.Ready):
            raise StartFailed("the handler process did not start; its output is in the lines above")
        return [HandlerDescription.model_validate(each) for each in said.handlers]

    async def _listen(self, run: str, on_said: OnSaid) -> frames.Ended | None:
        """Pass on the run's steps and checkpoints until its end; None when the process has died or talks nonsense."""
        try:
            while (said := await self._read()) is not None:
                if isinstance(said, frames.Ready):
                    raise frames.BadFrame("it has said that it is ready before")
                if said.run != run:
                    self._note_foreign(said.run, run)
                    await asyncio.sleep(0)  # a flood of them must not hold up the loop
                elif isinstance(said, frames.Step):
                    await on_said(
                        {"step": said.step, "message": said.message, "progress": said.progress, "data": said.data}
                    )
                elif isinstance(said, frames.Checkpoint):
                    await on_said({"checkpoint": said.state})
                    await asyncio.sleep(0)  # as above: no write holds these up
                else:
                    return said
        except frames.BadFrame as error:
            log.warning("handler process %d is killed, %s: %s", self.pid, _SCRIBBLED, error)
            self.kill(_SCRIBBLED)
        return None

    async def _read(self) -> frames.Said | None:
        """The next thing that the process says, or None when it has hung up. Raises `BadFrame`."""
        try:
            line = await self._reader.readline()
        except ConnectionError:
            return None
        except ValueError:
            raise frames.BadFrame(f"a line of more than {frames.MAX_FRAME} bytes") from None
        return frames.said(line) if line else None

    def _send(self, frame: frames.Order) -> None:
        """Without waiting for the process to read: a run has one order, and a cancel. A dead one hears nothing."""
        line = frames.encode(frame)
        if not self._writer.is_closing():
            self._writer.write(line)

    def _note_foreign(self, other: str, run: str) -> None:
        FOREIGN_FRAMES.inc()
        if not self._heard_foreign:
            log.warning("handler process %d speaks of run %s during run %s; that is dropped", self.pid, other, run)
        self._heard_foreign = True

    def _retire_worn_out(self) -> None:
        self._jobs += 1
        jobs, mebibytes = self._settings.jobs_per_process, self._settings.process_memory_mib
        if jobs and self._jobs >= jobs:
            self._retire("jobs", f"it has run {self._jobs} jobs")
        elif mebibytes and (resident := self._resident_mib()) > mebibytes:
            self._retire("memory", f"it takes {resident} MiB, more than JOBLEASE_PROCESS_MEMORY_MIB={mebibytes}")

    def _retire(self, reason: str, why: str) -> None:
        self._retired = why
        HANDLER_PROCESSES_RETIRED.labels(reason).inc()
        log.info("handler process %d is replaced: %s", self.pid, why)

    def _resident_mib(self) -> int:
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            return 0
        return pages * resource.getpagesize() >> 20

    async def _watch_exit(self) -> int:
        """The process's end, however it came: nothing that it started may go on."""
        code = await self._process.wait()
        offspring.handler_processes.discard(self.pid)
        await offspring.sweep()
        asyncio.get_running_loop().call_later(LAST_WORDS_SECONDS, self._writer.transport.abort)
        return code

    async def _end(self, why: str = "closed", grace: float = 0) -> None:
        """Wait until it has gone with all that it started; kill it when it has not ended by itself within `grace`.

        What ends the waiting is SIGKILL, or `END_SECONDS`.
        """
        if grace:
            await asyncio.wait([self._exit], timeout=grace)
        self.kill(why)
        await asyncio.wait([self._exit], timeout=END_SECONDS)
        if not self._exit.done():
            log.error("handler process %d does not end: it hangs in the kernel", self.pid)
