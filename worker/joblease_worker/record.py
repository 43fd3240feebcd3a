"""A run's writing in the audit trail: fenced, and patient as long as the lease is its own."""

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from joblease.errors import ErrorClass, classify, log_level, pauses
from joblease.head import Head
from joblease.messages import JobEvent, now
from joblease.states import State
from joblease.trail import AuditTrail, HeadChanged, NewEvent

log = logging.getLogger(__name__)


class Fenced(Exception):
    """The job is not ours any more: another worker has claimed it, it has its outcome, or the lease was lost."""


class CancelRequested(Exception):
    """Nothing was written: somebody has asked in the head that the job be cancelled. Decide anew, and write again."""


class Record:
    """Of one run; `head` is the job's head row as it was left."""

    def __init__(self, trail: AuditTrail, head: Head, announced: Callable[[], int], lost: Callable[[], bool]) -> None:
        """`announced` says up to which event everybody has been told, `lost` whether the lease has been lost."""
        self._trail = trail
        self._announced = announced
        self._lost = lost
        self.head = head

    async def write(self, events: Sequence[NewEvent], *, checkpoint: str = "", **changes: Any) -> list[JobEvent]:
        """Write events in one transaction. Raises `Fenced`, `CancelRequested`, or what storage refuses for good.

        A `checkpoint` (compact JSON) goes along; an empty one leaves that of before.

        Storage trouble is waited out for as long as the lease is ours. After that, steps are tried once more, so that
        the trail can tell how far the run came, but no outcome is.
        """
        moment, mark = now(), secrets.token_hex(8)  # the same for each try: one that went through is recognised
        events = [replace(event, timestamp=event.timestamp or moment) for event in events]
        kept = {"checkpoint": checkpoint} if checkpoint else {}
        waits = pauses()
        while True:  # ends with an answer, or with the lease
            if changes and self._lost():
                raise Fenced("the lease was lost")
            try:
                announced = max(self.head.announced, self._announced())
                self.head, written = await self._trail.append(
                    self.head, events, write=mark, announced=announced, **kept, **changes
                )
            except HeadChanged as changed:
                if changed.written:
                    if not changes:  # there will be more to write
                        self._check_ours(changed.current)
                    self.head = changed.current
                    return changed.written
                self._look_at(changed.current)
            except Exception as error:
                if classify(error) is not ErrorClass.TRANSIENT:
                    raise
                if self._lost():
                    raise Fenced("the lease was lost, and the audit trail cannot be written") from None
                log.log(log_level(error), "the audit trail cannot be written, trying again: %s", error)
                await asyncio.sleep(next(waits))
            else:
                return written

    def _look_at(self, current: Head) -> None:
        """Somebody else has touched the head: an order to cancel, the note of a deferral, or the end of our right."""
        self._check_ours(current)
        self.head = current
        if current.cancel_requested:
            raise CancelRequested

    def _check_ours(self, current: Head) -> None:
        if current.epoch != self.head.epoch or current.state is not State.RUNNING:
            raise Fenced(f"the job is {current.state} at epoch {current.epoch} by now")
