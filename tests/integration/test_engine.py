"""The operator's engine in this process, where a write can be interrupted at a chosen point."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import ServiceResponseError
from joblease.messages import JobMessage, State
from joblease.topology import jobs_queue
from joblease_operator.engine import Engine
from joblease_operator.kube import JobRequests
from joblease_operator.settings import OperatorSettings
from support.cluster import Cluster
from support.jobs import Jobs, open_jobs


@pytest.fixture
async def jobs(amqp_url: str, storage: str) -> AsyncIterator[Jobs]:
    async with open_jobs(amqp_url, storage) as opened:
        yield opened


async def test_a_submission_whose_answer_was_lost_is_not_written_twice(
    jobs: Jobs, crd: Path, kube_namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(crd))
    settings = OperatorSettings(operator_namespaces=(kube_namespace,), operator_default_group=kube_namespace)
    requests = JobRequests(settings)
    await requests.connect()
    engine = Engine(settings, jobs.broker, jobs.trail, jobs.blobs, requests)
    append = jobs.trail.append
    lost: list[Any] = []

    async def answer_lost_once(*arguments: Any, **changes: Any) -> Any:
        answer = await append(*arguments, **changes)
        if not lost:
            lost.append(answer)
            raise ServiceResponseError("the connection was cut")
        return answer

    running = asyncio.create_task(engine.run())
    try:
        async with asyncio.timeout(20):
            while engine.problems:
                await asyncio.sleep(0.02)
        monkeypatch.setattr(jobs.trail, "append", answer_lost_once)
        cluster = Cluster(crd, kube_namespace)
        name = cluster.create(queue=kube_namespace)
        resource = cluster.get(name)
        engine.observe("ADDED", resource)
        channel: Any = jobs.broker._channel
        async with asyncio.timeout(20):
            while not lost or (await jobs.trail.head(resource["metadata"]["uid"])).state is not State.QUEUED:
                await asyncio.sleep(0.02)
            await cluster.reaches(name, "Queued")
            queue = await channel.get_queue(jobs_queue(kube_namespace))
            while (message := await queue.get(no_ack=True, fail=False)) is None:
                await asyncio.sleep(0.02)
        assert JobMessage.model_validate_json(message.body).name == name
        events = await jobs.trail.history(resource["metadata"]["uid"])
        assert [event.status for event in events] == ["Submitted", "Queued"]
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await requests.close()
