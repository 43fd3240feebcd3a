"""The programs of docs/handlers.md, "Any program is a handler", run as it says: in a shell, Node.js and Go."""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from joblease.messages import RetryPolicy
from joblease.states import State
from support.jobs import Jobs
from support.worker import Worker, open_worker

PAGE = (Path(__file__).parent.parent.parent / "docs" / "handlers.md").read_text()
SECTION = PAGE.split("\n## Any program is a handler\n")[1].split("\n## ")[0]


def block(language: str) -> str:
    return str(re.findall(rf"```{language}\n(.*?)```", SECTION, re.DOTALL)[0])


def tool(name: str) -> str:
    if path := shutil.which(name):
        return path
    if os.environ.get("CI"):
        raise AssertionError(f"{name} is missing")
    pytest.skip(f"{name} is not on this machine")


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's files in a folder, the compiled one built."""
    go, _ = tool("go"), tool("node")
    folder = tmp_path_factory.mktemp("commands")
    (folder / "count-words.sh").write_text(block("sh"))
    (folder / "import-orders.mjs").write_text(block("js"))
    (folder / "checksum.go").write_text(block("go"))
    built = subprocess.run(
        [go, "build", "checksum.go"], cwd=folder, env={**os.environ, "GOFLAGS": "", "GO111MODULE": "off"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    (folder / "commands.toml").write_text(block("toml"))
    return folder / "commands.toml"


@pytest.fixture
async def worker(jobs: Jobs, amqp_url: str, storage: str, commands: Path) -> AsyncIterator[Worker]:
    async with open_worker(amqp_url, storage, commands=commands) as opened:
        yield opened


async def test_a_shell_script(jobs: Jobs, worker: Worker) -> None:
    assert worker.pool.handlers["count-words"].description == "Counts the words of a text"
    assert worker.pool.handlers["count-words"].parameters["required"] == ["text"]
    job = await jobs.submit("count-words", parameters={"text": "to be or 'not' to \"be\""})
    state, events = await jobs.outcome(job.job_id)
    assert state is State.COMPLETED
    assert [(event.status, event.message, event.progress, event.data) for event in events[3:5]] == [
        ("Step 1", "counting", 10, None), ("Step 2", "counted", 100, {"words": 6}),
    ]  # fmt: skip
    assert events[-1].data == {"result": {"words": 6}}


async def test_a_program_in_node_goes_on_from_its_checkpoint(jobs: Jobs, worker: Worker) -> None:
    job = await jobs.submit("import-orders", parameters={"orders": 3_000}, publish=False)
    await jobs.trail.append(await jobs.trail.head(job.job_id), [], checkpoint='{"done":1500}')  # by the run before
    await jobs.publish(job)
    state, events = await jobs.outcome(job.job_id)
    assert state is State.COMPLETED
    assert [event.message for event in events if event.status.startswith("Step ")] == ["2000 orders", "3000 orders"]
    assert events[-1].data == {"result": {"orders": 3_000, "now": 1_500}}


async def test_a_permanent_exit_code(jobs: Jobs, worker: Worker) -> None:
    job = await jobs.submit("import-orders", parameters={"orders": "many"}, retry=RetryPolicy(max_attempts=5))
    state, events = await jobs.outcome(job.job_id)
    assert state is State.FAILED
    assert events[-1].message == (
        "attempt 1 failed for good: handler 'import-orders': its command ended with exit code 65; "
        "the end of its standard error:\norders is to be a number"
    )


async def test_a_compiled_program(jobs: Jobs, worker: Worker, tmp_path: Path) -> None:
    content = b"x" * 100_000
    (tmp_path / "input").write_bytes(content)
    job = await jobs.submit("checksum", input_file_path=str(tmp_path / "input"))
    state, events = await jobs.outcome(job.job_id)
    assert state is State.COMPLETED
    assert events[3].message == "read 100000 bytes"
    assert events[-1].data == {"result": {"sha256": hashlib.sha256(content).hexdigest()}}
