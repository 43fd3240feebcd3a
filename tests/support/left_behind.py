"""What an installation leaves behind when its operator ends in the middle of its work, and what is to become of it.

By two releases, one after the other: what the first one has begun, the second one carries on.
"""

import asyncio
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

from joblease.messages import now, rfc3339
from joblease.states import State

from support.cluster import Cluster
from support.jobs import Jobs
from support.programs import Program

Start = Callable[..., AbstractAsyncContextManager[Program]]
ANY = {"limit": 0}
TAKEN_OVER = "Submitted Queued Started Interrupted Started Step 1 Completed"
HISTORIES = {
    "completed": "Submitted Queued Started Step 1 Step 2 Step 3 Completed",
    "failed": "Submitted Queued Started Failed",
    "retrying": "Submitted Queued Started Retrying Queued Started Completed",
    "running": TAKEN_OVER,
    "alone": TAKEN_OVER,
    "handed": TAKEN_OVER,
    **dict.fromkeys(("queued", "waiting", "scheduled", "suspended"), "Submitted Queued Started Completed"),
    "cancelled": "Submitted Queued Cancelled",
    "deleted": "Submitted Cancelled",
}
"""Each job's name, and what is to be in its trail in the end."""
_NOT_TOLD_BY_ALL = {"Suspended", "Scheduled", "WaitingForGroup", "Deferred"}


async def leave_behind(
    cluster: Cluster, folder: Path, operator: Start, worker: Start, stack: AsyncExitStack
) -> tuple[dict[str, str], Program]:
    """Begin all jobs of `HISTORIES`, and end the operator; their ids by their names, and the worker that goes on.

    It runs `running`, which has its group's only slot, and `alone`, in a group without a limit. Each ends when the file
    `1` appears in the folder of its name. It has no place for another one.
    """
    uids: dict[str, str] = {}

    def submit(name: str, handler: str = "noop", **spec: Any) -> None:
        if handler == "paced":
            (folder / name).mkdir()
            parameters = {"folder": str(folder / name), "count": 1, "record": str(folder / name / "record")}
            spec = {"parameters": parameters, **spec}
        cluster.create(handler, name, queue=cluster.namespace, **spec)
        uids[name] = cluster.get(name)["metadata"]["uid"]

    leads = await stack.enter_async_context(operator())
    first = await stack.enter_async_context(worker("left-1", JOBLEASE_WORKER_CONCURRENCY="2"))
    submit("completed", "steps", parameters={"count": 3})
    submit("failed", "fail-for-good", concurrency=ANY)
    backoff = {"maxAttempts": 3, "backoff": {"initialSeconds": 10}}
    submit("retrying", "fail", parameters={"until_attempt": 2}, retry=backoff, concurrency=ANY)
    await cluster.reaches("completed", "Completed")
    await cluster.reaches("failed", "Failed")
    await cluster.reaches("retrying", "Retrying")
    submit("running", "paced")
    submit("alone", "paced", concurrency=ANY)
    await cluster.reaches("running", "Running")
    await cluster.reaches("alone", "Running")
    submit("waiting")
    submit("suspended", suspend=True, concurrency=ANY)
    submit("deleted", suspend=True, concurrency=ANY)
    submit("scheduled", startAfter=rfc3339(now() + timedelta(seconds=15)), concurrency=ANY)
    async with worker("left-2", JOBLEASE_DRAIN_GRACE_SECONDS="0") as second:
        submit("handed", "paced", concurrency=ANY)
        await cluster.reaches("handed", "Running")
        await second.stop()
    submit("queued", concurrency=ANY)
    submit("cancelled", concurrency=ANY)
    await cluster.reaches("waiting", "WaitingForGroup")
    await cluster.reaches("scheduled", "Scheduled")
    for name in ("suspended", "deleted"):
        await cluster.reaches(name, "Suspended")
    for name in ("handed", "queued", "cancelled"):
        await cluster.reaches(name, "Queued")
    assert await leads.stop(signal.SIGTERM) == 0
    cluster.change("cancelled", cancel=True)
    return uids, first


def finish(folder: Path, name: str) -> None:
    """Let a job end that waits for it."""
    (folder / name / "1").touch()


async def check_histories(cluster: Cluster, jobs: Jobs, uids: dict[str, str], **others: str) -> None:
    """Wait for each job's end, and hold its trail and its status to `HISTORIES` and `others`."""
    expected = {**HISTORIES, **others}
    for name, uid in uids.items():
        async with asyncio.timeout(60):
            state, events = await jobs.outcome(uid, timeout=60)
        words = [event.status for event in events if event.status not in _NOT_TOLD_BY_ALL]
        assert (name, " ".join(words)) == (name, expected[name])
        assert [event.state for event in events if event.state.terminal] == [state], name
        assert [event.sequence for event in events] == list(range(1, len(events) + 1)), name
        if cluster.exists(name):
            status = (await cluster.reaches(name, state.value))["status"]
            assert status["jobId"] == uid
            assert status["completedAt"]


async def ended(jobs: Jobs, uid: str, state: State) -> None:
    """Wait for an outcome."""
    assert (await jobs.outcome(uid))[0] is state


def runs(folder: Path, name: str) -> list[float]:
    """When the runs of a job that waits for a file began; monotonic seconds."""
    return [float(line.split()[2]) for line in (folder / name / "record").read_text().splitlines()]
