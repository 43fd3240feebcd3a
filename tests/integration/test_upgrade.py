"""From the release whose workers lease each job to this one, and back, while jobs wait, run and have ended."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

import aio_pika
import httpx
import pytest
from joblease import topology
from joblease.messages import JobMessage
from joblease.settings import BrokerSettings
from joblease.states import State
from joblease.topology import DEAD
from pydantic import SecretStr
from support.cluster import Cluster
from support.jobs import Jobs, open_jobs
from support.left_behind import Start, check_histories, ended, finish, leave_behind, runs
from support.listed import listed
from support.older import Older, older_release
from support.programs import BIN, Program, program
from support.recorded import play, record

RECORDING = Path(__file__).parent / "older.json"
"""What commit 0ec3466 has left behind: `JOBLEASE_RECORD=1` makes `test_jobs_of_the_older_release…` write it anew."""


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Older:
    return older_release(tmp_path_factory.mktemp("older"))


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture
def variables(operator_variables: dict[str, str], worker_variables: dict[str, str]) -> dict[str, str]:
    """The environment of the older programs, which is that of this release's."""
    return {**operator_variables, **worker_variables}


@pytest.fixture
async def no_dead_letters(amqp_url: str) -> None:
    """Each release makes that queue with other arguments."""
    await delete_dead_letters(amqp_url)


@pytest.fixture
def older_operator(older: Older, variables: dict[str, str], tmp_path: Path) -> Start:
    return lambda: older.start("operator", variables, tmp_path / "older-operator.log")


@pytest.fixture
def older_worker(older: Older, variables: dict[str, str], tmp_path: Path) -> Start:
    def start(name: str, **others: str) -> AbstractAsyncContextManager[Program]:
        named = {**variables, "JOBLEASE_WORKER_NAME": name, **others}
        return older.start("worker", named, tmp_path / f"older-{name}.log")

    return start


async def test_what_the_older_release_has_left_is_carried_on(
    cluster: Cluster, jobs: Jobs, start_operator: Start, start_worker: Start, variables: dict[str, str], tmp_path: Path
) -> None:
    """As a recording has it, in which no older worker lives any more."""
    settings = BrokerSettings(amqp_url=SecretStr(variables["JOBLEASE_AMQP_URL"]), defer_seconds=1)
    await jobs.broker.declare(lambda channel: topology.declare_pool(channel, cluster.namespace, settings))
    uids = await play(RECORDING.read_text(), cluster, jobs, tmp_path)
    for name in ("running", "alone", "handed"):
        (tmp_path / name).mkdir()
        finish(tmp_path, name)
    async with start_operator():
        await ended(jobs, uids["cancelled"], State.CANCELLED)
        await ended(jobs, uids["deleted"], State.CANCELLED)
        async with start_worker("new"):
            cluster.change("suspended", suspend=False)
            await check_histories(cluster, jobs, uids)
    await check_pages(cluster, jobs, uids, variables, tmp_path)


@pytest.mark.usefixtures("no_dead_letters")
async def test_jobs_of_the_older_release_go_on_while_its_workers_end(
    older_operator: Start, older_worker: Start, cluster: Cluster, start_operator: Start, start_worker: Start,
    variables: dict[str, str], stack: AsyncExitStack, tmp_path: Path,
) -> None:  # fmt: skip
    """What an older worker runs is left to it, whoever gets the job's message, until its lease has expired."""
    uids, older = await leave_behind(cluster, tmp_path, older_operator, older_worker, stack)
    cluster.delete("deleted")
    jobs = await stack.enter_async_context(open_jobs(*_where(variables)))
    if os.environ.get("JOBLEASE_RECORD"):
        await older.stop(9)
        RECORDING.write_text(await record(cluster, jobs, uids, tmp_path, messages=5))
        return
    async with start_operator():
        await ended(jobs, uids["cancelled"], State.CANCELLED)
        await ended(jobs, uids["deleted"], State.CANCELLED)
        finish(tmp_path, "handed")
        async with start_worker("new") as new:
            for name, limit in (("running", 1), ("alone", 0)):  # as when a connection is lost
                await publish_again(jobs, cluster, uids[name], name, limit)
            async with asyncio.timeout(30):
                while new.metric("joblease_job_deferrals_total", reason="lease") < 4:  # each of them more than once
                    await asyncio.sleep(0.1)
            for name in ("running", "alone"):
                head = await jobs.trail.head(uids[name])
                assert (head.state, head.epoch, head.worker) == (State.RUNNING, 1, "left-1")
            finish(tmp_path, "running")
            await ended(jobs, uids["running"], State.COMPLETED)
            assert (await cluster.reaches("running", "Completed"))["status"]["worker"] == "left-1"
            await older.stop(9)
            killed = time.monotonic()
            finish(tmp_path, "alone")
            cluster.change("suspended", suspend=False)
            await check_histories(cluster, jobs, uids, running="Submitted Queued Started Step 1 Completed")
    assert len(runs(tmp_path, "running")) == 1
    first, second = runs(tmp_path, "alone")
    assert first < killed < second
    await check_pages(cluster, jobs, uids, variables, tmp_path)
    async with older_operator(), older_worker("again"):  # no queue has to go on the way back: they are the older ones'
        cluster.create("noop", "back", queue=cluster.namespace)
        await cluster.reaches("back", "Completed")


