"""Looks after jobs that were handed to a queue and that no worker has started: is their message there, who takes it.

The broker is asked, about such queues alone. A queue that holds fewer messages than there are jobs has lost one, or a
job was started and nobody told: then the silent ones are looked at. Those whose messages are dead letters end with that
reason, and of the others as many are published again as are missing. So there are never more messages than jobs,
however long nobody takes them.

A queue without consumers is not served. Its jobs keep their messages, which wake a pool that scales from zero; they
hold up nobody else meanwhile (`scheduler`), and their statuses say what they wait for.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from itertools import islice
from typing import TYPE_CHECKING

from aio_pika.exceptions import ChannelNotFoundEntity
from joblease.broker import Broker
from joblease.errors import log_level
from joblease.topology import defer_queues, jobs_queue

from joblease_operator import dead

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel

    from joblease_operator.active import Active
    from joblease_operator.admissions import Admissions
    from joblease_operator.job import Job
    from joblease_operator.record import Record
    from joblease_operator.settings import OperatorSettings

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
GRACE_SECONDS = 15.0
"""A queue counts as served for so long after its last consumer was seen: pools are restarted."""
IN_ONE_TURN = 100
"""Jobs whose statuses are looked at before the event loop gets its turn."""
LOOKED_AT = 100
"""Silent jobs of a queue that are looked at in one round, when messages are missing; otherwise one."""


class Pools:
    """Use `run` as a task."""

    def __init__(
        self,
        settings: "OperatorSettings",
        broker: Broker,
        jobs: "Mapping[str, Job]",
        active: "Active",
        admissions: "Admissions",
        record: "Record",
        publish: "Callable[[Job], Awaitable[None]]",
        fail: "Callable[[Job, str], Awaitable[None]]",
        reflect: "Callable[[Job], None]",
    ) -> None:
        """`publish` hands a job to the workers, `fail` ends it for a reason, `reflect` has its status written."""
        self._settings = settings
        self._broker = broker
        self._jobs = jobs
        self._active = active
        self._admissions = admissions
        self._record = record
        self._publish = publish
        self._fail = fail
        self._reflect = reflect
        self._unserved: dict[str, float] = {}
        """Queues without consumers, and since when; monotonic seconds."""
        self._passed_over: set[str] = set()

    async def run(self) -> None:
        """A round each few seconds, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self._round()
            except Exception as error:  # noqa: BLE001 - broker or storage is away: the next round comes
                log.log(log_level(error), "queues cannot be looked at now: %s", error)

    async def _round(self) -> None:
        now = time.monotonic()
        for queue in [*self._unserved]:
            if queue not in self._active.handed:
                del self._unserved[queue]  # the next job will show
        for queue, jobs in [*self._active.handed.items()]:
            if queue in self._unserved or next(iter(jobs.values())) < now - LOOK_SECONDS:
                messages, consumers = await self._ask(queue)
                if consumers:
                    self._unserved.pop(queue, None)
                else:
                    self._unserved.setdefault(queue, now)
                await self._look_at(queue, len(jobs) - messages)
        await self._pass_over({queue for queue, since in self._unserved.items() if now - since >= GRACE_SECONDS})

    async def _ask(self, queue: str) -> tuple[int, int]:
        """Messages that a queue and those in which its jobs wait hold ready, and consumers."""

        async def look(name: str) -> tuple[int, int]:
            async def passive(channel: "AbstractChannel") -> tuple[int, int]:
                found = (await channel.declare_queue(name, passive=True)).declaration_result
                return found.message_count or 0, found.consumer_count or 0

            try:
                return await self._broker.ask(passive)
            except ChannelNotFoundEntity:
                return 0, 0

        ready, consumers = await look(jobs_queue(queue))
        deferred = [(await look(each))[0] for each in defer_queues(queue, self._settings.defer_seconds)]
        return ready + sum(deferred), consumers

    async def _look_at(self, queue: str, missing: int) -> None:
        now = time.monotonic()
        jobs: Mapping[str, float] = self._active.handed.get(queue, {})
        silent = now - self._settings.operator_resync_seconds
        first = islice(jobs.items(), LOOKED_AT if missing > 0 else 1)
        letters: Mapping[str, str] | None = None
        for uid in [uid for uid, since in first if since < silent]:
            if uid not in jobs:
                continue  # there was news of it just now
            job = self._jobs[uid]
            self._active.miss(job)  # whatever comes of it, the others are next
            if missing > 0 and letters is None:
                letters = await dead.reasons(self._broker)
            if await self._record.look(job) or missing <= 0 or letters is None:
                continue
            if reason := dead.why_dead(job, letters):
                log.error("%s ends: %s", job.label, reason)
                await self._fail(job, reason)
                missing -= 1
            elif now - job.last_news >= self._settings.operator_republish_seconds:
                log.warning("%s has been %s without news for long; it is published again", job.label, job.state)
                await self._publish(job)
                missing -= 1

    async def _pass_over(self, queues: set[str]) -> None:
        changed, self._passed_over = queues ^ self._passed_over, queues
        for queue in sorted(changed):
            log.warning("queue %r is %s", queue, "served by no worker" if queue in queues else "served again")
        if changed:
            self._admissions.pass_over(queues)
        affected = [uid for queue in changed for uid in self._active.handed.get(queue, ())]
        for number, uid in enumerate(dict.fromkeys([*affected, *self._active.fresh()])):
            job = self._jobs.get(uid)
            queue = job.spec.queue if job and job.spec else ""
            if job and uid in self._active.handed.get(queue, ()):
                gave_back = queue in queues and self._admissions.give_back(job)
                if gave_back or queue in changed:
                    self._reflect(job)
            if number % IN_ONE_TURN == 0:
                await asyncio.sleep(0)
