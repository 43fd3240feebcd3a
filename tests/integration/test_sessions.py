"""A worker's session: what it proves, who may close it, and what becomes of the jobs that were claimed under it."""

import asyncio
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from joblease.leases import session_grant, slot_blob
from joblease.messages import RetryPolicy
from joblease.states import State
from joblease.trail import NewEvent
from joblease_worker.conflict import Conflict
from joblease_worker.locks import take_leases
from joblease_worker.run import Run
from support.jobs import Jobs
from support.worker import Worker, open_worker


@pytest.fixture
def group() -> str:
    return f"g{uuid4().hex[:8]}"


async def started(jobs: Jobs, job_id: str, epoch: int) -> None:
    async with asyncio.timeout(30):
        while (await jobs.trail.head(job_id)).epoch < epoch:
            await asyncio.sleep(0.02)


async def die(worker: Worker) -> None:
    """As a worker does whose container is killed: its handlers go with it, nothing is released or renewed any more."""
    worker.keeper._loop.call_soon_threadsafe(worker.keeper._watching.cancel)  # type: ignore[union-attr]
    for run in list(worker.consumer._work.runs.values()):
        run.lease_lost("the container was killed")


async def test_a_claim_names_its_session_and_its_slot(
    jobs: Jobs, amqp_url: str, storage: str, tmp_path: Path, group: str
) -> None:
    async with open_worker(amqp_url, storage) as worker:
        job = await jobs.submit("hold", group=group, parameters={"seconds": 1, "record": str(tmp_path / "r")})
        head = await jobs.reaches(job.job_id, State.RUNNING)
        assert await jobs.is_held(job.job_id)
        assert head.slot
        assert head.slot.blob == slot_blob(group, 0)
        assert await jobs.blobs.holder(head.slot.blob) is not None
        assert head.session == (await worker.session.lease())[0]
        await jobs.outcome(job.job_id)


async def test_a_session_that_nobody_holds_is_closed_for_good(jobs: Jobs, amqp_url: str, storage: str) -> None:
    async with open_worker(amqp_url, storage, worker_identity="one") as first:
        name, lease = await first.session.lease()
        async with open_worker(amqp_url, storage, worker_queue="other") as second:
            job = await jobs.submit("noop", publish=False)
            head, _ = await jobs.trail.append(
                await jobs.trail.head(job.job_id), [], state=State.RUNNING, session=name, epoch=1
            )
            assert not await second.session.is_over(head)
            await jobs.break_lease(head.claim_blob)
            assert await second.session.is_over(head)
            assert await second.session.is_over(head)
            assert not await jobs.storage.locks().get_blob_client(head.claim_blob).exists()
            await _until(lambda: not lease.ours)  # storage refuses its renewal
            assert (await first.session.lease())[0] != name


async def test_a_restarted_container_takes_its_predecessors_jobs_over_at_once(
    jobs: Jobs, amqp_url: str, storage: str, tmp_path: Path, group: str
) -> None:
    record = tmp_path / "record"
    parameters = {"seconds": 3, "record": str(record)}
    async with open_worker(amqp_url, storage, worker_identity="pod-uid", lease_seconds=60) as first:
        job = await jobs.submit("hold", group=group, parameters=parameters, retry=RetryPolicy(max_attempts=2))
        await started(jobs, job.job_id, 1)
        await _lines(record, 1)
        await first.broker.stop_consuming()
        killed = time.monotonic()
        await die(first)
        async with open_worker(amqp_url, storage, worker_identity="pod-uid", worker_name="worker-2", lease_seconds=60):
            await jobs.publish(job.model_copy(update={"head": None}))
            await started(jobs, job.job_id, 2)
            assert time.monotonic() - killed < 15  # and not the minute of its lease
            state, events = await jobs.outcome(job.job_id)
    assert state is State.COMPLETED
    words = [event.status for event in events if not event.status.startswith("Step")]
    assert words == ["Submitted", "Queued", "Started", "Interrupted", "Started", "Completed"]


async def test_a_worker_without_an_identity_closes_nobodys_session(jobs: Jobs, amqp_url: str, storage: str) -> None:
    async with open_worker(amqp_url, storage) as first, open_worker(amqp_url, storage):
        _, lease = await first.session.lease()
        await jobs.blobs.renew(lease.grant)
        assert lease.ours


