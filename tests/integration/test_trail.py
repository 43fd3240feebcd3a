"""The audit trail and its fence, on a real storage emulator."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from joblease import transactions
from joblease.head import Head
from joblease.messages import Status, now
from joblease.metrics import STORAGE_REQUESTS
from joblease.settings import StorageSettings
from joblease.states import State
from joblease.storage import TRAIL_TABLE, Storage
from joblease.trail import MAX_EVENTS, AuditTrail, HeadChanged, NewEvent, UnknownJob, fitting
from pydantic import SecretStr


@pytest.fixture
async def account(storage: str) -> AsyncIterator[Storage]:
    async with Storage(StorageSettings(storage_connection_string=SecretStr(storage))) as opened:
        await opened.create_tables(TRAIL_TABLE)
        yield opened


@pytest.fixture
def trail(account: Storage) -> AuditTrail:
    return AuditTrail(account.table(TRAIL_TABLE))


def new_head() -> Head:
    return Head(str(uuid4()), "team-a", "job", "noop", "default", "default", now())


def batches() -> float:
    return float(STORAGE_REQUESTS.labels("table", "batch")._value.get())


async def test_events_and_head_are_written_in_one_request(trail: AuditTrail) -> None:
    before = batches()
    head, events = await trail.append(
        new_head(),
        [NewEvent(Status.SUBMITTED, state=State.SUBMITTED, data={"parameters": {"é": 1}}), NewEvent(Status.QUEUED)],
        state=State.QUEUED,
    )
    assert batches() - before == 1
    assert [event.event_id for event in events] == [f"{head.job_id}.0000000001", f"{head.job_id}.0000000002"]
    assert [event.state for event in events] == [State.SUBMITTED, State.QUEUED]
    assert await trail.history(head.job_id) == events
    read = await trail.head(head.job_id)
    assert read == head
    assert read.etag == head.etag


async def test_a_writer_with_an_old_picture_is_refused(trail: AuditTrail) -> None:
    first, _ = await trail.append(new_head(), [NewEvent(Status.SUBMITTED)])
    second, _ = await trail.append(first, [NewEvent(Status.STARTED)], state=State.RUNNING, epoch=1)
    with pytest.raises(HeadChanged) as refused:
        await trail.append(first, [NewEvent(Status.CANCELLED)], state=State.CANCELLED)
    assert refused.value.current == second
    assert [event.status for event in await trail.history(first.job_id)] == ["Submitted", "Started"]


async def test_a_job_is_submitted_once(trail: AuditTrail) -> None:
    head = new_head()
    await trail.append(head, [NewEvent(Status.SUBMITTED)])
    with pytest.raises(HeadChanged):
        await trail.append(head, [NewEvent(Status.SUBMITTED)])
    assert len(await trail.history(head.job_id)) == 1


async def test_of_many_claims_one_wins(trail: AuditTrail) -> None:
    head, _ = await trail.append(new_head(), [NewEvent(Status.QUEUED)], state=State.QUEUED)
    answers = await asyncio.gather(
        *(
            trail.append(head, [NewEvent(Status.STARTED, worker=f"w{n}")], state=State.RUNNING, epoch=1)
            for n in range(10)
        ),
        return_exceptions=True,
    )
    assert sum(not isinstance(answer, BaseException) for answer in answers) == 1
    assert sum(isinstance(answer, HeadChanged) for answer in answers) == 9


async def test_a_lost_answer_is_recognised_as_our_own_write(
    trail: AuditTrail, account: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request goes through, its answer does not, and the repetition is refused: that is a success."""
    head, _ = await trail.append(new_head(), [NewEvent(Status.SUBMITTED)])

    async def twice(*arguments: Any) -> Any:
        await transactions.submit(*arguments)
        return await transactions.submit(*arguments)

    monkeypatch.setattr("joblease.trail.submit", twice)
    after, _ = await trail.append(head, [NewEvent(Status.QUEUED)], state=State.QUEUED)
    monkeypatch.undo()
    assert after.etag == (await trail.head(head.job_id)).etag
    assert [event.status for event in await trail.history(head.job_id)] == ["Submitted", "Queued"]


