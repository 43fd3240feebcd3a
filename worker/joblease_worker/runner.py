"""The worker's side of the handler processes: start them, hand them jobs, read what they say, kill them.

A process can be killed, a thread cannot; so a handler that blocks, leaks, crashes or must not go on costs its own
process and nothing else. Processes are kept warm and used again, because starting one and importing handlers takes
longer than many jobs do.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from joblease.messages import HandlerDescription

from joblease_worker.metrics import HANDLER_PROCESSES

if TYPE_CHECKING:
    from joblease_worker.settings import WorkerSettings

log = logging.getLogger(__name__)
output_log = logging.getLogger("handler")

START_TIMEOUT_SECONDS = 60
LINE_LIMIT = 4 << 20
"""Longest message from a handler process; larger than anything it may send."""
OUTPUT_LINE = 8_192

OnStep = Callable[[Mapping[str, Any]], Awaitable[None]]


class StartFailed(Exception):
    """A handler process did not come up: its handlers cannot be imported, most likely."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended: `completed`, `failed`, `stopped` (as it was asked to), or `died`."""

    kind: str
    result: Any = None
    error: str = ""
    traceback: str = ""
    permanent: bool = False


class HandlerProcess:
    """One warm process."""

    def __init__(self, process: asyncio.subprocess.Process, output_limit: int) -> None:
        self.handlers: list[HandlerDescription] = []
        self._process = process
        self._output_limit = output_limit
        self._output_left = output_limit
        self._log_fields: Mapping[str, Any] = {}
        self._killed = ""
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self._output: asyncio.Task[None]

    @classmethod
    async def start(cls, settings: "WorkerSettings") -> "HandlerProcess":
        """Start a process and wait until its handlers are imported. Raises `StartFailed`."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "joblease_worker.child"),
                *map(str, (theirs.fileno(), os.getpid(), settings.job_memory_limit_mib)),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        HANDLER_PROCESSES.inc()
        self = cls(process, settings.output_limit_bytes)
        self._reader, self._writer = await asyncio.open_connection(sock=ours, limit=LINE_LIMIT)
        self._output = asyncio.create_task(self._log_output(), name=f"output {process.pid}")
        try:
            async with asyncio.timeout(START_TIMEOUT_SECONDS):
                hello = await self._read()
        except TimeoutError:
            hello = None
        if hello is None:
            await self.close()
            raise StartFailed("the handler process did not start; its output is in the lines above")
        self.handlers = [HandlerDescription.model_validate(each) for each in hello["handlers"]]
        return self

    @property
    def pid(self) -> int:
        """Process id; its process group has the same number."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can take another job."""
        return self._process.returncode is None and not self._killed

    async def run(
        self, job: Mapping[str, Any], deadline: float, on_step: OnStep, log_fields: Mapping[str, Any]
    ) -> Ending:
        """Run a job to its end; each step is passed on before the next one is read, so a flood waits here.

        The handler is not called after `deadline` (monotonic seconds): an order may be late.
        """
        self._log_fields, self._output_left = log_fields, self._output_limit
        with contextlib.suppress(ConnectionError):
            self._send({"type": "run", "job": job, "deadline": deadline})
            await self._writer.drain()
        while (message := await self._read()) is not None:
            if message["type"] == "step":
                await on_step(message)
            elif message["type"] == "completed":
                return Ending("completed", result=message["result"])
            elif message["type"] == "stopped":
                return Ending("stopped")
            else:
                return Ending("failed", None, message["error"], message["traceback"], message["permanent"])
        self._kill_group()  # what it has started dies with it
        code = await self._process.wait()
        return Ending("died", error=self._killed or _how_it_died(code))

    def ask_to_stop(self, job_id: str) -> None:
        """Raise `JobCancelled` inside the handler, if it still runs that job."""
        with contextlib.suppress(ConnectionError, RuntimeError):
            self._send({"type": "cancel", "job": job_id})

    def kill(self, why: str) -> None:
        """End the process and all that it started, at once. May be called from any thread."""
        self._killed = self._killed or why
        if self._process.returncode is None:
            self._kill_group()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def close(self) -> None:
        """Kill the process and wait until it is gone."""
        self.kill("closed")
        await self._process.wait()
        self._writer.close()
        await asyncio.wait([self._output], timeout=1)
        self._output.cancel()

    def _send(self, message: Mapping[str, Any]) -> None:
        self._writer.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    async def _read(self) -> dict[str, Any] | None:
        """The next message, or None when the process has hung up or talks nonsense."""
        try:
            line = await self._reader.readline()
            message: dict[str, Any] | None = json.loads(line) if line.endswith(b"\n") else None
        except (ConnectionError, ValueError) as error:
            if isinstance(error, ValueError):
                self.kill("it wrote into the worker's socket")
            return None
        return message

    async def _log_output(self) -> None:
        """Log what handlers print, line by line, up to the limit; read and drop the rest, so that nothing blocks."""
        assert self._process.stdout is not None  # noqa: S101 - we asked for a pipe
        rest = b""
        while block := await self._process.stdout.read(65_536):
            if self._output_left < 0:
                continue
            *lines, rest = (rest + block).split(b"\n")
            if len(rest) > OUTPUT_LINE:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._log_line(line)
        if rest:
            self._log_line(rest)

    def _log_line(self, line: bytes) -> None:
        if self._output_left < 0:
            return
        self._output_left -= len(line) + 1
        text = line[:OUTPUT_LINE].decode(errors="backslashreplace")
        if self._output_left < 0:
            text = f"(the run printed more than {self._output_limit} bytes; the rest is not logged)"
        output_log.info("%s", text, extra=dict(self._log_fields))


def _how_it_died(code: int) -> str:
    if code >= 0:
        return f"the handler's process ended by itself with exit code {code}"
    name = signal.Signals(-code).name
    hint = ": out of memory, most likely" if name == "SIGKILL" else ""
    return f"the handler's process was killed by {name}{hint}"


class ProcessPool:
    """As many warm processes as jobs may run at once."""

    def __init__(self, settings: "WorkerSettings") -> None:
        self._settings = settings
        self._idle: list[HandlerProcess] = []
        self.handlers: dict[str, HandlerDescription] = {}

    async def start(self) -> None:
        """Start all processes. Raises `StartFailed`."""
        first = await HandlerProcess.start(self._settings)
        self.handlers = {each.name: each for each in first.handlers}
        self._idle.append(first)
        others = range(self._settings.worker_concurrency - 1)
        self._idle += await asyncio.gather(*(HandlerProcess.start(self._settings) for _ in others))

    @contextlib.asynccontextmanager
    async def process(self) -> AsyncIterator[HandlerProcess]:
        """A process for one job. One that died or was killed is replaced. Raises `StartFailed`."""
        process = self._idle.pop() if self._idle else await HandlerProcess.start(self._settings)
        if not process.alive:
            await process.close()
            process = await HandlerProcess.start(self._settings)
        try:
            yield process
        finally:
            if process.alive:
                self._idle.append(process)
            else:
                await process.close()

    async def close(self) -> None:
        """End all processes."""
        idle, self._idle = self._idle, []
        await asyncio.gather(*(process.close() for process in idle))
