"""JobLease's programs as the processes that they are in production."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from joblease_local.ports import free_ports
from joblease_local.processes import forget, record

BIN = Path(sys.executable).parent
TESTS = Path(__file__).parent.parent


class Program:
    """A running program: its probes, its metrics, its output."""

    def __init__(
        self, process: asyncio.subprocess.Process, port: int, probes: int, output: Path, variables: set[str]
    ) -> None:
        """`port` is the dashboard's, for its pages; `probes` every program's."""
        self.process = process
        self.port = port
        self._probes = probes
        self._output = output
        self.variables = variables
        """Names of JobLease's variables in its environment."""

    def read(self, path: str) -> tuple[int, str]:
        """Status and body of `/metrics`, `/healthz` or `/readyz`."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._probes}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        _, text = self.read("/metrics")
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        lines = (line for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{")))
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if all(each in line for each in wanted))

    @property
    def output(self) -> str:
        """All that it has written to standard output and error."""
        return self._output.read_text(errors="replace")

    async def ready(self, timeout: float = 90) -> None:
        """Wait until `/readyz` says so."""
        try:
            async with asyncio.timeout(timeout):
                while True:
                    if self.process.returncode is not None:
                        raise AssertionError(f"the program ended: {self.output[-3000:]}")
                    try:
                        if (await asyncio.to_thread(self.read, "/readyz"))[0] == 200:
                            return
                    except OSError:
                        pass
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"the program is not ready: {self.output[-3000:]}") from None

    async def stop(self, number: int = signal.SIGTERM, timeout: float = 30) -> int:
        """Send a signal and wait for the end; the exit code."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), timeout)


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


async def check_metrics(running: Program) -> None:
    """Hold a program's metrics to Prometheus' own rules."""
    promtool = shutil.which("promtool")
    if not promtool:
        if os.environ.get("CI"):
            raise AssertionError("promtool is missing")
        pytest.skip("promtool (Debian's package prometheus) is not on this machine")
    status, text = await asyncio.to_thread(running.read, "/metrics")
    assert (status, "joblease_build_info" in text) == (200, True)
    checking = await asyncio.create_subprocess_exec(
        promtool, "check", "metrics", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    said, _ = await asyncio.wait_for(checking.communicate(text.encode()), 20)
    assert checking.returncode == 0, said.decode()


@asynccontextmanager
async def program(
    name: str | Path, environment: Mapping[str, str], output: Path, port: int = 0
) -> AsyncIterator[Program]:
    """Run a console script, or another one by its path, ready to work; killed at the end if it still runs."""
    probes, free = free_ports(2)
    port = port or free
    variables = {
        **{key: value for key, value in os.environ.items() if not key.startswith("JOBLEASE_")},
        "PYTHONPATH": str(TESTS),
        "JOBLEASE_METRICS_HOST": "127.0.0.1",
        "JOBLEASE_METRICS_PORT": str(probes),
        "JOBLEASE_DASHBOARD_PORT": str(port),
        "JOBLEASE_LOG_FORMAT": "json",
        **environment,
    }
    with output.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            BIN / name, env=variables, stdout=log, stderr=log, start_new_session=True
        )
    entry = f"{Path(name).name}-{process.pid}"
    record(output.parent, entry, process.pid)
    running = Program(process, port, probes, output, {key for key in variables if key.startswith("JOBLEASE_")})
    try:
        await running.ready()
        yield running
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        forget(output.parent, entry)
