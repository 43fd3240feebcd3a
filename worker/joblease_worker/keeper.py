"""Keeps leases alive, and says at once when one is lost.

Leases are renewed on a thread with an event loop of its own, which no handler and no slow broker can delay. They are
acquired and released on the worker's loop: passing each request to the thread and back would cost a short job more than
the request itself. The thread adopts a lease that has lasted for a second. A lease is
`Held`; `Unknown` after a renewal that got no clear answer; `Lost` as soon as storage says so or the deadline passes;
`Released` when it was given back. The deadline counts from the moment at which the last successful request was *sent*,
less a safety margin: before storage can give the lease to anybody else, `on_lost` has killed the handler. `on_lost`
runs on the keeper's thread, so it must not wait for anything. Should this whole process be stopped, the guardian kills
the handler a little later, still within the margin.

asyncio's timers stand still while the machine sleeps, the leases' deadlines do not (`clock`): so the thread looks at
every lease each second, and after a sleep it kills first whatever has lost its lease.
"""

import asyncio
import contextlib
import logging
import math
import threading
from collections.abc import Callable, Coroutine, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from joblease.clock import boot_seconds
from joblease.errors import ErrorClass, classify
from joblease.leases import Grant, LeaseBlobs, LeaseHeld, LeaseLost, LeaseMissing, LeaseUnknown
from joblease.storage import Storage

from joblease_worker.guardian import Guardian
from joblease_worker.metrics import LEASE_ACQUIRE_SECONDS, LEASE_RENEWALS, LEASE_SECONDS_REMAINING, LEASES_LOST

if TYPE_CHECKING:
    from joblease_worker.settings import WorkerSettings

T = TypeVar("T")
log = logging.getLogger(__name__)

WATCH_SECONDS = 1.0
"""How often the thread looks at its leases at least; far below the shortest time after which one is to be renewed."""
DESCRIBE_AFTER_SECONDS = 1.0
"""Jobs that end sooner do not pay a request for being looked up."""
RETRY_SECONDS = (1.0, 2.0, 3.0, 4.0, 5.0)
"""Pauses after failed renewals; the last one repeats."""
PAUSES = (0.2, 1.0)
"""Before each further try to take a lease, or to give it back: nobody else could have it until it expires."""


class LeaseState(StrEnum):
    """See the module's docstring."""

    HELD = "Held"
    UNKNOWN = "Unknown"
    LOST = "Lost"
    RELEASED = "Released"


class Use:
    """One run under leases, any of which it must not outlive."""

    def __init__(self, on_lost: Callable[[str], None]) -> None:
        """`on_lost` is called with the reason, on the keeper's thread, when one of them is lost."""
        self.on_lost = on_lost
        self.pid: int | None = None
        """The handler process that must not outlive them either."""
        self.leases: list[Lease] = []


class Lease:
    """A lease in the keeper's care. All times are those of `boot_seconds`."""

    def __init__(self, grant: Grant, deadline: float, renew_at: float) -> None:
        self.grant = grant
        self.deadline = deadline
        self.renew_at = renew_at
        self.describe_at = boot_seconds() + DESCRIBE_AFTER_SECONDS
        self.failures = 0
        """Renewals in a row that got no answer."""
        self.uses: set[Use] = set()
        self.state = LeaseState.HELD
        self.metadata: Mapping[str, str] | None = None
        """Set it to have it written into the blob, where everybody can read who holds the lease."""
        self.request: asyncio.Task[None] | None = None
        """The last one that the keeper's thread made for it."""

    @property
    def ours(self) -> bool:
        """Whether it was neither lost nor given back."""
        return self.state in (LeaseState.HELD, LeaseState.UNKNOWN)

    @property
    def due(self) -> float:
        """When the thread has something to do for it: one thing at a time."""
        if self.request and not self.request.done():
            return math.inf
        return min(self.renew_at, self.describe_at if self.metadata else math.inf)


