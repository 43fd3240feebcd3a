"""Keeps leases alive, and says at once when one is lost.

Leases are renewed on a thread and an event loop of their own, where nothing that a handler or a slow broker does can
delay it. They are taken and given back on the worker's loop, because two threads that hand over every request cost a
short job more than the request does: the keeper's thread adopts only leases that have lived for a while. A lease is
`Held`; `Unknown` after a renewal that got no clear answer; `Lost` as soon as storage says so or the deadline passes;
`Released` when it was given back. The deadline counts from the moment at which the last successful request was *sent*,
on the monotonic clock, less a safety margin: before storage can give the lease to anybody else, `on_lost` has killed
the handler. `on_lost` runs on the keeper's thread, so it must not wait for anything. Should this whole process be
stopped, the guardian kills the handler a little later, still within the margin.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from joblease.leases import Grant, LeaseBlobs, LeaseHeld, LeaseLost, LeaseMissing, LeaseUnknown
from joblease.storage import Storage

from joblease_worker.guardian import Guardian
from joblease_worker.metrics import LEASE_ACQUIRE_SECONDS, LEASE_RENEWALS, LEASE_SECONDS_REMAINING, LEASES_LOST

if TYPE_CHECKING:
    from joblease_worker.settings import WorkerSettings

T = TypeVar("T")
log = logging.getLogger(__name__)

ADOPT_SECONDS = 1.0
"""How often the thread looks for new leases; far below the shortest time after which one is to be renewed."""
DESCRIBE_AFTER_SECONDS = 1.0
"""Jobs that end sooner do not pay a request for being looked up."""
RETRY_SECONDS = (1.0, 2.0, 3.0, 4.0, 5.0)
"""Pauses after failed renewals; the last one repeats."""


class LeaseState(StrEnum):
    """See the module's docstring."""

    HELD = "Held"
    UNKNOWN = "Unknown"
    LOST = "Lost"
    RELEASED = "Released"


class Lease:
    """A lease in the keeper's care."""

    def __init__(self, grant: Grant, deadline: float, on_lost: Callable[[str], None]) -> None:
        self.grant = grant
        self.deadline = deadline
        self.pid: int | None = None
        """The handler process that must not outlive the lease."""
        self.state = LeaseState.HELD
        self.metadata: Mapping[str, str] | None = None
        """Set it to have it written into the blob, where everybody can read who holds the lease."""
        self.on_lost = on_lost
        self.task: asyncio.Task[None] | None = None
        """Renews it, once the keeper's thread has adopted it."""


