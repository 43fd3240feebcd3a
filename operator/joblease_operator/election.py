"""One of several operators leads; the others stand by.

The leader renews a Lease of Kubernetes' (the record is the one that its own controllers write, so that `kubectl get
lease` and other tools understand it). Clocks are not compared: a standby takes the Lease when it has *seen* no renewal
for as long as the record says, on its own clock, and the leader stops before anybody can have seen that: its deadline
counts from before its last successful renewal was sent, and is shorter. Both clocks go on while the machine is
suspended.

Losing the lead ends the program, from a timer of the event loop: a process that wakes after having been stopped runs
nothing of what had become due meanwhile. A new start stands by with a clean state. What a leader had on its way may
still arrive; for that there are the trail's fence and the slots' leases (docs/guarantee.md).

The `kubernetes` package has an election, too. It compares wall clocks, bounds no request, and gives nothing away at the
end.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from joblease.clock import boot_seconds
from joblease.errors import log_level
from joblease.messages import now

from joblease_operator.lease import Changed, Found, Lease
from joblease_operator.metrics import LEADER

if TYPE_CHECKING:
    from joblease_operator.settings import OperatorSettings

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25
"""How often a standby reads the Lease: a lead that is given away is taken within that. And a failed renewal's pause."""

MOST_TRANSITIONS = 2**31 - 1
"""What the API server takes."""


class Election:
    """`win`, then `keep` as long as something is done as leader, then `release`."""

    def __init__(self, settings: "OperatorSettings", lease: Lease, on_lost: Callable[[str], NoReturn]) -> None:
        """`on_lost` is called with the reason, at once when the lead is lost, and ends the program."""
        self._settings = settings
        self._lease = lease
        self._on_lost = on_lost
        self._identity = settings.operator_identity
        self._mine = Found()
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.term = 0
        """Higher than that of every earlier leader."""
        self.problem: str | None = "the Lease has not been read yet"
        """What keeps this operator from taking the lead, should it be free."""

    @property
    def leads(self) -> bool:
        """Whether this operator leads."""
        return self._timer is not None

    async def win(self) -> None:
        """Wait until this operator leads."""
        record: Mapping[str, Any] | None = None
        changed, own = 0.0, self._settings.operator_lease_seconds
        while True:
            try:
                found = await self._lease.read()
                if found.spec != record:
                    record, changed = found.spec, boot_seconds()
                    log.info("the Lease is held by %s", found.holder or "nobody")
                if found.holder in ("", self._identity) or boot_seconds() - changed >= (found.seconds or own):
                    await self._take(found)
                    return
                self.problem = None
            except Changed:  # another one was quicker
                pass
            except Exception as error:  # noqa: BLE001 - whatever is away, it is waited for
                self._note(error)
            await asyncio.sleep(LOOK_SECONDS)

    async def _take(self, found: Found) -> None:
        began, moment = boot_seconds(), now().isoformat(timespec="microseconds")
        new = found.holder != self._identity
        self._mine = await self._lease.write(
            found,
            {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": self._settings.operator_lease_seconds,
                "acquireTime": moment,
                "renewTime": moment,
                "leaseTransitions": min(found.transitions + new, MOST_TRANSITIONS),
            },
        )
        self.term = self._mine.version
        self._renewed(began)
        LEADER.set(1)
        log.info("this operator (%s) leads", self._identity)

    async def keep(self) -> None:
        """Renew until cancelled; `on_lost` is called when that has not worked for too long, or somebody else leads."""
        pause = self._settings.operator_renew_seconds
        while True:
            await asyncio.sleep(pause)
            if boot_seconds() >= self._deadline:  # the machine was suspended, and with it the timer
                self._lose()
            began = boot_seconds()
            try:
                await self._renew()
                self._renewed(began)
                pause = self._settings.operator_renew_seconds
            except Exception as error:  # noqa: BLE001 - it is tried again until the deadline
                self._note(error)
                pause = LOOK_SECONDS

    async def _renew(self) -> None:
        record = {**self._mine.spec, "renewTime": now().isoformat(timespec="microseconds")}
        try:
            self._mine = await self._lease.write(self._mine, record)
        except Changed:  # an answer of ours was lost, somebody edits labels, or it has another holder
            found = await self._lease.read()
            if found.holder not in ("", self._identity):
                self._lose(f"{found.holder} has taken the Lease")
            self._mine = await self._lease.write(found, record)

    def _renewed(self, began: float) -> None:
        self._deadline = began + self._settings.operator_renew_deadline_seconds
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(self._deadline - boot_seconds(), self._lose)
        self.problem = None

    def _lose(self, why: str = "the Lease could not be renewed in time") -> NoReturn:
        LEADER.set(0)
        self._on_lost(why)

    async def release(self) -> None:
        """Give the lead away, if this operator has it: to be called when nothing is done as leader any more."""
        self._stop_timer()
        LEADER.set(0)
        try:
            async with asyncio.timeout(self._settings.operator_renew_seconds):
                found = await self._lease.read()
                if found.holder == self._identity:
                    await self._lease.write(found, {**found.spec, "holderIdentity": "", "leaseDurationSeconds": 1})
                    log.info("the lead is given away")
        except Exception as error:  # noqa: BLE001 - then the others wait until it expires
            self._note(error)

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _note(self, error: Exception) -> None:
        why = getattr(error, "reason", None) or str(error) or type(error).__name__
        problem = f"{self._lease} cannot be read or written: {why}"
        if problem != self.problem:
            log.log(log_level(error), "%s", problem)
        self.problem = problem
