"""What becomes of a delivery: each message is settled, and each job gets its outcome, whatever the message is like."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aio_pika
import pytest
from joblease import topology
from joblease.leases import slot_blob
from joblease.messages import JobEvent, JobMessage, Status
from joblease.states import State
from joblease.topology import DEAD, DEFERRALS_HEADER, EVENTS, LOOKS_HEADER, REASON_HEADER, defer_queue, jobs_queue
from joblease.trail import NewEvent
from joblease_worker.settlement import ERRORS_HEADER, UNKNOWN_HANDLER_HEADER, without_hint
from support.jobs import Jobs
from support.worker import Worker, open_worker


@pytest.fixture
async def worker(jobs: Jobs, amqp_url: str, storage: str) -> AsyncIterator[Worker]:
    async with open_worker(amqp_url, storage) as opened:
        yield opened


@pytest.fixture
async def channel(jobs: Jobs, amqp_url: str) -> AsyncIterator[Any]:
    async with await aio_pika.connect(amqp_url) as connection:
        opened = await connection.channel()
        for name in (DEAD, jobs_queue("default")):
            await (await opened.get_queue(name)).purge()
        yield opened


async def first_of(channel: Any, queue: str) -> Any:
    """The first message of a queue, once there is one."""
    async with asyncio.timeout(30):
        while (message := await (await channel.get_queue(queue)).get(no_ack=True, fail=False)) is None:
            await asyncio.sleep(0.05)
    return message


async def publish(jobs: Jobs, body: bytes, **headers: Any) -> None:
    await jobs.broker.publish(topology.JOBS, "default", body, message_id="raw", headers=headers)


def nested(message: JobMessage, depth: int) -> bytes:
    deep = b"[" * depth + b"]" * depth
    return message.encode().replace(b'"parameters":{}', b'"parameters":{"deep":' + deep + b"}")


@pytest.mark.parametrize("kind", ["malformed", "nested 300 deep", "nested 100,000 deep"])
async def test_a_job_whose_message_cannot_be_read_fails_with_the_reason(
    jobs: Jobs, channel: Any, worker: Worker, kind: str
) -> None:
    job = await jobs.submit("noop", publish=False, slot=None)
    bodies = {
        "malformed": job.encode().replace(b'"limit":1', b'"limit":"many"'),
        "nested 300 deep": nested(job, 300),
        "nested 100,000 deep": nested(job, 100_000),
    }
    await publish(jobs, bodies[kind])
    state, history = await jobs.outcome(job.job_id)
    assert state is State.FAILED
    assert "its message was parked in joblease.dead: not a job message: " in history[-1].message
    assert (history[-1].data or {})["reason"] == "Failed"
    letter = await first_of(channel, DEAD)
    assert letter.body == bodies[kind]
    assert "not a job message" in str(letter.headers[REASON_HEADER])
    assert kind != "malformed" or "limit: Input should be a valid integer" in history[-1].message
    assert (await jobs.outcome((await jobs.submit("noop")).job_id))[0] is State.COMPLETED


async def test_the_outcome_of_a_parked_job_is_announced(jobs: Jobs, channel: Any, worker: Worker) -> None:
    tap = await channel.declare_queue(exclusive=True)
    await tap.bind(EVENTS, "*.Failed")
    job = await jobs.submit("noop", publish=False)
    await publish(jobs, job.encode().replace(b'"limit":1', b'"limit":"many"'))
    event = JobEvent.model_validate_json((await first_of(channel, tap.name)).body)
    assert (event.job_id, event.state) == (job.job_id, State.FAILED)


async def test_a_job_that_somebody_runs_is_not_ended_by_an_unreadable_copy(
    jobs: Jobs, channel: Any, worker: Worker
) -> None:
    job = await jobs.submit("noop", publish=False)
    grant = await jobs.hold(job.job_id)
    await jobs.trail.append(await jobs.trail.head(job.job_id), [NewEvent("Started")], state=State.RUNNING, epoch=1)
    await publish(jobs, job.encode().replace(b'"limit":1', b'"limit":"many"'))
    async with asyncio.timeout(30):
        while not (await channel.get_queue(defer_queue("default", 1))).declaration_result.message_count:
            await asyncio.sleep(0.02)
    assert (await jobs.trail.head(job.job_id)).state is State.RUNNING
    await jobs.blobs.release(grant)
    assert (await jobs.outcome(job.job_id))[0] is State.FAILED
    assert (await first_of(channel, DEAD)).body


async def test_a_job_without_a_trail_is_parked(jobs: Jobs, channel: Any, worker: Worker) -> None:
    message = JobMessage(
        job_id="nobody-knows-it", namespace="default", name="n", handler="noop", queue="default", group="g", limit=0
    )
    await publish(jobs, message.encode())
    letter = await first_of(channel, DEAD)
    assert letter.headers[REASON_HEADER] == "job nobody-knows-it has no audit trail"


async def test_errors_that_nobody_foresaw_end_the_job_after_a_few_tries(
    jobs: Jobs, channel: Any, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    async def breaks(*_: Any) -> Any:
        nonlocal tries
        tries += 1
        raise RecursionError("too deep")

    monkeypatch.setattr(worker.consumer._work, "do", breaks)
    job = await jobs.submit("noop")
    state, history = await jobs.outcome(job.job_id)
    assert (state, tries) == (State.FAILED, 6)
    assert "6 deliveries ended in an error" in history[-1].message
    assert (await first_of(channel, DEAD)).headers[ERRORS_HEADER] == 5


@pytest.mark.parametrize(("errors", "state"), [(0, State.COMPLETED), (5, State.FAILED)])
async def test_a_message_never_reaches_the_brokers_limit_of_deliveries(
    jobs: Jobs, channel: Any, amqp_url: str, storage: str, errors: int, state: State
) -> None:
    """Where the broker parks it without saying what happened."""
    job = await jobs.submit("noop", publish=False)
    await jobs.publish(job, **({ERRORS_HEADER: errors} if errors else {}))
    queue = await channel.get_queue(jobs_queue("default"))
    for _ in range(topology.DELIVERY_LIMIT // 2):
        async with asyncio.timeout(10):
            while (message := await queue.get(fail=False)) is None:
                await asyncio.sleep(0.02)
        await message.nack(requeue=True)
    async with open_worker(amqp_url, storage):
        assert (await jobs.outcome(job.job_id))[0] is state


async def test_a_handler_that_is_not_here_is_left_to_others(
    jobs: Jobs, channel: Any, worker: Worker, amqp_url: str, storage: str
) -> None:
    del worker.pool.handlers["noop"]  # an older release
    job = await jobs.submit("noop")
    async with asyncio.timeout(20):
        while len(events := await jobs.trail.history(job.job_id)) < 3:
            await asyncio.sleep(0.05)
    assert events[-1].status == Status.DEFERRED
    assert events[-1].message.startswith("worker-1 has no handler 'noop' (it has ")
    async with open_worker(amqp_url, storage, worker_name="worker-2"):
        state, events = await jobs.outcome(job.job_id, timeout=60)
    assert (state, events[-1].worker, events[-1].attempt) == (State.COMPLETED, "worker-2", 1)


async def test_a_handler_that_nobody_has_fails_with_those_that_are_known(
    jobs: Jobs, channel: Any, worker: Worker
) -> None:
    job = await jobs.submit("nobody", publish=False)
    await jobs.publish(job, **{UNKNOWN_HANDLER_HEADER: 59})  # of 60 rounds of a second
    state, events = await jobs.outcome(job.job_id)
    assert state is State.FAILED
    assert [event.status for event in events] == ["Submitted", "Queued", "Deferred", "Started", "Failed"]
    assert "no handler 'nobody'; known here: " in events[-1].message
    assert "demo, echo, " in events[-1].message


@pytest.mark.parametrize("how", ["deferred", "handed back"])
async def test_a_message_is_passed_on_with_all_that_a_newer_operator_has_written(
    jobs: Jobs, channel: Any, amqp_url: str, storage: str, how: str
) -> None:
    news = {"newField": {"a": [1, 2.5, None, "\N{GRINNING FACE}"]}}
    async with open_worker(amqp_url, storage, defer_seconds=2) as worker:
        group = f"passed-on-{how.split(maxsplit=1)[0]}"
        job = await jobs.submit("hold", publish=False, group=group)
        body = json.loads(job.encode()) | news
        if how == "deferred":
            await jobs.blobs.create(slot_blob(group, 0), {})
            await jobs.blobs.acquire(slot_blob(group, 0), 60)
        await publish(jobs, json.dumps(body).encode(), **{DEFERRALS_HEADER: 3})
        if how == "deferred":
            async with asyncio.timeout(20):
                while not (await channel.get_queue(defer_queue("default", 2))).declaration_result.message_count:
                    await asyncio.sleep(0.02)
        else:
            await jobs.reaches(job.job_id, State.RUNNING)
        await worker.stop()
        copy = await first_of(channel, jobs_queue("default"))
    del body["head"]  # whoever takes it next reads the row
    assert json.loads(copy.body) == body
    assert copy.headers.get(DEFERRALS_HEADER) == (4 if how == "deferred" else None)


@pytest.mark.parametrize(
    ("counted", "seconds", "then"), [("", 1, "2/1"), ("2/24", 1, "2/25"), ("2/25", 2, "2/26"), ("1/99", 1, "2/1")]
)
async def test_a_job_that_runs_is_asked_for_each_second_as_long_as_its_claim_may_end(
    jobs: Jobs, channel: Any, amqp_url: str, storage: str, counted: str, seconds: int, then: str
) -> None:
    """For a lease's length from its first deferral under that claim, however often it was deferred before."""
    async with open_worker(amqp_url, storage, worker_queue="other") as other:
        session, _ = await other.session.lease()
        job = await jobs.submit("noop", publish=False, limit=0, slot=None)
        running: dict[str, Any] = {"state": State.RUNNING, "epoch": 2, "attempt": 1, "session": session}
        await jobs.trail.append(await jobs.trail.head(job.job_id), [NewEvent(Status.STARTED)], **running)
        async with open_worker(amqp_url, storage, defer_seconds=2):
            copies: asyncio.Queue[Any] = asyncio.Queue()
            waiting = await channel.get_queue(defer_queue("default", seconds))
            await waiting.consume(copies.put, no_ack=True)
            await jobs.publish(job, **{DEFERRALS_HEADER: 500, **({LOOKS_HEADER: counted} if counted else {})})
            copy = await asyncio.wait_for(copies.get(), 30)
    assert copy.headers[LOOKS_HEADER] == then
    assert copy.headers[DEFERRALS_HEADER] == 501


