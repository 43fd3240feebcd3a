"""Publishes what the operator has to say: jobs and orders to workers, events to everybody."""

import time
from typing import TYPE_CHECKING

from joblease import topology, tracing
from joblease.broker import Broker, PublishFailed
from joblease.head import hint_of
from joblease.messages import ControlMessage, JobEvent, JobMessage, RetryPolicy
from joblease.policy import JobPolicy
from joblease.states import State
from joblease.topology import CONTROL, EVENTS

from joblease_operator import metrics
from joblease_operator.job import Job

if TYPE_CHECKING:
    from joblease_operator.settings import OperatorSettings


class Publisher:
    """Publishes with confirms. Every method may be repeated, and raises `PublishFailed` when it should be."""

    def __init__(self, settings: "OperatorSettings", broker: Broker) -> None:
        self._settings = settings
        self._broker = broker
        self._pools: set[str] = set()
        self._pools_of = 0

    async def publish(self, job: Job, policy: JobPolicy, slot: int | None) -> None:
        """Hand an admitted job to the workers of its queue."""
        message = _message(job, policy, slot)
        await self._see_to_pool(message.queue)
        try:
            await self._broker.publish(
                topology.JOBS,
                message.queue,
                message.encode(),
                message_id=message.message_id(job.attempt + 1),
                headers={tracing.HEADER: _trace(job)},
            )
        except PublishFailed:  # somebody may have deleted the queue: the next try declares it anew
            self._pools.discard(message.queue)
            raise
        metrics.JOBS_PUBLISHED.inc()
        job.published, job.last_news = job.attempt + 1, time.monotonic()
        if job.head and job.head.checkpoint:  # see `Job.recall`
            job.head = None

    async def publish_events(self, job: Job) -> None:
        """Tell everybody what the operator has written to the trail."""
        while job.unannounced:
            await self.publish_event(job.unannounced[0], _trace(job))
            job.unannounced.pop(0)

    async def publish_event(self, event: JobEvent, trace: str) -> None:
        """Publish one event that is in the trail."""
        await self._broker.publish(
            EVENTS, event.routing_key, event.encode(), message_id=event.event_id, headers={tracing.HEADER: trace}
        )

    async def order_cancel(self, job_id: str) -> None:
        """Tell whichever worker runs the job to stop it."""
        order = ControlMessage(order="cancel", job_id=job_id)
        await self._broker.publish(CONTROL, "", order.encode(), message_id=f"{job_id}.cancel")

    async def _see_to_pool(self, pool: str) -> None:
        """A pool's queues must be there before its first worker is: once per connection, somebody may delete them."""
        if self._pools_of != self._broker.connections:
            self._pools, self._pools_of = set(), self._broker.connections
        if pool not in self._pools:
            await self._broker.declare(lambda channel: topology.declare_pool(channel, pool, self._settings))
            self._pools.add(pool)


def _message(job: Job, policy: JobPolicy, slot: int | None) -> JobMessage:
    spec = job.spec
    if spec is None:
        raise ValueError(f"{job.label} has ended; it is not published again")
    backoff = spec.retry.backoff
    return JobMessage(
        job_id=job.uid,
        namespace=job.namespace,
        name=job.name,
        handler=spec.handler,
        queue=spec.queue,
        parameters=spec.parameters,
        input_file_path=spec.input_file_path,
        description=spec.description,
        group=policy.group,
        limit=policy.limit,
        slot=slot,
        retry=RetryPolicy(
            max_attempts=policy.max_attempts,
            initial_seconds=backoff.initial_seconds,
            factor=backoff.factor,
            max_seconds=backoff.max_seconds,
        ),
        active_deadline_seconds=policy.active_deadline_seconds,
        provisional=policy.provisional,
        head=hint_of(job.head) if job.head and job.head.state is State.QUEUED else None,  # as whoever reads it takes it
    )


def _trace(job: Job) -> str:
    job.traceparent = job.traceparent or tracing.child_of(None)
    return tracing.child_of(job.traceparent)