class Keeper:
    """Takes, renews and gives back leases. `start` it before use, `close` it at the end.

    `blobs` are for the event loop of whoever calls `acquire` and `release`; the thread has its own connections.
    """

    def __init__(self, settings: "WorkerSettings", blobs: LeaseBlobs) -> None:
        self._settings = settings
        self._blobs = blobs
        self._adopting: asyncio.Task[None] | None = None
        self._lock = threading.Lock()
        """Held where a lease is adopted, and where it is decided that one never will be."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="keeper", daemon=True)
        self._leases: set[Lease] = set()
        self._guardian = Guardian()
        LEASE_SECONDS_REMAINING.set_function(self._least_remaining)

    async def start(self) -> None:
        """Start the thread and see to the container's existence."""
        if not self._thread.is_alive():
            self._guardian.start()
            self._thread.start()
        await self._on_thread(self._open())

    async def close(self) -> None:
        """Let go of the connections and end the thread. Leases still held are left to expire."""
        await self._on_thread(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join)
        self._loop.close()
        await asyncio.to_thread(self._guardian.close)

    async def acquire(self, blob: str, on_lost: Callable[[str], None], *, create: bool = False) -> Lease:
        """Take a lease and keep it. Raises `LeaseHeld`, `LeaseMissing` (unless `create`) or `LeaseUnknown`."""
        started, result = time.monotonic(), "unknown"
        try:
            async with asyncio.timeout(self._settings.storage_timeout_seconds):
                try:
                    grant = await self._blobs.acquire(blob, self._settings.lease_seconds)
                except LeaseMissing:
                    if not create:
                        raise
                    await self._blobs.create(blob, {})
                    started = time.monotonic()
                    grant = await self._blobs.acquire(blob, self._settings.lease_seconds)
            result = "acquired"
        except LeaseHeld:
            result = "held"
            raise
        except TimeoutError:
            raise LeaseUnknown(f"{blob}: no answer within {self._settings.storage_timeout_seconds} s") from None
        finally:
            LEASE_ACQUIRE_SECONDS.labels(result).observe(time.monotonic() - started)
        lease = Lease(grant, self._deadline(started), on_lost)
        self._leases.add(lease)
        return lease

    async def release(self, lease: Lease, *, delete: bool = False) -> None:
        """Stop renewing and give the lease back, or delete its blob. Never raises; does nothing for a lost one."""
        with self._lock:
            if lease.state in (LeaseState.LOST, LeaseState.RELEASED):
                return
            if lease.task is None:
                self._drop(lease, LeaseState.RELEASED)
        if lease.task and not await self._on_thread(self._forget(lease)):
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.storage_timeout_seconds):
                if await self._blobs.release(lease.grant, delete=delete):
                    return
        log.warning("%s could not be released; its lease expires by itself", lease.grant.blob)

    def guard(self, lease: Lease, pid: int | None) -> None:
        """Tie the life of a process group to the lease, or untie it (None)."""
        if lease.pid is not None:
            self._guardian.forget(lease.pid, lease.grant.blob)
        lease.pid = pid
        self._tell_guardian(lease)

    def _tell_guardian(self, lease: Lease) -> None:
        if lease.pid is not None:
            latest = lease.deadline + self._settings.lease_safety_seconds / 2
            self._guardian.expect(lease.pid, lease.grant.blob, latest)

    async def _on_thread(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def _open(self) -> None:
        storage = Storage(self._settings)
        try:
            await storage.create_locks()
        except BaseException:
            await storage.close()
            raise
        self._storage, self._own_blobs = storage, LeaseBlobs(storage.locks())
        self._adopting = asyncio.create_task(self._adopt(), name="adopt leases")

    async def _adopt(self) -> None:
        while True:
            await asyncio.sleep(ADOPT_SECONDS)
            for lease in list(self._leases):
                with self._lock:
                    if lease.task is None and lease.state is LeaseState.HELD:
                        lease.task = asyncio.create_task(self._keep(lease), name=f"keep {lease.grant.blob}")

    async def _shut(self) -> None:
        if self._adopting:
            self._adopting.cancel()
        for lease in list(self._leases):
            await self._forget(lease)
        await self._storage.close()

    def _deadline(self, request_sent: float) -> float:
        return request_sent + self._settings.lease_seconds - self._settings.lease_safety_seconds

    async def _keep(self, lease: Lease) -> None:
        try:
            await self._renew_until_lost(lease)
        except LeaseLost as error:
            reason = str(error)
        except TimeoutError:
            reason = f"{lease.grant.blob}: no renewal got through before the lease's deadline"
        except Exception as error:
            log.exception("the keeper of %s failed", lease.grant.blob)
            reason = f"{lease.grant.blob}: {error}"
        self._drop(lease, LeaseState.LOST)
        LEASES_LOST.inc()
        lease.on_lost(reason)

    async def _renew_until_lost(self, lease: Lease) -> None:
        grant = self._own_blobs.here(lease.grant)
        next_renewal = lease.deadline - self._deadline(0) + self._settings.renew_seconds
        await self._pause(lease, DESCRIBE_AFTER_SECONDS)
        with contextlib.suppress(LeaseUnknown):  # only for people to read; the next renewal tells what it means
            if lease.metadata:
                await self._bounded(lease, self._own_blobs.describe(grant, lease.metadata))
        await self._pause(lease, next_renewal - time.monotonic())
        failures = 0
        while True:
            sent = time.monotonic()
            try:
                await self._bounded(lease, self._own_blobs.renew(grant))
            except LeaseUnknown as error:
                lease.state = LeaseState.UNKNOWN
                LEASE_RENEWALS.labels("unknown").inc()
                log.warning("renewal failed, %.0f s left: %s", lease.deadline - time.monotonic(), error)
                await self._pause(lease, RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
                failures += 1
            except LeaseLost:
                LEASE_RENEWALS.labels("lost").inc()
                raise
            else:
                lease.state, lease.deadline, failures = LeaseState.HELD, self._deadline(sent), 0
                self._tell_guardian(lease)
                LEASE_RENEWALS.labels("renewed").inc()
                await self._pause(lease, self._settings.renew_seconds)

    async def _pause(self, lease: Lease, seconds: float) -> None:
        """Sleep, but not past the deadline: then `TimeoutError`."""
        async with asyncio.timeout_at(lease.deadline):
            await asyncio.sleep(seconds)

    async def _bounded(self, lease: Lease, request: Coroutine[Any, Any, None]) -> None:
        """One request: `LeaseUnknown` when it takes too long, `TimeoutError` when the deadline passes over it."""
        async with asyncio.timeout_at(lease.deadline):
            try:
                async with asyncio.timeout(self._settings.storage_timeout_seconds):
                    await request
            except TimeoutError:
                raise LeaseUnknown(f"{lease.grant.blob}: no answer from storage") from None

    async def _forget(self, lease: Lease) -> bool:
        """End a renewal that may be under way before the lease is given back: it would find the lease gone.

        False when the lease was lost in this very moment.
        """
        if lease.state is LeaseState.LOST:
            return False
        self._drop(lease, LeaseState.RELEASED)
        if lease.task:
            lease.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await lease.task
        return True

    def _drop(self, lease: Lease, state: LeaseState) -> None:
        lease.state = state
        self._leases.discard(lease)

    def _least_remaining(self) -> float:
        now = time.monotonic()
        return min((lease.deadline - now for lease in list(self._leases)), default=self._settings.lease_seconds)