def test_a_body_that_is_no_job_is_passed_on_untouched() -> None:
    for body in (b"not json {", b"[1]", b"{}", b"[" * 100_000, b'{"head":1', b"\xff"):
        assert without_hint(body) == body


async def test_a_queue_that_somebody_has_deleted_is_made_again_before_a_copy_is_given_up(
    jobs: Jobs, channel: Any, worker: Worker
) -> None:
    await jobs.blobs.create(slot_blob("deleted", 0), {})
    grant = await jobs.blobs.acquire(slot_blob("deleted", 0), 60)
    await channel.queue_delete(defer_queue("default", 1))
    job = await jobs.submit("noop", group="deleted")
    async with asyncio.timeout(20):
        while "Deferred" not in [event.status for event in await jobs.trail.history(job.job_id)]:
            await asyncio.sleep(0.05)
    await asyncio.sleep(2)  # it was deferred, or else delivered until the broker had enough
    await jobs.blobs.release(grant)
    assert (await jobs.outcome(job.job_id))[0] is State.COMPLETED


async def heard_of(channel: Any, tap: str, job_id: str, last: int) -> list[JobEvent]:
    """The events of a job, up to the one with the number `last`."""
    heard: list[JobEvent] = []
    while not heard or heard[-1].sequence < last:
        event = JobEvent.model_validate_json((await first_of(channel, tap)).body)
        if event.job_id == job_id:
            heard.append(event)
    return heard


