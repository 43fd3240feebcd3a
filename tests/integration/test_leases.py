"""Blob leases and their keeper, on a real storage emulator."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from uuid import uuid4

import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import AccountSasPermissions, ResourceTypes, generate_account_sas
from joblease.clock import boot_seconds
from joblease.leases import Grant, LeaseBlobs, LeaseHeld, LeaseLost, LeaseMissing, session_blob, slot_blob
from joblease.messages import now
from joblease.settings import StorageSettings
from joblease.storage import Storage
from joblease_worker.keeper import Keeper, Lease, LeaseState, Use
from joblease_worker.settings import WorkerSettings
from pydantic import SecretStr
from support.tcp_proxy import storage_through_proxies
from support.worker import clock_ahead


@pytest.fixture
async def blobs(storage: str) -> AsyncIterator[LeaseBlobs]:
    async with Storage(StorageSettings(storage_connection_string=SecretStr(storage))) as account:
        await account.create_locks()
        yield LeaseBlobs(account.locks())


@pytest.fixture
async def keeper(storage: str, blobs: LeaseBlobs) -> AsyncIterator[Keeper]:
    settings = WorkerSettings(storage_connection_string=SecretStr(storage), lease_seconds=15, storage_timeout_seconds=2)
    opened = Keeper(settings, blobs)
    await opened.start()
    yield opened
    await opened.close()


@pytest.fixture
def blob() -> str:
    return session_blob(str(uuid4()))


def unexpected(reason: str) -> None:
    raise AssertionError(reason)


async def take(keeper: Keeper, blob: str, on_lost: Callable[[str], None] = unexpected) -> Lease:
    """Take a lease, and begin to use it."""
    lease = await keeper.acquire(blob, {})
    keeper.begin(Use(on_lost), lease)
    return lease


async def test_one_holder_at_a_time(blobs: LeaseBlobs, blob: str) -> None:
    await blobs.create(blob, {})
    grant = await blobs.acquire(blob, 15)
    with pytest.raises(LeaseHeld):
        await blobs.acquire(blob, 15)
    await blobs.release(grant)
    assert await blobs.acquire(blob, 15) != grant


async def test_a_missing_blob_is_told_apart(blobs: LeaseBlobs, blob: str) -> None:
    with pytest.raises(LeaseMissing):
        await blobs.acquire(blob, 15)
    assert await blobs.holder(blob) is None
    assert await blobs.create(blob, {"a": "1"})
    assert not await blobs.create(blob, {"a": "2"})
    assert await blobs.holder(blob) is None


async def test_a_stranger_can_neither_renew_nor_describe_nor_release(blobs: LeaseBlobs, blob: str) -> None:
    await blobs.create(blob, {})
    held = await blobs.acquire(blob, 15)
    stranger = Grant(held.blob, str(uuid4()))
    with pytest.raises(LeaseLost):
        await blobs.renew(stranger)
    with pytest.raises(LeaseLost):
        await blobs.describe(stranger, {"worker": "stranger"})
    for delete in (False, True):
        with pytest.raises(LeaseLost):
            await blobs.release(stranger, delete=delete)


async def test_a_finished_jobs_blob_goes_with_its_lease(blobs: LeaseBlobs, blob: str) -> None:
    await blobs.create(blob, {})
    await blobs.release(await blobs.acquire(blob, 15), delete=True)
    with pytest.raises(LeaseMissing):
        await blobs.acquire(blob, 15)


async def test_what_storage_refuses_for_good_is_raised_in_its_words(blobs: LeaseBlobs, blob: str) -> None:
    await blobs.create(blob, {})
    with pytest.raises(HttpResponseError, match="InvalidHeaderValue") as error:
        await blobs.acquire(blob, 5)  # a lease has 15 seconds at least
    assert error.value.status_code == 400


async def test_a_shared_access_signature_serves_as_well(storage: str, blobs: LeaseBlobs, blob: str) -> None:
    await blobs.create(blob, {})
    account = dict(item.split("=", 1) for item in storage.rstrip(";").split(";"))
    signature = generate_account_sas(
        account["AccountName"], account["AccountKey"], ResourceTypes(object=True, container=True, service=True),
        AccountSasPermissions(read=True, write=True, delete=True), now() + timedelta(minutes=5),
    )  # fmt: skip
    places = ";".join(f"{name}={value}" for name, value in account.items() if name.endswith("Endpoint"))
    text = SecretStr(f"{places};SharedAccessSignature={signature}")
    async with Storage(StorageSettings(storage_connection_string=text)) as signed:
        theirs = LeaseBlobs(signed.locks())
        grant = await theirs.acquire(blob, 15)
        await theirs.renew(grant)
        await theirs.release(grant, delete=True)


async def test_the_keeper_says_who_holds_a_lease_that_lasts(keeper: Keeper, blobs: LeaseBlobs, blob: str) -> None:
    lease = await take(keeper, blob)
    lease.metadata = {"worker": "worker-1", "jobId": "1", "epoch": "2"}
    async with asyncio.timeout(5):
        while (holder := await blobs.holder(blob)) != lease.metadata:
            await asyncio.sleep(0.1)
    assert holder == {"worker": "worker-1", "jobId": "1", "epoch": "2"}
    await keeper.release(lease)
    assert await blobs.holder(blob) is None
    assert lease.state is LeaseState.RELEASED


async def test_a_kept_lease_outlives_its_length(keeper: Keeper, blobs: LeaseBlobs, blob: str) -> None:
    lease = await take(keeper, blob)
    first = lease.deadline
    async with asyncio.timeout(25):
        while lease.deadline < first + 10:  # renewed twice: past 15 s the lease would have expired by itself
            with pytest.raises(LeaseHeld):
                await blobs.acquire(blob, 15)
            await asyncio.sleep(0.5)
    assert lease.state is LeaseState.HELD
    await keeper.release(lease)


async def test_a_broken_lease_is_noticed_before_it_can_expire(keeper: Keeper, blobs: LeaseBlobs, blob: str) -> None:
    lost: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def on_lost(reason: str) -> None:
        loop.call_soon_threadsafe(lost.put_nowait, reason)

    lease = await take(keeper, blob, on_lost)
    taken = boot_seconds()
    await blobs.release(lease.grant)  # somebody breaks it
    await blobs.acquire(blob, 15)
    reason = await asyncio.wait_for(lost.get(), 10)
    assert blob in reason
    assert boot_seconds() - taken < 15
    assert lease.state is LeaseState.LOST
    await keeper.release(lease)  # does nothing, and does not raise
    with pytest.raises(LeaseHeld):
        await blobs.acquire(blob, 15)


async def test_a_slot_is_made_when_it_is_first_needed(keeper: Keeper) -> None:
    group = f"g{uuid4().hex[:8]}"
    lease = await take(keeper, slot_blob(group, 0))
    with pytest.raises(LeaseHeld):
        await take(keeper, slot_blob(group, 0))
    await keeper.release(lease)


async def test_closing_the_keeper_leaves_no_renewal_behind(storage: str, blobs: LeaseBlobs, blob: str) -> None:
    opened = Keeper(WorkerSettings(storage_connection_string=SecretStr(storage), lease_seconds=15), blobs)
    await opened.start()
    lease: Lease = await take(opened, blob)
    async with asyncio.timeout(10):
        while not lease.request:
            await asyncio.sleep(0.05)
    await opened.close()
    assert lease.request.done()


async def test_a_lease_that_is_given_back_at_once_is_never_renewed(keeper: Keeper, blob: str) -> None:
    lease = await take(keeper, blob)
    await keeper.release(lease)
    again = await take(keeper, blob)
    async with asyncio.timeout(10):
        while not again.request:
            await asyncio.sleep(0.05)
    assert lease.request is None
    assert lease.state is LeaseState.RELEASED
    await keeper.release(again)


async def test_a_lease_whose_answer_was_lost_is_asked_for_again(storage: str, blob: str) -> None:
    async with AsyncExitStack() as stack:
        connection, proxies = await storage_through_proxies(storage, stack)
        settings = WorkerSettings(storage_connection_string=SecretStr(connection), lease_seconds=15)
        account = await stack.enter_async_context(Storage(settings))
        await account.create_locks()
        blobs = LeaseBlobs(account.locks())
        await blobs.create(blob, {})
        keeper = Keeper(settings, blobs)
        await keeper.start()
        stack.push_async_callback(keeper.close)
        lost: list[str] = []

        def lose(kind: str, block: bytes) -> bool:
            if kind == "request" and b"x-ms-lease-action: acquire" in block and len(lost) < 4:
                lost.append("request")
            if kind == "answer" and lost[-1:] == ["request"]:
                lost.append("answer")
                return False
            return True

        proxies[0].observer = lose
        lease = await take(keeper, blob)
        assert lost == ["request", "answer"] * 2  # aiohttp itself repeats a request once
        with pytest.raises(LeaseHeld):
            await blobs.acquire(blob, 15)
        await blobs.renew(lease.grant)
        await keeper.release(lease)
        assert await blobs.holder(blob) is None


async def test_a_release_that_storage_did_not_take_is_tried_again(storage: str, blob: str) -> None:
    """Nobody else has the lease before it expires, which is a minute for all jobs of a group with one slot."""
    async with AsyncExitStack() as stack:
        connection, proxies = await storage_through_proxies(storage, stack)
        settings = WorkerSettings(storage_connection_string=SecretStr(connection))
        account = await stack.enter_async_context(Storage(settings))
        await account.create_locks()
        blobs = LeaseBlobs(account.locks())
        keeper = Keeper(settings, blobs)
        await keeper.start()
        stack.push_async_callback(keeper.close)
        lease = await take(keeper, blob)
        refused: list[bytes] = []

        def refuse(kind: str, block: bytes) -> bool:
            first = kind == "request" and b"x-ms-lease-action: release" in block and not refused
            busy = b"HTTP/1.1 503 Server Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            proxies[0].refusal = busy if first else None
            refused.extend([block] if first else [])
            return True

        proxies[0].observer = refuse
        await keeper.release(lease)
        assert refused
        assert await blobs.holder(blob) is None


async def test_a_container_that_somebody_has_deleted_is_made_anew(
    storage: str, keeper: Keeper, blobs: LeaseBlobs, blob: str
) -> None:
    """Or each job would fail that comes, until a program is started again."""
    async with Storage(StorageSettings(storage_connection_string=SecretStr(storage))) as account:
        await account.locks().delete_container()
    lease = await take(keeper, blob)
    assert await blobs.holder(blob) is not None
    await keeper.release(lease)


async def test_a_lease_that_may_have_ended_while_the_machine_slept_is_lost_at_once(keeper: Keeper, blob: str) -> None:
    lost: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def on_lost(reason: str) -> None:
        loop.call_soon_threadsafe(lost.put_nowait, reason)

    lease = await take(keeper, blob, on_lost)
    with clock_ahead(60):
        reason = await asyncio.wait_for(lost.get(), 3)
    assert reason == f"{blob}: no renewal got through before the lease's deadline"
    assert lease.state is LeaseState.LOST


class SlowToForget:
    """A guardian that takes its time to forget, so that a renewal comes in between."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.renewed = threading.Event()

    def expect(self, pid: int, _lease: str, _deadline: float) -> None:
        self.told.append(f"expect {pid}")
        self.renewed.set()

    def forget(self, pid: int, _lease: str) -> None:
        self.renewed.clear()
        self.renewed.wait(8)  # longer than a renewal is away
        self.told.append(f"forget {pid}")


async def test_a_renewal_tells_the_guardian_of_no_process_that_was_let_go(
    keeper: Keeper, blob: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    guardian = SlowToForget()
    with monkeypatch.context() as patch:
        patch.setattr(keeper, "_guardian", guardian)
        lease = await take(keeper, blob)
        first = lease.deadline
        (use,) = lease.uses
        keeper.guard(use, 123)
        await asyncio.to_thread(keeper.guard, use, None)
        async with asyncio.timeout(10):
            while lease.deadline == first:
                await asyncio.sleep(0.05)
        assert guardian.told == ["expect 123", "forget 123"]
        await keeper.release(lease)


async def test_a_keeper_without_its_task_or_its_guardian_says_so(storage: str, blobs: LeaseBlobs) -> None:
    keeper = Keeper(WorkerSettings(storage_connection_string=SecretStr(storage)), blobs)
    said = [keeper.problem]
    await keeper.start()
    said.append(keeper.problem)
    await asyncio.to_thread(keeper._guardian.close)
    said.append(keeper.problem)
    await keeper.close()
    assert said == ["the task that renews leases does not run", None, "the guardian does not run"]
