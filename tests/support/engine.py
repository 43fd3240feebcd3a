"""The operator's engine in this process, on real parts, with a watch that a test can interrupt."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from joblease.topology import EVENTS, declare_private, defer_queue, jobs_queue
from joblease_operator.engine import Engine
from joblease_operator.job import Job
from joblease_operator.kube import JobRequests
from joblease_operator.settings import OperatorSettings

from support.cluster import Cluster
from support.jobs import Jobs

Change = Callable[[dict[str, Any]], dict[str, Any]]


async def until(condition: Callable[[], Any], timeout: float = 20) -> None:
    """Wait for something in this process."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.02)


class Operator:
    """An engine that is told what the API server has, by a watch that polls."""

    def __init__(self, engine: Engine, cluster: Cluster, requests: JobRequests) -> None:
        self.engine = engine
        self.cluster = cluster
        self.requests = requests
        self.watching = True
        self.seen_as: Change = dict
        """How resources look to this operator."""
        self._seen: dict[str, dict[str, Any]] = {}
        self.leading: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def jobs(self) -> Mapping[str, Job]:
        return self.engine._jobs

    def uid(self, name: str) -> str:
        uid: str = self.cluster.get(name)["metadata"]["uid"]
        return uid

    async def watch(self) -> None:
        while True:
            if self.watching:
                there = {body["metadata"]["uid"]: body for body in await asyncio.to_thread(self.cluster.all)}
                if self.watching:
                    self._tell(there)
            await asyncio.sleep(0.05)

    async def lead(self) -> None:
        """Take the lead, until the end."""
        self.leading = asyncio.create_task(self.engine.run())
        await until(lambda: not self.engine.problems or self.leading.done())

    def listing(self) -> None:
        """The watch begins anew: what has gone meanwhile is not told."""
        self._seen = {}
        self.watching = True

    def _tell(self, there: dict[str, dict[str, Any]]) -> None:
        before, self._seen = self._seen, there
        for uid, body in sorted(there.items(), key=lambda each: int(each[1]["metadata"]["resourceVersion"])):
            if uid not in before:
                self.engine.observe("ADDED", self.seen_as(body))
            elif body["metadata"]["resourceVersion"] != before[uid]["metadata"]["resourceVersion"]:
                self.engine.observe("MODIFIED", self.seen_as(body))
        for uid in before.keys() - there.keys():
            self.engine.observe("DELETED", self.seen_as(before[uid]))


@asynccontextmanager
async def operator(
    jobs: Jobs, cluster: Cluster, *, watching: bool = True, leads: bool = True, **fields: Any
) -> AsyncIterator[Operator]:
    """An operator of this namespace, which is also its group. `fields` of its settings, without `operator_`.

    One that does not lead stands by until its `lead` is called.
    """
    named = {f"operator_{name}": value for name, value in fields.items()}
    settings = OperatorSettings(
        operator_namespaces=(cluster.namespace,), operator_default_group=cluster.namespace, defer_seconds=1, **named
    )
    requests = JobRequests(settings)
    await requests.connect()
    engine = Engine(settings, jobs.broker, jobs.trail, jobs.blobs, requests, jobs.open_jobs, jobs.keys)
    channel = await (await jobs.broker._consumer.link()).connection.channel()
    await (await declare_private(channel, EVENTS)).consume(engine.on_event)
    made = Operator(engine, cluster, requests)
    made.watching = watching
    watch = asyncio.create_task(made.watch())
    try:
        if leads:
            await made.lead()
        yield made
        assert not made.leading.done(), made.leading
        assert not watch.done(), watch
    finally:
        for task in (watch, made.leading):
            task.cancel()
        await asyncio.gather(watch, made.leading, return_exceptions=True)
        await channel.close()
        await requests.close()


async def messages(jobs: Jobs, queue: str) -> int:
    """How many wait in a pool's queues."""
    found = 0
    for name in (jobs_queue(queue), defer_queue(queue, 1)):

        async def look(channel: Any, name: str = name) -> int:
            return int((await channel.declare_queue(name, passive=True)).declaration_result.message_count or 0)

        found += await jobs.broker.ask(look)
    return found
