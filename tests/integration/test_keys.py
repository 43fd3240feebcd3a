"""Idempotency keys on real storage, and what the operator makes of them on a real API server."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from joblease.content import content_of
from joblease.jobrequest import JobRequestSpec
from joblease.keys import KeyEntry
from joblease.messages import now
from joblease.states import State
from joblease.trail import NewEvent
from support.cluster import Cluster
from support.engine import operator, until
from support.jobs import Jobs


def spec(**fields: Any) -> JobRequestSpec:
    return JobRequestSpec.model_validate({"handler": "demo", "key": f"order-{uuid4()}", **fields})


async def test_whoever_is_first_decides_what_a_key_stands_for(jobs: Jobs) -> None:
    wanted = spec(parameters={"a": 1})
    entries = await asyncio.gather(*(jobs.keys.claim("default", wanted, f"job-{n}") for n in range(20)))
    assert len({entry.name for entry in entries}) == 1
    assert {entry.job_id for entry in entries} == {""}
    claimed = await asyncio.gather(*(jobs.keys.claim("default", wanted, f"job-{n}", f"uid-{n}") for n in range(20)))
    assert len({(entry.name, entry.job_id) for entry in claimed}) == 1
    assert claimed[0].job_id
    again = await jobs.keys.claim("default", wanted, "another")
    assert again == claimed[0]


async def test_a_key_belongs_to_a_namespace_and_a_handler(jobs: Jobs) -> None:
    wanted = spec()
    other = wanted.model_copy(update={"handler": "other"})
    for n, (namespace, each) in enumerate([("default", wanted), ("tenant", wanted), ("default", other)]):
        assert (await jobs.keys.claim(namespace, each, "x", f"uid-{n}")).job_id == f"uid-{n}"


async def test_an_expired_key_may_be_used_anew_for_other_work(jobs: Jobs) -> None:
    wanted = spec(keyTTLSeconds=1, parameters={"a": 1})
    first = await jobs.keys.claim("default", wanted, "first", "uid-1")
    assert first.expires_at
    other = wanted.model_copy(update={"parameters": {"a": 2}})
    entry = await jobs.keys.claim("default", other, "second", "uid-2")
    assert entry.job_id == "uid-1"
    while now() < first.expires_at:
        await asyncio.sleep(0.1)
    entry = await jobs.keys.claim("default", other, "second", "uid-2")
    assert entry.job_id == "uid-2"
    assert not entry.differences(content_of(other))


async def test_a_reserved_key_is_noted_or_released_unless_somebody_was_faster(jobs: Jobs) -> None:
    wanted = spec()
    reserved = await jobs.keys.claim("default", wanted, "one")
    await jobs.keys.release("default", wanted, reserved)
    await jobs.keys.release("default", wanted, reserved)
    reserved = await jobs.keys.claim("default", wanted, "two")
    assert reserved.name == "two"
    claimed = await jobs.keys.claim("default", wanted, "by-kubectl", "uid-k")
    await jobs.keys.note("default", wanted, reserved, "uid-2")
    await jobs.keys.release("default", wanted, reserved)
    assert await jobs.keys.claim("default", wanted, "three") == claimed


@pytest.mark.parametrize(
    "parameters",
    [
        {"text": "ü\ud800"},
        {f"p{n}": "x" * 60 for n in range(900)},
        {"long": "x" * 60_000},
        {"a'b/c#d?": {"deep": [1, 2.0, None, True]}},
    ],
    ids=["surrogate", "many", "long", "odd"],
)
async def test_any_content_can_be_kept_and_compared(jobs: Jobs, parameters: dict[str, Any]) -> None:
    wanted = spec(parameters=parameters, key="~!" + "k" * 253)
    wanted = wanted.model_copy(update={"handler": f"demo-{uuid4()}"[:60]})
    await jobs.keys.claim("default", wanted, "one", "uid")
    entry = await jobs.keys.claim("default", wanted, "two")
    assert (entry.name, entry.differences(content_of(wanted))) == ("one", [])
    other = wanted.model_copy(update={"parameters": {**parameters, "new": 1}})
    assert entry.differences(content_of(other))


def test_what_does_not_change_the_work_is_no_difference() -> None:
    first = spec(parameters={"n": 1.0, "gone": 1}, priority=3, startAfter="2030-01-01T01:00:00+01:00")
    same = spec(parameters={"gone": 1.0, "n": 1}, description="again", suspend=True, startAfter="2030-01-01T00:00:00Z")
    entry = KeyEntry("x", content_of(first), now())
    assert entry.differences(content_of(same)) == []
    other = spec(parameters={"n": 2}, activeDeadlineSeconds=5, startAfter="2030-01-01T00:00:00Z")
    found = {each.field: (each.first, each.now) for each in entry.differences(content_of(other))}
    assert found == {
        "parameters.n": ("1", "2"), "parameters.gone": ("1", ""), "activeDeadlineSeconds": ("", "5"),
    }  # fmt: skip


async def test_a_job_whose_key_is_known_does_not_run_and_ends_as_the_first_one(
    jobs: Jobs, crd: Path, kube_namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the first one was deleted after its end, as GitOps does with what has passed its TTL."""
    monkeypatch.setenv("KUBECONFIG", str(crd))
    cluster = Cluster(crd, kube_namespace)
    async with operator(jobs, cluster, resync_seconds=1) as running:
        fields: dict[str, Any] = {"queue": kube_namespace, "key": "order 17", "parameters": {"steps": 1}}
        first = cluster.create(name="first", **fields)
        await cluster.reaches(first, "Queued")
        uid = running.uid(first)
        twin = cluster.create(name="twin", **fields)
        async with asyncio.timeout(20):
            while "waits for an outcome" not in (await asyncio.to_thread(cluster.get, twin)).get("status", {}).get(
                "message", ""
            ):
                await asyncio.sleep(0.05)
        head = await jobs.trail.head(uid)
        await jobs.trail.append(
            head, [NewEvent("Completed", "all done", data={"result": {"rows": 3}})], state=State.COMPLETED
        )
        cluster.delete(first)
        await until(lambda: uid not in running.jobs or running.jobs[uid].finished, 30)
        status = (await cluster.reaches(twin, "Completed"))["status"]
        assert status["result"] == {"rows": 3}
        assert f"not run: key 'order 17' is that of job {uid} (first): all done" == status["message"]
        again = cluster.create(name="first", **fields)
        status = (await cluster.reaches(again, "Completed"))["status"]
        events = await jobs.trail.history(status["jobId"])
        assert [(event.status, event.attempt, event.epoch) for event in events] == [
            ("Submitted", 0, 0),
            ("Completed", 0, 0),
        ]
        other = cluster.create(name="other", **{**fields, "parameters": {"steps": 2}})
        status = (await cluster.reaches(other, "Failed"))["status"]
        assert "parameters.steps: first 1, now 2" in status["message"]