class Keeper:
    """Takes, renews and gives back leases. `start` it before use, `close` it at the end.

    `blobs` are for the event loop of whoever calls `acquire` and `release`; the thread has its own connections.
    """

    def __init__(self, settings: "WorkerSettings", blobs: LeaseBlobs) -> None:
        self._settings = settings
        self._blobs = blobs
        self._watching: asyncio.Task[None] | None = None
        self._lock = threading.Lock()
        """Held wherever a lease's state, deadline or process changes, so that the guardian hears of no old one."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="keeper", daemon=True)
        self._leases: dict[Lease, None] = {}
        """In the order in which they were taken."""
        self._guardian = Guardian()
        LEASE_SECONDS_REMAINING.set_function(self._least_remaining)

    @property
    def problem(self) -> str | None:
        """Why leases are not kept, or handlers not watched, or None."""
        if self._watching is None or self._watching.done():
            return "the task that renews leases does not run"
        return None if self._guardian.alive else "the guardian does not run"

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

    async def acquire(self, blob: str, metadata: Mapping[str, str], lease_id: str = "") -> Lease:
        """Take a lease and keep it. Raises `LeaseHeld` or `LeaseUnknown`.

        `metadata` is what a blob says that had to be made first.
        """
        started, result = boot_seconds(), "unknown"
        lease_id = lease_id or str(uuid4())  # the same for each try: one whose answer was lost may have got the lease
        try:
            for pause in (*PAUSES, None):
                try:
                    grant, sent = await self._ask(blob, lease_id, metadata)
                    break
                except Exception as error:
                    if pause is None or classify(error) is not ErrorClass.TRANSIENT:
                        raise
                    await asyncio.sleep(pause)
            result = "acquired"
        except LeaseHeld:
            result = "held"
            raise
        finally:
            LEASE_ACQUIRE_SECONDS.labels(result).observe(boot_seconds() - started)
        lease = Lease(grant, self._deadline(sent), sent + self._settings.renew_seconds)
        self._leases[lease] = None
        return lease

    async def _ask(self, blob: str, lease_id: str, metadata: Mapping[str, str]) -> tuple[Grant, float]:
        """One try to take a lease; it, and when it was asked for."""
        seconds = self._settings.lease_seconds
        try:
            async with asyncio.timeout(self._settings.storage_timeout_seconds):
                sent = boot_seconds()
                with contextlib.suppress(LeaseMissing):
                    return await self._blobs.acquire(blob, seconds, lease_id), sent
                await self._blobs.create(blob, metadata)
                sent = boot_seconds()
                return await self._blobs.acquire(blob, seconds, lease_id), sent
        except LeaseMissing:
            raise LeaseUnknown(f"{blob}: somebody has deleted it meanwhile") from None
        except TimeoutError:
            raise LeaseUnknown(f"{blob}: no answer within {self._settings.storage_timeout_seconds} s") from None

    async def release(self, lease: Lease, *, delete: bool = False) -> None:
        """Give the lease back, or delete its blob. Never raises; does nothing for a lost one."""
        if not self._drop(lease, LeaseState.RELEASED):
            return
        if lease.request and not lease.request.done():  # a renewal under way would find the lease gone
            await self._on_thread(_end(lease.request))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.storage_timeout_seconds):
                for pause in (*PAUSES, 0):
                    with contextlib.suppress(LeaseUnknown):
                        with contextlib.suppress(LeaseLost):  # or an earlier try went through, whose answer was lost
                            await self._blobs.release(lease.grant, delete=delete)
                        return
                    await asyncio.sleep(pause)
        log.warning("%s could not be released; its lease expires by itself", lease.grant.blob)

    def begin(self, use: Use, lease: Lease) -> None:
        """Have `use` hear of the lease's loss. Raises `LeaseLost` when it is lost already."""
        with self._lock:
            if not lease.ours:
                raise LeaseLost(f"{lease.grant.blob}: it is {lease.state}")
            lease.uses.add(use)
            use.leases.append(lease)

    def guard(self, use: Use, pid: int | None) -> None:
        """Tie the life of a process group to the leases of `use`, or untie it (None)."""
        with self._lock:
            for lease in use.leases:
                if use.pid is not None:
                    self._guardian.forget(use.pid, lease.grant.blob)
            use.pid = pid
            for lease in use.leases:
                self._tell_guardian(lease, use)

    def end(self, use: Use) -> None:
        """`use` is over, whatever becomes of its leases."""
        with self._lock:
            for lease in use.leases:
                lease.uses.discard(use)

    def _tell_guardian(self, lease: Lease, use: Use) -> None:
        if use.pid is not None:
            latest = lease.deadline + self._settings.lease_safety_seconds / 2
            self._guardian.expect(use.pid, lease.grant.blob, latest)

    async def _on_thread(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something short on the thread, where nothing blocks: opening, closing, the end of a cancelled request."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def _open(self) -> None:
        storage = Storage(self._settings)
        try:
            await storage.create_locks()
        except BaseException:
            await storage.close()
            raise
        self._storage, self._own_blobs = storage, LeaseBlobs(storage.locks())
        self._watching = asyncio.create_task(self._watch(), name="watch leases")

    async def _shut(self) -> None:
        if self._watching:
            await _end(self._watching)
            await self._storage.close()

    async def _watch(self) -> None:
        """Look at all leases, for ever. What is requested for one holds up no other."""
        async with asyncio.TaskGroup() as requests:
            while True:
                leases = list(self._leases)
                next_look = min((min(lease.due, lease.deadline) for lease in leases), default=math.inf)
                await asyncio.sleep(min(WATCH_SECONDS, max(0.0, next_look - boot_seconds())))
                for lease in list(self._leases):
                    self._look_at(lease, requests)

    def _look_at(self, lease: Lease, requests: asyncio.TaskGroup) -> None:
        if lease.deadline <= boot_seconds():
            self._lose(lease, f"{lease.grant.blob}: no renewal got through before the lease's deadline")
        elif lease.due <= boot_seconds():
            with self._lock:
                if lease.ours:
                    lease.request = requests.create_task(self._attend(lease), name=f"keep {lease.grant.blob}")

    async def _attend(self, lease: Lease) -> None:
        """Make the one request that is due. Ends after the storage timeout, or when the lease is dropped."""
        try:
            if lease.renew_at <= boot_seconds():
                await self._renew(lease)
            elif lease.metadata:
                lease.describe_at = math.inf
                with contextlib.suppress(LeaseUnknown):  # only for people to read: not worth another try
                    await self._bounded(self._own_blobs.describe(lease.grant, lease.metadata))
        except LeaseLost as error:
            self._lose(lease, str(error))
        except Exception as error:
            log.exception("the keeper of %s failed", lease.grant.blob)
            self._lose(lease, f"{lease.grant.blob}: {error}")

    async def _renew(self, lease: Lease) -> None:
        sent, result = boot_seconds(), "lost"
        try:
            await self._bounded(self._own_blobs.renew(lease.grant))
            result = "renewed"
        except LeaseUnknown as error:
            result = "unknown"
            log.warning("renewal failed, %.0f s left: %s", lease.deadline - boot_seconds(), error)
        finally:
            LEASE_RENEWALS.labels(result).inc()
        with self._lock:
            if lease.ours and result == "renewed":
                lease.state, lease.failures, lease.deadline = LeaseState.HELD, 0, self._deadline(sent)
                lease.renew_at = boot_seconds() + self._settings.renew_seconds
                for use in lease.uses:
                    self._tell_guardian(lease, use)
            elif lease.ours:
                lease.state = LeaseState.UNKNOWN
                lease.renew_at = boot_seconds() + RETRY_SECONDS[min(lease.failures, len(RETRY_SECONDS) - 1)]
                lease.failures += 1

    async def _bounded(self, request: Coroutine[Any, Any, None]) -> None:
        try:
            async with asyncio.timeout(self._settings.storage_timeout_seconds):
                await request
        except TimeoutError:
            raise LeaseUnknown("no answer from storage") from None

    def _lose(self, lease: Lease, reason: str) -> None:
        if not self._drop(lease, LeaseState.LOST):
            return
        LEASES_LOST.inc()
        if lease.request:
            lease.request.cancel()
        with self._lock:
            uses = list(lease.uses)  # nobody begins to use it any more
        for use in uses:
            try:
                use.on_lost(reason)
            except Exception:
                log.exception("the loss of %s was not understood", lease.grant.blob)

    def _drop(self, lease: Lease, state: LeaseState) -> bool:
        """Care for it no longer. False when that was so before."""
        with self._lock:
            if not lease.ours:
                return False
            lease.state = state
            self._leases.pop(lease, None)
            return True

    def _deadline(self, request_sent: float) -> float:
        return request_sent + self._settings.lease_seconds - self._settings.lease_safety_seconds

    def _least_remaining(self) -> float:
        now = boot_seconds()
        return min((lease.deadline - now for lease in list(self._leases)), default=self._settings.lease_seconds)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
