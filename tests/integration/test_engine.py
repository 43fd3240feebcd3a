"""The operator's engine in this process, where a write can be interrupted at a chosen point."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import ServiceResponseError
from joblease.states import State
from joblease.trail import NewEvent
from joblease_operator.engine import Engine
from joblease_operator.kube import JobRequests
from joblease_operator.settings import OperatorSettings
from joblease_operator.status import TROUBLE
from support.cluster import Cluster
from support.engine import operator, until
from support.jobs import Jobs


async def test_a_submission_whose_answer_was_lost_is_not_written_twice(
    jobs: Jobs, crd: Path, kube_namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(crd))
    settings = OperatorSettings(operator_namespaces=(kube_namespace,), operator_default_group=kube_namespace)
    requests = JobRequests(settings)
    await requests.connect()
    engine = Engine(settings, jobs.broker, jobs.trail, jobs.blobs, requests, jobs.open_jobs, jobs.keys)
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
        name = cluster.create(queue=kube_namespace, suspend=True)
        resource = cluster.get(name)
        engine.observe("ADDED", resource)
        await cluster.reaches(name, "Suspended")
        assert lost
        events = await jobs.trail.history(resource["metadata"]["uid"])
        assert [event.status for event in events] == ["Submitted"]
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await requests.close()


async def test_a_status_over_which_a_dying_operator_wrote_is_mended(
    jobs: Jobs, crd: Path, kube_namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that led before, or thought so, told the outcome again, was not through with it, and died."""
    monkeypatch.setenv("KUBECONFIG", str(crd))
    cluster = Cluster(crd, kube_namespace)
    async with operator(jobs, cluster, resync_seconds=1) as running:
        name = cluster.create(queue=kube_namespace)
        await cluster.reaches(name, "Queued")
        uid = running.uid(name)
        head = await jobs.trail.head(uid)
        done = NewEvent("Completed", "all done", data={"result": {"rows": 3}})
        await jobs.trail.append(head, [done], state=State.COMPLETED)
        status = (await cluster.reaches(name, "Completed"))["status"]
        await until(lambda: running.jobs[uid].settled)
        message = f"all done; {TROUBLE}storage is away"
        conditions = [{**each, "message": message if each["message"] else ""} for each in status["conditions"]]
        broken = {**status, "message": message, "conditions": conditions}
        cluster.change_status(name, broken)
        async with asyncio.timeout(20):
            while "tries again" in str(found := await asyncio.to_thread(cluster.get, name)) or "rows" not in str(found):
                await asyncio.sleep(0.1)
        assert found["status"]["message"] == "all done"
        await until(lambda: running.jobs[uid].settled)