async def test_a_lost_answer_is_recognised_even_after_somebody_elses_write(trail: AuditTrail) -> None:
    head, _ = await trail.append(new_head(), [NewEvent(Status.SUBMITTED)])
    step = NewEvent(Status.step(1), timestamp=now())
    after, written = await trail.append(head, [step], write="one")  # its writer never hears of it
    again, told = await trail.append(head, [step], write="one")
    assert (again, told) == (after, written)
    await trail.append(after, [], cancel_requested=True)
    with pytest.raises(HeadChanged) as changed:
        await trail.append(head, [step], write="one")
    assert changed.value.written == written
    with pytest.raises(HeadChanged) as refused:  # another's step in this place is not ours
        await trail.append(head, [NewEvent(Status.step(1), timestamp=now())])
    assert refused.value.written == []
    assert len(await trail.history(head.job_id)) == 2


async def test_the_head_can_change_without_an_event(trail: AuditTrail) -> None:
    head, _ = await trail.append(new_head(), [NewEvent(Status.SUBMITTED)])
    await trail.append(head, [], cancel_requested=True)
    assert (await trail.head(head.job_id)).cancel_requested
    assert len(await trail.history(head.job_id)) == 1


async def test_large_parameters_fit(trail: AuditTrail) -> None:
    parameters = {"text": "ü😀" * 10_000}
    head, written = await trail.append(new_head(), [NewEvent(Status.SUBMITTED, data={"parameters": parameters})])
    assert (await trail.history(head.job_id))[0] == written[0]


async def test_a_full_transaction_fits_and_a_larger_one_is_refused(trail: AuditTrail) -> None:
    head, events = await trail.append(new_head(), [NewEvent(Status.step(n)) for n in range(MAX_EVENTS)])
    assert len(events) == 99
    with pytest.raises(ValueError, match="99 events at most"):
        await trail.append(head, [NewEvent(Status.step(n)) for n in range(MAX_EVENTS + 1)])


async def test_a_job_that_nobody_submitted_is_unknown(trail: AuditTrail) -> None:
    with pytest.raises(UnknownJob):
        await trail.head("nobody")
    with pytest.raises(UnknownJob):
        await trail.history("nobody")


async def test_everything_gives_each_job_once_with_its_events_in_order(trail: AuditTrail) -> None:
    mine = set()
    for _ in range(3):
        head, _ = await trail.append(new_head(), [NewEvent(Status.SUBMITTED), NewEvent(Status.QUEUED)])
        mine.add(head.job_id)
    seen = [(head.job_id, [event.sequence for event in events]) async for head, events in trail.everything()]
    assert [sequences for job_id, sequences in seen if job_id in mine] == [[1, 2]] * 3
    assert len({job_id for job_id, _ in seen}) == len(seen)


@pytest.mark.parametrize(
    "text", ["😀" * 16_370, "a" * 20_000 + "😀" * 8_000, "\u20ac" * 21_840, "a\u2028b\u2029c\u0085d\r\n"]
)
async def test_parameters_of_any_letters_fit(trail: AuditTrail, text: str) -> None:
    head, events = await trail.append(new_head(), [NewEvent(Status.SUBMITTED, data={"parameters": {"t": text}})])
    assert await trail.history(head.job_id) == events


async def test_as_many_events_as_fit_are_taken_by_storage(trail: AuditTrail) -> None:
    head, _ = await trail.append(new_head(), [NewEvent(Status.SUBMITTED)])
    steps = [NewEvent(Status.step(n), "😀" * 4_000, data={"x": '"' * 8_000, "y": "é" * 8_000}) for n in range(1, 200)]
    written = 0
    while written < len(steps):
        count = fitting(steps[written:])
        head, _ = await trail.append(head, steps[written : written + count])
        written += count
    assert len(await trail.history(head.job_id, after=100)) == 100
    assert fitting(steps) < MAX_EVENTS