@pytest.mark.usefixtures("no_dead_letters")
async def test_what_this_release_has_left_is_carried_on_by_the_older_one(
    older_operator: Start, older_worker: Start, cluster: Cluster, start_operator: Start, start_worker: Start,
    variables: dict[str, str], stack: AsyncExitStack, tmp_path: Path,
) -> None:  # fmt: skip
    """As docs/install.md says: all of this release's programs are gone, and so is the queue that it has made."""
    uids, worker = await leave_behind(cluster, tmp_path, start_operator, start_worker, stack)
    jobs = await stack.enter_async_context(open_jobs(*_where(variables)))
    await worker.stop(9)
    await delete_dead_letters(variables["JOBLEASE_AMQP_URL"])
    for name in ("running", "alone", "handed"):
        finish(tmp_path, name)
    async with older_operator():
        await ended(jobs, uids["cancelled"], State.CANCELLED)
        async with older_worker("older"):
            cluster.change("suspended", suspend=False)
            cluster.delete("deleted")
            await check_histories(cluster, jobs, uids)
    async with start_operator(), start_worker("again"):  # and forward again
        cluster.create("noop", "forward", queue=cluster.namespace)
        await cluster.reaches("forward", "Completed")
        uids["forward"] = cluster.get("forward")["metadata"]["uid"]
        await check_histories(cluster, jobs, uids, forward="Submitted Queued Started Completed")
    await check_pages(cluster, jobs, uids, variables, tmp_path)


async def delete_dead_letters(amqp_url: str) -> None:
    """As `rabbitmqctl delete_queue joblease.dead`."""
    async with await aio_pika.connect(amqp_url) as connection:
        await (await connection.channel()).queue_delete(DEAD)


async def publish_again(jobs: Jobs, cluster: Cluster, uid: str, name: str, limit: int) -> None:
    """The message of a job that is run, a second time."""
    head = await jobs.trail.head(uid)
    await jobs.publish(
        JobMessage(
            job_id=uid, namespace=cluster.namespace, name=name, handler="paced", queue=cluster.namespace,
            group=head.group, limit=limit, parameters=cluster.get(name)["spec"]["parameters"],
        )
    )  # fmt: skip


async def check_pages(
    cluster: Cluster, jobs: Jobs, uids: dict[str, str], variables: dict[str, str], folder: Path
) -> None:
    """A dashboard of this release, whose tables are made from the trail, shows each job with its history."""
    environment = {**os.environ, **variables}
    rebuilding = await asyncio.create_subprocess_exec(BIN / "joblease-dashboard", "rebuild", env=environment)
    assert await asyncio.wait_for(rebuilding.wait(), 60) == 0
    async with (
        program("joblease-dashboard", variables, folder / "dashboard.log") as dashboard,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{dashboard.port}", timeout=20) as http,
    ):
        path = f"/api/requests?namespace={cluster.namespace}"
        rows = await listed(http, path, "jobs", lambda rows: len(rows) == len(uids))
        heads = {uid: await jobs.trail.head(uid) for uid in uids.values()}
        assert {row["jobId"]: row["state"] for row in rows} == {uid: head.state for uid, head in heads.items()}
        for uid in uids.values():
            shown = (await http.get(f"/api/jobs/{uid}")).json()["events"]
            assert [event["status"] for event in shown] == [event.status for event in await jobs.trail.history(uid)]


def _where(variables: dict[str, str]) -> tuple[str, str]:
    return variables["JOBLEASE_AMQP_URL"], variables["JOBLEASE_STORAGE_CONNECTION_STRING"]
