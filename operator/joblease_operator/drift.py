"""Notices resources that were deleted while the watch was down: nobody tells of them any more.

After a break that was too long for the API server, a watch begins with a new listing, and what is not in that has gone.
The listing is kopf's, which tells of what there is. So the resources are counted, which costs one small request; when
there are fewer than are known, all are listed; and of each that is missing, the API server is asked by name before
anything follows from that.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from joblease.errors import log_level

if TYPE_CHECKING:
    from joblease_operator.job import Job
    from joblease_operator.kube import JobRequests
    from joblease_operator.settings import OperatorSettings

log = logging.getLogger(__name__)

SETTLE_SECONDS = 2.0
"""Deletions that are on their way have arrived by then."""


class Drift:
    """Use `run` as a task."""

    def __init__(
        self,
        settings: "OperatorSettings",
        requests: "JobRequests",
        jobs: "Mapping[str, Job]",
        on_gone: "Callable[[Job], None]",
    ) -> None:
        """`on_gone` is called with each job whose resource does not exist any more."""
        self._interval = settings.operator_resync_seconds
        self._requests = requests
        self._jobs = jobs
        self._on_gone = on_gone
        self._suspected = asyncio.Event()

    def suspect(self) -> None:
        """The watch was interrupted: look soon."""
        self._suspected.set()

    async def run(self) -> None:
        """Look each `JOBLEASE_OPERATOR_RESYNC_SECONDS`, and soon after `suspect`, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._suspected.wait()
            await asyncio.sleep(SETTLE_SECONDS)
            self._suspected.clear()
            try:
                if await self._fewer():
                    await asyncio.sleep(SETTLE_SECONDS)
                    if await self._fewer():
                        await self._compare()
            except Exception as error:  # noqa: BLE001 - the API server is away: the next round comes
                log.log(log_level(error), "JobRequests cannot be counted now: %s", error)

    async def _fewer(self) -> bool:
        there = await self._requests.count()
        return there < sum(not job.gone for job in self._jobs.values())

    async def _compare(self) -> None:
        known = {uid: job for uid, job in self._jobs.items() if not job.gone}
        async for body in self._requests.everything():
            known.pop(body["metadata"]["uid"], None)
        for job in known.values():
            if not job.gone and not await self._requests.exists(job.namespace, job.name, job.uid):
                log.warning("%s was deleted while nobody looked", job.label)
                self._on_gone(job)
