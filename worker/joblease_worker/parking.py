"""The outcome of a job whose message is parked: without one it would hold its group for ever."""

import logging
import re
from typing import TYPE_CHECKING

from joblease.broker import PublishFailed
from joblease.errors import ErrorClass, classify, log_level
from joblease.messages import Status
from joblease.states import State
from joblease.topology import DEAD
from joblease.trail import AuditTrail, HeadChanged, NewEvent, UnknownJob

from joblease_worker.announcer import Announcer
from joblease_worker.claim import recent
from joblease_worker.conflict import Conflict, running
from joblease_worker.settlement import Deferred, Parked, Verdict

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aio_pika.abc import AbstractIncomingMessage
    from joblease.broker import Broker
    from joblease.head import Head

log = logging.getLogger(__name__)

_JOB_ID = re.compile(rb'"jobId"\s*:\s*"([A-Za-z0-9-]{1,64})"')
_WITH_WORKERS = (State.QUEUED, State.RUNNING, State.INTERRUPTED)


class Parking:
    """Decides about messages that nobody can process."""

    def __init__(self, trail: AuditTrail, is_over: "Callable[[Head], Awaitable[bool]]", broker: "Broker") -> None:
        self._trail = trail
        self._is_over = is_over
        self._broker = broker

    async def park(self, delivery: "AbstractIncomingMessage", parked: Parked, traceparent: str) -> Verdict:
        """Park a message once its job has its outcome; later, while somebody runs the job. Raises nothing."""
        job_id = _job_id_of(delivery.body)
        try:
            if job_id:
                await self._end(job_id, f"its message was parked in {DEAD}: {parked.message}", traceparent)
        except UnknownJob:
            return parked
        except (Conflict, HeadChanged):
            return Deferred("lease")
        except Exception as error:
            if classify(error) is ErrorClass.TRANSIENT:
                log.log(log_level(error), "deferred: %s", error)
                return Deferred("storage")
            log.exception("job %s cannot be given an outcome", job_id)
        return parked

    async def _end(self, job_id: str, reason: str, traceparent: str) -> None:
        """End a job `Failed` for a reason, and announce its outcome.

        Only a job that is the workers' is ended: for one that waits for its next attempt another message will come.
        Raises `Conflict` or `HeadChanged` when others have the job, `PublishFailed`, and what went wrong with storage.
        """
        head = await self._trail.head(job_id)
        if head.state in _WITH_WORKERS:
            if head.state is State.RUNNING and not await self._is_over(head):
                raise running(head)
            failed = NewEvent(Status.FAILED, reason, data={"reason": State.FAILED.value, "error": reason})
            head, _ = await self._trail.append(head, [failed], state=State.FAILED)
        if head.state.terminal:
            async with Announcer(self._broker, traceparent) as announcer:
                if not await announcer.finish(await recent(self._trail, head)):
                    raise PublishFailed(f"not every event of {job_id} was announced")


def _job_id_of(body: bytes) -> str | None:
    """The job's id in a message that cannot be read otherwise: the operator writes it before what a user has given."""
    found = _JOB_ID.search(body)
    return found[1].decode() if found else None