@pytest.mark.parametrize(
    ("state", "announced"), [(State.RUNNING, 390), (State.RUNNING, 0), (State.INTERRUPTED, 398), (State.COMPLETED, 390)]
)
async def test_a_long_history_is_not_announced_again(
    jobs: Jobs, channel: Any, worker: Worker, state: State, announced: int
) -> None:
    """Of a job whose worker died, or handed it back, and of one whose message comes again after its end."""
    job = await jobs.submit("noop", publish=False)
    head = await jobs.trail.head(job.job_id)
    for part in range(4):
        steps = [NewEvent(Status.step(99 * part + n), state=State.RUNNING) for n in range(1, 100)]
        head, events = await jobs.trail.append(head, steps, state=State.RUNNING, attempt=1, epoch=1, worker="worker-0")
    head, events = await jobs.trail.append(head, [NewEvent(Status.step(397))], state=state, announced=announced)
    tap = await channel.declare_queue(exclusive=True)
    await tap.bind(EVENTS, "#")
    await jobs.publish(job)
    if not state.terminal:
        _, events = await jobs.outcome(job.job_id)
    heard = [event.sequence for event in await heard_of(channel, tap.name, job.job_id, events[-1].sequence)]
    assert heard == list(range(heard[0], events[-1].sequence + 1))
    if state.terminal:  # with what came before, it would seem to run again
        assert len(heard) == 1
    elif announced:
        assert heard[0] == announced + 1
    else:  # written by a worker of an older release
        assert 90 < len(heard) < 110