async def test_a_run_that_nobody_foresaw_the_end_of_is_handed_back(
    jobs: Jobs, amqp_url: str, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker lives on and keeps its session: others would wait for it."""
    async with open_worker(amqp_url, storage):
        execute, failures = Run.execute, [LookupError("nobody foresaw it")]

        async def fails_once(run: Run, *arguments: Any) -> Any:
            if failures:
                raise failures.pop()
            return await execute(run, *arguments)

        monkeypatch.setattr(Run, "execute", fails_once)
        job = await jobs.submit("noop")
        async with asyncio.timeout(20):
            while "Interrupted" not in (words := [e.status for e in await jobs.trail.history(job.job_id)]):
                await asyncio.sleep(0.05)
        assert words[:4] == ["Submitted", "Queued", "Started", "Interrupted"]
        assert (await jobs.outcome(job.job_id))[0] is State.COMPLETED


async def test_a_run_whose_session_was_lost_is_followed_by_another_soon(
    jobs: Jobs, amqp_url: str, storage: str, tmp_path: Path, group: str
) -> None:
    queue, parameters = f"q{group}", {"seconds": 60, "record": str(tmp_path / "record")}
    retry = RetryPolicy(max_attempts=2)
    async with open_worker(amqp_url, storage, worker_queue=queue, defer_seconds=60):
        job = await jobs.submit("hold", group=group, queue=queue, parameters=parameters, retry=retry)
        await started(jobs, job.job_id, 1)
        await _lines(tmp_path / "record", 1)
        await jobs.break_session(job.job_id)
        await started(jobs, job.job_id, 2)  # a renewal and a second, not the pause of a job that others hold up


async def _until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.05)


async def _lines(path: Path, count: int) -> None:
    await _until(lambda: path.exists() and len(path.read_text().splitlines()) >= count)


async def test_a_job_that_a_worker_of_an_older_release_runs_is_left_to_it(
    jobs: Jobs, amqp_url: str, storage: str
) -> None:
    """It has leased the job's blob, and named no session."""
    job = await jobs.submit("noop", publish=False, limit=0)
    grant = await jobs.hold(job.job_id)
    running: dict[str, Any] = {"state": State.RUNNING, "epoch": 1, "attempt": 1, "worker": "old"}
    await jobs.trail.append(await jobs.trail.head(job.job_id), [NewEvent("Started")], **running)
    async with open_worker(amqp_url, storage) as worker:
        deferred = asyncio.Event()
        make_safe = worker.consumer._settlement._make_safe

        async def tells(delivery: Any, verdict: Any) -> None:
            await make_safe(delivery, verdict)
            deferred.set()

        worker.consumer._settlement._make_safe = tells  # type: ignore[method-assign]
        await jobs.publish(job)
        await asyncio.wait_for(deferred.wait(), 20)
        assert (await jobs.trail.head(job.job_id)).epoch == 1
        await jobs.blobs.release(grant)
        state, events = await jobs.outcome(job.job_id)
    assert state is State.COMPLETED
    assert [event.status for event in events[-4:]] == ["Started", "Interrupted", "Started", "Completed"]


async def test_a_dead_runs_slot_beyond_a_lowered_limit_is_not_taken(
    jobs: Jobs, amqp_url: str, storage: str, group: str
) -> None:
    for slot in (0, 1):
        await jobs.blobs.create(slot_blob(group, slot), {})
    taken = await jobs.blobs.acquire(slot_blob(group, 0), 60)
    job = await jobs.submit("noop", publish=False, group=group, limit=1)
    dead = await jobs.blobs.acquire(slot_blob(group, 1), 60)
    running: dict[str, Any] = {"state": State.RUNNING, "epoch": 1, "attempt": 1, "worker": "dead", "session": "gone"}
    await jobs.trail.append(await jobs.trail.head(job.job_id), [NewEvent("Started")], **running, slot=dead)
    async with open_worker(amqp_url, storage) as worker:
        with pytest.raises(Conflict, match="limit 1"):
            await take_leases(worker.keeper, worker.session, worker.trail, job, lambda _: None)
        assert await jobs.blobs.holder(slot_blob(group, 1)) is None  # given back
        await jobs.blobs.release(taken)
        leases = await take_leases(worker.keeper, worker.session, worker.trail, job, lambda _: None)
        assert leases.slot
        assert leases.slot.blob == slot_blob(group, 0)
        await leases.release()


async def test_the_slot_of_an_ended_job_whose_worker_may_have_died_is_asked_for_soon(
    jobs: Jobs, amqp_url: str, storage: str, group: str
) -> None:
    """Its worker was killed between the outcome and the slot's release: the next job of the group waits for that."""
    session, slot = session_grant(str(uuid4())), slot_blob(group, 0)
    await jobs.blobs.create(session.blob, {})
    await jobs.blobs.acquire(session.blob, 60, session.lease_id)
    await jobs.blobs.create(slot, {})
    job = await jobs.submit("noop", publish=False, group=group)
    ended: dict[str, Any] = {"state": State.COMPLETED, "epoch": 1, "attempt": 1, "session": session.lease_id}
    held = await jobs.blobs.acquire(slot, 60)
    await jobs.trail.append(await jobs.trail.head(job.job_id), [NewEvent("Completed")], **ended, slot=held)
    async with open_worker(amqp_url, storage) as worker:
        with pytest.raises(Conflict) as conflict:
            await take_leases(worker.keeper, worker.session, worker.trail, job, lambda _: None)
        assert conflict.value.soon == 1
        await jobs.blobs.release(session, delete=True)
        leases = await take_leases(worker.keeper, worker.session, worker.trail, job, lambda _: None)
        assert leases.slot
        await leases.release()
        assert await jobs.blobs.holder(slot) is None
