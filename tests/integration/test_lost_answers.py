"""A worker whose write went through and whose answer was lost, while another worker took the job over."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from azure.core.exceptions import ServiceResponseError
from joblease.head import Head
from joblease.leases import session_blob
from joblease.messages import JobEvent, JobMessage, Status, now
from joblease.states import State
from joblease.storage import TRAIL_TABLE
from joblease.trail import AuditTrail, NewEvent
from joblease_worker.claim import claim
from joblease_worker.conflict import Conflict
from joblease_worker.keeper import Keeper, Use
from joblease_worker.locks import RunLeases
from joblease_worker.record import Fenced, Record
from joblease_worker.settings import WorkerSettings
from pydantic import SecretStr
from support.jobs import Jobs


class LosesAnswers(AuditTrail):
    """Writes; then another worker claims the job; then the same is tried again, since there was no answer."""

    async def append(
        self, before: Head, events: Sequence[NewEvent], *, write: str = "", **changes: Any
    ) -> tuple[Head, list[JobEvent]]:
        write, events = write or "mark", [replace(event, timestamp=event.timestamp or now()) for event in events]
        head, _ = await super().append(before, events, write=write, **changes)
        taken: dict[str, Any] = {"state": State.RUNNING, "epoch": head.epoch + 1, "worker": "worker-2"}
        await super().append(head, [NewEvent(Status.INTERRUPTED), NewEvent(Status.STARTED)], **taken)
        return await super().append(before, events, write=write, **changes)


@pytest.fixture
def trail(jobs: Jobs) -> AuditTrail:
    return LosesAnswers(jobs.storage.table(TRAIL_TABLE))


async def running(jobs: Jobs) -> tuple[JobMessage, Head]:
    """A job that worker-1 runs."""
    message = await jobs.submit("noop", publish=False)
    head = await jobs.trail.head(message.job_id)
    running: dict[str, Any] = {"state": State.RUNNING, "epoch": 1, "attempt": 1, "worker": "worker-1"}
    return message, (await jobs.trail.append(head, [NewEvent(Status.STARTED)], **running))[0]


async def test_a_run_that_was_taken_over_writes_no_more(jobs: Jobs, trail: AuditTrail) -> None:
    message, head = await running(jobs)
    record = Record(trail, head, announced=lambda: 0, lost=lambda: False)
    with pytest.raises(Fenced, match="at epoch 2"):
        await record.write([NewEvent(Status.step(1))])
    assert record.head.epoch == 1
    told = [(event.status, event.epoch) for event in await jobs.trail.history(message.job_id)]
    assert told[-4:] == [("Started", 1), ("Step 1", 1), ("Interrupted", 2), ("Started", 2)]


@pytest.fixture
async def leases(storage: str, jobs: Jobs) -> AsyncIterator[RunLeases]:
    keeper = Keeper(WorkerSettings(storage_connection_string=SecretStr(storage)), jobs.blobs)
    await keeper.start()
    use = Use(lambda _: None)
    keeper.begin(use, await keeper.acquire(session_blob("mine"), {}))
    yield RunLeases(keeper, use, "mine", None)
    await keeper.release(use.leases[0], delete=True)
    await keeper.close()


async def held(_: Head) -> bool:
    return False


async def test_a_claim_that_was_taken_over_is_none(jobs: Jobs, trail: AuditTrail, leases: RunLeases) -> None:
    message = await jobs.submit("noop", publish=False)
    with pytest.raises(Fenced, match="at epoch 2"):
        await claim(trail, message, "worker-1", leases, held)


class Silent(AuditTrail):
    """Gives no answer to its first three writes; the first of them takes effect."""

    asked = 0

    async def append(
        self, before: Head, events: Sequence[NewEvent], *, write: str = "", **changes: Any
    ) -> tuple[Head, list[JobEvent]]:
        self.asked += 1
        if self.asked == 1:
            await super().append(before, events, write=write, **changes)
        if self.asked <= 3:
            raise ServiceResponseError("the connection was lost")
        return await super().append(before, events, write=write, **changes)


async def test_a_claim_is_asked_for_until_storage_answers(jobs: Jobs, leases: RunLeases) -> None:
    """One that went through unheard would bind the job to this worker, which did not run it."""
    silent = Silent(jobs.storage.table(TRAIL_TABLE))
    message = await jobs.submit("noop", publish=False)
    claimed = await claim(silent, message, "worker-1", leases, held)
    assert (silent.asked, claimed.head.epoch, claimed.head.session) == (4, 1, "mine")
    assert [event.status for event in claimed.events] == ["Started"]
    assert [event.status for event in await jobs.trail.history(message.job_id)].count("Started") == 1


async def test_a_claim_is_given_up_with_the_session(jobs: Jobs, leases: RunLeases) -> None:
    silent = Silent(jobs.storage.table(TRAIL_TABLE))
    message = await jobs.submit("noop", publish=False)
    leases._use.leases[0].deadline = 0
    with pytest.raises(Fenced, match="session was lost"):
        await claim(silent, message, "worker-1", leases, held)
    assert silent.asked == 0


async def test_a_job_is_not_taken_from_a_session_that_is_held(jobs: Jobs, leases: RunLeases) -> None:
    message, _ = await running(jobs)
    with pytest.raises(Conflict, match="worker-1 runs the job"):
        await claim(jobs.trail, message, "worker-2", leases, held)
    assert (await jobs.trail.head(message.job_id)).epoch == 1
