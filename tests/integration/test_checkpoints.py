"""Checkpoints: a run goes on where the last one of its job came to, whatever has ended that one."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from joblease.head import Head
from joblease.limits import MAX_CHECKPOINT_BYTES
from joblease.states import State
from joblease_worker import run
from support.cluster import Cluster
from support.jobs import Jobs
from support.programs import Program
from support.worker import Worker, open_worker

SOON = {"maxAttempts": 2, "backoff": {"initialSeconds": 1, "maxSeconds": 1}}
ROOM = MAX_CHECKPOINT_BYTES - len('{"row":5,"filler":""}')


@pytest.fixture
async def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "CHECKPOINT_SECONDS", 0.2)


@pytest.fixture
async def worker_inside(jobs: Jobs, amqp_url: str, storage: str, soon: None) -> AsyncIterator[Worker]:
    async with open_worker(amqp_url, storage) as opened:
        yield opened


async def comes_to(jobs: Jobs, job_id: str, row: int) -> Head:
    async with asyncio.timeout(30):
        while (head := await jobs.trail.head(job_id)).checkpoint == "" or json.loads(head.checkpoint)["row"] != row:
            await asyncio.sleep(0.05)
    return head


@pytest.mark.parametrize("how", ["raise", "exit"])
@pytest.mark.parametrize(
    ("filler", "times"),
    [("", 1), ("x", ROOM), ("\N{GRINNING FACE}", ROOM // 4), ('"\u2028', ROOM // 5)],
    ids=["small", "64 KiB", "64 KiB of pairs", "escaped"],
)
async def test_the_next_attempt_goes_on(
    cluster: Cluster, operator: Program, worker: Program, submit: Callable[..., str], how: str, filler: str, times: int
) -> None:
    parameters = {"rows": 9, "stop_at": 5, "how": how, "filler": filler, "times": times}
    name = submit("import", parameters=parameters, retry=SOON)
    status = (await cluster.reaches(name, "Completed", "Failed"))["status"]
    assert status["result"] == {"from": 5, "rows": 9, "same": True}


async def test_the_next_attempt_goes_on_after_the_operator_was_replaced(
    cluster: Cluster, start_operator: Callable[..., AbstractAsyncContextManager[Program]], worker: Program,
    submit: Callable[..., str],
) -> None:  # fmt: skip
    retry = {"maxAttempts": 2, "backoff": {"initialSeconds": 8, "maxSeconds": 8}}
    async with start_operator():
        name = submit("import", parameters={"rows": 9, "stop_at": 5}, retry=retry)
        await cluster.reaches(name, "Retrying")
    async with start_operator():
        status = (await cluster.reaches(name, "Completed", "Failed"))["status"]
    assert status["result"] == {"from": 5, "rows": 9, "same": True}


@pytest.mark.parametrize(("how", "number"), [("killed", signal.SIGKILL), ("handed over", signal.SIGTERM)])
async def test_another_worker_goes_on(
    jobs: Jobs, amqp_url: str, storage: str, tmp_path: Path,
    start_worker: Callable[..., AbstractAsyncContextManager[Program]], how: str, number: signal.Signals,
) -> None:  # fmt: skip
    parameters = {"rows": 9, "stop_at": 5, "how": "step", "folder": str(tmp_path)}
    settings = {"JOBLEASE_WORKER_QUEUE": "default", "JOBLEASE_DRAIN_GRACE_SECONDS": "0.2"}
    async with start_worker("worker-1", **settings) as first:
        job = await jobs.submit("import", group=how.replace(" ", "-"), parameters=parameters)
        await comes_to(jobs, job.job_id, 5)
        async with start_worker("worker-2", **settings):
            await first.stop(number)
            state, events = await jobs.outcome(job.job_id, timeout=45)
    assert state is State.COMPLETED
    assert (events[-1].data or {})["result"]["from"] == 5
    assert [event.worker for event in events if event.status == "Started"] == ["worker-1", "worker-2"]
    if number == signal.SIGTERM:
        assert "from its last checkpoint" in [event.message for event in events if event.status == "Started"][-1]


async def test_a_checkpoint_alone_is_written_after_a_while_and_no_event(
    jobs: Jobs, worker_inside: Worker, tmp_path: Path
) -> None:
    job = await jobs.submit("import", parameters={"rows": 9, "stop_at": 5, "how": "wait", "folder": str(tmp_path)})
    head = await comes_to(jobs, job.job_id, 5)
    assert [event.status for event in await jobs.trail.history(job.job_id)] == ["Submitted", "Queued", "Started"]
    assert head.state is State.RUNNING
    (tmp_path / "go").touch()
    state, _ = await jobs.outcome(job.job_id)
    assert state is State.COMPLETED
    assert (await jobs.trail.head(job.job_id)).checkpoint == ""  # nobody goes on from there


async def test_of_many_checkpoints_few_are_written(jobs: Jobs, worker_inside: Worker) -> None:
    writes: list[Any] = []
    append = type(worker_inside.trail).append

    async def count(*arguments: Any, **changes: Any) -> Any:
        writes.append(changes)
        return await append(*arguments, **changes)

    with patch.object(type(worker_inside.trail), "append", count):
        job = await jobs.submit("import", parameters={"rows": 20_000})
        state, events = await jobs.outcome(job.job_id, timeout=60)
    assert state is State.COMPLETED
    took = (events[-1].timestamp - events[-2].timestamp).total_seconds()
    assert len(writes) <= 3 + took / 0.2  # submitted, claimed, completed


async def test_a_run_that_was_overtaken_cannot_overwrite_the_checkpoint(
    jobs: Jobs, worker_inside: Worker, tmp_path: Path
) -> None:
    job = await jobs.submit("import", parameters={"rows": 9, "stop_at": 5, "how": "wait", "folder": str(tmp_path)})
    head = await comes_to(jobs, job.job_id, 5)
    later = '{"row":8,"filler":""}'
    head, _ = await jobs.trail.append(head, [], epoch=head.epoch + 1, checkpoint=later, session="another")
    (tmp_path / "go").touch()  # more checkpoints follow, and the outcome
    async with asyncio.timeout(20):
        while worker_inside.consumer._work.runs:
            await asyncio.sleep(0.05)
    kept = await jobs.trail.head(job.job_id)
    assert (kept.checkpoint, kept.epoch, kept.state) == (later, head.epoch, State.RUNNING)
    await jobs.trail.append(kept, [], state=State.CANCELLED)
