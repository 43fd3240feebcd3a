"""Nothing waits for ever, and no job holds up another: part B of the faults that were found, on the operator's side."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ServiceResponseError
from joblease import topology
from joblease.leases import slot_blob
from joblease.limits import allow_depth_of_api_server
from joblease.messages import Status, now, rfc3339
from joblease.states import State
from joblease.topology import CONTROL, DEAD, DELIVERY_LIMIT, EVENTS, REASON_HEADER, declare_private, jobs_queue
from joblease.trail import NewEvent
from joblease_dashboard.actions import deadletters
from joblease_operator import dead, ending, engine, pools, sweeper
from joblease_operator.kube import JobRequests
from support.cluster import Cluster
from support.engine import Operator, messages, operator, until
from support.jobs import Jobs
from support.play import play, tell


@pytest.fixture
def cluster(crd: Path, kube_namespace: str, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setenv("KUBECONFIG", str(crd))
    return Cluster(crd, kube_namespace)


async def unlisted(jobs: Jobs, uid: str) -> None:
    """Wait until the list of open jobs has a job no longer."""
    async with asyncio.timeout(20):
        while await jobs.is_listed(uid):
            await asyncio.sleep(0.05)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds of the queues' watcher that a test can wait for."""
    monkeypatch.setattr(pools, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(pools, "GRACE_SECONDS", 0.3)


@pytest.fixture
def deep_json() -> Iterator[None]:
    """As the operator's `main` does."""
    before = sys.getrecursionlimit()
    allow_depth_of_api_server()
    yield
    sys.setrecursionlimit(before)


@pytest.fixture
async def heard(jobs: Jobs) -> AsyncIterator[asyncio.Queue[Any]]:
    """All that is said on the events exchange from now on, and all orders."""
    said: asyncio.Queue[Any] = asyncio.Queue()
    channel = await (await jobs.broker._consumer.link()).connection.channel()
    for exchange in (EVENTS, CONTROL):
        queue = await declare_private(channel, exchange)
        await queue.consume(said.put, no_ack=True)
    yield said
    await channel.close()


async def taken(queue: Any) -> Any:
    """The next message of a queue, once there is one."""
    async with asyncio.timeout(20):
        while (message := await queue.get(fail=False)) is None:
            await asyncio.sleep(0.02)
    return message


# No job holds what it does not need


async def test_a_job_that_storage_will_never_take_fails_at_once_and_nobody_waits_for_it(
    jobs: Jobs, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = jobs.trail.append

    async def refuse(head: Any, events: Any, **changes: Any) -> Any:
        if head.name == "poison" and any((each.data or {}).get("parameters") for each in events):
            error = HttpResponseError("PropertyValueTooLarge: no")
            error.status_code = 400
            raise error
        return await append(head, events, **changes)

    monkeypatch.setattr(jobs.trail, "append", refuse)
    async with operator(jobs, cluster):
        cluster.create(name="poison", parameters={"a": 1})
        resource = await cluster.reaches("poison", "Failed")
        assert "PropertyValueTooLarge" in resource["status"]["message"]
        await cluster.reaches(cluster.create(), "Queued")
        events = await jobs.trail.history(resource["metadata"]["uid"])
        assert [event.status for event in events] == ["Submitted", "Failed"]
        await unlisted(jobs, resource["metadata"]["uid"])


async def test_a_job_whose_first_rows_are_not_written_holds_no_slot(
    jobs: Jobs, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = jobs.trail.append

    async def unavailable(head: Any, events: Any, **changes: Any) -> Any:
        if head.name == "unlucky":
            error = HttpResponseError("ServerBusy")
            error.status_code = 503
            raise error
        return await append(head, events, **changes)

    monkeypatch.setattr(jobs.trail, "append", unavailable)
    async with operator(jobs, cluster) as running:
        cluster.create(name="unlucky")
        uid = running.uid("unlucky")
        await until(lambda: uid in running.jobs and running.jobs[uid].trouble)
        after = running.uid(cluster.create())
        await until(lambda: after in running.jobs and running.jobs[after].state is State.QUEUED)
        cluster.delete("unlucky")
        await until(lambda: running.jobs[uid].gone)
        monkeypatch.setattr(jobs.trail, "append", append)
        await until(lambda: uid not in running.jobs)
        assert (await jobs.trail.head(uid)).state is State.CANCELLED


async def test_text_of_any_letters_is_counted_as_storage_counts_it(jobs: Jobs, cluster: Cluster) -> None:
    async with operator(jobs, cluster):
        for letters in ("😀" * 16_370, "x" * 20_000 + "😀" * 8_000):
            name = cluster.create(parameters={"t": letters}, concurrency={"group": "texts", "limit": 0})
            resource = await cluster.reaches(name, "Queued")
            events = await jobs.trail.history(resource["metadata"]["uid"])
            assert (events[0].data or {})["parameters"]["t"] == letters


@pytest.mark.parametrize("levels", [64, 65, 220, 300, 3_000])
async def test_the_depth_of_parameters_has_a_limit(jobs: Jobs, cluster: Cluster, deep_json: None, levels: int) -> None:
    """The request is made as text: deep JSON is more than most libraries can write."""
    body = (
        '{"apiVersion": "joblease.dev/v1alpha1", "kind": "JobRequest", "metadata": {"name": "deep"},'
        f' "spec": {{"handler": "noop", "parameters": {{"a": {"[" * (levels - 1)}{"]" * (levels - 1)}}}}}}}'
    )
    cluster.send("POST", body)
    async with operator(jobs, cluster):
        resource = await cluster.reaches("deep", "Queued" if levels == 64 else "Failed")
        after = cluster.create(concurrency={"group": "after", "limit": 1})
        await cluster.reaches(after, "Queued")
    if levels > 64:
        assert "nested more than 64 levels deep" in resource["status"]["message"]


# Queues that nobody serves


async def test_a_job_whose_queue_nobody_serves_holds_nobody_up(jobs: Jobs, cluster: Cluster, soon: None) -> None:
    async with operator(jobs, cluster) as running:
        lost = cluster.create(queue="typo")
        await cluster.reaches(lost, "Queued")
        served = f"{cluster.namespace}-served"
        behind, other = cluster.create(queue="typo"), cluster.create(queue=served)
        await cluster.reaches(other, "Queued")  # its turn has come
        async with asyncio.timeout(20):
            while "no worker serves queue 'typo'" not in cluster.get(lost)["status"]["message"]:
                await asyncio.sleep(0.05)
        assert await messages(jobs, "typo") == 1  # it wakes a pool that scales from zero; more need not wait for it
        # Somebody comes: what is in line for this queue is in line again.
        await play(jobs, running.uid(lost), (Status.STARTED, State.RUNNING), (Status.COMPLETED, State.COMPLETED))
        await cluster.reaches(behind, "WaitingForGroup", "Queued")
        await play(jobs, running.uid(other), (Status.STARTED, State.RUNNING), (Status.COMPLETED, State.COMPLETED))
        async with asyncio.timeout(20):
            while await messages(jobs, "typo") < 2:
                await asyncio.sleep(0.05)


async def test_nothing_is_published_again_while_its_message_is_there(jobs: Jobs, cluster: Cluster, soon: None) -> None:
    queue = cluster.namespace
    async with operator(jobs, cluster, resync_seconds=0.1, republish_seconds=0.3) as running:
        names = [cluster.create(queue=queue, concurrency={"group": "wide", "limit": 0}) for _ in range(5)]
        for name in names:
            await cluster.reaches(name, "Queued")
        uids = [running.uid(name) for name in names]
        await until(lambda: all(running.jobs[uid].published for uid in uids))
        first = {uid: running.jobs[uid].last_news for uid in uids}
        await asyncio.sleep(6 * 0.3)  # the periods after which it would have been
        assert await messages(jobs, queue) == 5
        assert {uid: running.jobs[uid].last_news for uid in uids} == first
        channel = (await jobs.broker._consumer.link()).channels[0]
        await (await channel.get_queue(f"joblease.jobs.{queue}")).purge()
        async with asyncio.timeout(20):
            while await messages(jobs, queue) < 5:
                await asyncio.sleep(0.05)
        await asyncio.sleep(6 * 0.3)
        assert await messages(jobs, queue) == 5


@pytest.mark.parametrize("way", ["delivery limit", "policy", "worker"])
async def test_a_job_whose_message_is_a_dead_letter_ends_with_the_reason(
    jobs: Jobs, cluster: Cluster, soon: None, way: str
) -> None:
    """Whoever has parked it, without giving the job an outcome."""
    queue = cluster.namespace
    async with operator(jobs, cluster, resync_seconds=0.3, republish_seconds=0.6) as running:
        name = cluster.create(queue=queue)
        await cluster.reaches(name, "Queued")
        uid = running.uid(name)
        pool = await _pool(jobs, queue)
        if way == "delivery limit":
            for _ in range(DELIVERY_LIMIT + 1):
                await (await taken(pool)).nack(requeue=True)
        elif way == "policy":  # or somebody who rejects it by hand
            await (await taken(pool)).reject(requeue=False)
        else:
            message = await taken(pool)
            await jobs.broker.publish(
                "", DEAD, message.body, message_id=message.message_id or "", headers={REASON_HEADER: "no trail"}
            )
            await message.ack()
        resource = await cluster.reaches(name, "Failed")
        reason = {"delivery limit": "delivery_limit", "policy": "rejected", "worker": "no trail"}[way]
        assert resource["status"]["message"].startswith("its message was parked in joblease.dead: ")
        assert resource["status"]["message"].endswith(reason)
        await unlisted(jobs, uid)
        assert await messages(jobs, queue) == 0
        letters = await deadletters.look(jobs.broker)
        assert [letter.job_id for letter in letters if letter.job_id == uid] == [uid]
        wanted = next(letter.id for letter in letters if letter.job_id == uid)
        done = await deadletters.replay(jobs.broker, jobs.trail, wanted)
        assert [(letter.job_id, state) for letter, state in done.ended] == [(uid, State.FAILED)]


async def test_a_dead_letter_is_found_behind_very_many(jobs: Jobs) -> None:
    async def publish(name: str, number: int) -> None:
        for n in range(number):
            await jobs.broker.publish("", DEAD, b"x", message_id=f"{name}.{n}", headers={REASON_HEADER: "of before"})

    async def purge(channel: Any) -> None:
        await (await topology.declare_dead(channel)).purge()

    try:
        await asyncio.gather(*(publish(f"other-{n}", 250) for n in range(20)))
        await jobs.broker.publish("", DEAD, b"x", message_id="mine.1", headers={REASON_HEADER: "m" * 5_000})
        found = await dead.reasons(jobs.broker)
        assert found["mine.1"] == "m" * dead.MAX_REASON
        assert len(await dead.reasons(jobs.broker)) == len(found) > 5_000  # they are all there still
    finally:
        await jobs.broker.ask(purge)


@pytest.mark.parametrize("state", [State.RUNNING, State.INTERRUPTED])
async def test_a_begun_job_whose_message_is_a_dead_letter_ends(
    jobs: Jobs, cluster: Cluster, soon: None, state: State
) -> None:
    """Its worker died, or handed it back; nobody holds it."""
    async with operator(jobs, cluster, resync_seconds=0.2, republish_seconds=0.4) as running:
        uid, name = await _begun_and_dead(jobs, cluster, running)
        if state is State.INTERRUPTED:
            await play(jobs, uid, (Status.INTERRUPTED, state))
        await cluster.reaches(name, "Failed")


async def test_a_job_that_is_claimed_in_the_moment_of_its_end_goes_on(
    jobs: Jobs, cluster: Cluster, soon: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, tries = jobs.trail.append, 0

    async def too_late(head: Any, events: Any, **changes: Any) -> Any:
        nonlocal tries
        if changes.get("state") is State.FAILED:
            tries += 1
            await play(jobs, head.job_id, (Status.STARTED, State.RUNNING))
        return await append(head, events, **changes)

    async with operator(jobs, cluster, resync_seconds=0.2, republish_seconds=0.4) as running:
        monkeypatch.setattr(jobs.trail, "append", too_late)
        uid, _ = await _begun_and_dead(jobs, cluster, running)
        assert (await taken(await _pool(jobs, cluster.namespace))).message_id == f"{uid}.3"  # it was not lost at once
        assert [event.status for event in await jobs.trail.history(uid)][2:] == [Status.STARTED, Status.STARTED]
        assert tries == 1


async def _begun_and_dead(jobs: Jobs, cluster: Cluster, running: Operator) -> tuple[str, str]:
    """Id and name of a job that a worker has begun, and whose message was rejected."""
    name = cluster.create(queue=cluster.namespace)
    await cluster.reaches(name, "Queued")
    uid = running.uid(name)
    message = await taken(await _pool(jobs, cluster.namespace))
    await play(jobs, uid, (Status.STARTED, State.RUNNING))
    await message.reject(requeue=False)
    return uid, name


async def _pool(jobs: Jobs, queue: str) -> Any:
    return await (await jobs.broker._consumer.link()).channels[0].get_queue(jobs_queue(queue))


async def test_a_dead_letter_of_an_attempt_before_ends_nothing(jobs: Jobs, cluster: Cluster, soon: None) -> None:
    queue = cluster.namespace
    async with operator(jobs, cluster, resync_seconds=0.2, republish_seconds=0.6) as running:
        name = cluster.create(queue=queue)
        await cluster.reaches(name, "Queued")
        uid = running.uid(name)
        pool = await _pool(jobs, queue)
        await (await taken(pool)).reject(requeue=False)
        due = {"nextAttemptAt": rfc3339(now())}
        await play(jobs, uid, (Status.STARTED, State.RUNNING), (Status.RETRYING, State.RETRYING), data=due)
        lost = await taken(pool)
        assert lost.message_id == f"{uid}.2"
        await lost.ack()
        again = await taken(pool)
        assert again.message_id == f"{uid}.2"
        assert running.jobs[uid].state is State.QUEUED


# Cancelled and deleted


@pytest.mark.parametrize("way", ["cancel", "delete"])
async def test_an_order_is_repeated_until_it_is_obeyed(
    jobs: Jobs, cluster: Cluster, heard: asyncio.Queue[Any], monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(ending, "REPEAT_SECONDS", 0.2)
    async with operator(jobs, cluster) as running:
        name = cluster.create()
        await cluster.reaches(name, "Queued")
        uid = running.uid(name)
        await jobs.hold(uid)
        await play(jobs, uid, (Status.STARTED, State.RUNNING))
        await cluster.reaches(name, "Running")
        if way == "cancel":
            cluster.change(name, cancel=True)
        else:
            cluster.delete(name)
        orders = 0
        async with asyncio.timeout(20):
            while orders < 3:
                orders += (await heard.get()).message_id == f"{uid}.cancel"
        assert (await jobs.trail.head(uid)).cancel_requested
        await play(jobs, uid, (Status.CANCELLED, State.CANCELLED))
        await until(lambda: uid not in running.jobs or running.jobs[uid].settled)


async def test_a_cancelled_job_whose_worker_is_lost_ends_without_another_worker(
    jobs: Jobs, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "REPEAT_SECONDS", 0.2)
    async with operator(jobs, cluster, resync_seconds=0.5) as running:
        name = cluster.create()
        await cluster.reaches(name, "Queued")
        await play(jobs, running.uid(name), (Status.STARTED, State.RUNNING))
        cluster.change(name, cancel=True)
        resource = await cluster.reaches(name, "Cancelled")
        assert resource["status"]["message"] == "cancelled; its worker was lost"


async def test_an_ended_job_leaves_the_list_later_when_storage_is_away_at_its_end(
    jobs: Jobs, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush, refused = jobs.open_jobs.flush, asyncio.Event()

    async def unavailable() -> None:
        refused.set()
        raise ServiceResponseError("no answer")

    monkeypatch.setattr(jobs.open_jobs, "flush", unavailable)
    async with operator(jobs, cluster, resync_seconds=0.3) as running:
        name = cluster.create()
        await cluster.reaches(name, "Queued")
        cluster.change(name, cancel=True)
        resource = await cluster.reaches(name, "Cancelled")
        refused.clear()
        await refused.wait()
        assert "tries again" not in resource["status"]["message"]
        assert await jobs.is_listed(running.uid(name))
        monkeypatch.setattr(jobs.open_jobs, "flush", flush)
        await unlisted(jobs, running.uid(name))


async def test_what_is_not_in_a_listing_has_gone(jobs: Jobs, cluster: Cluster) -> None:
    """The watch was down for so long that it begins with a listing (410 Gone)."""
    async with operator(jobs, cluster, resync_seconds=0.2) as running:
        holder = cluster.create()
        await cluster.reaches(holder, "Queued")
        waiting, other = cluster.create(), cluster.create()
        await play(jobs, running.uid(holder), (Status.STARTED, State.RUNNING))
        for name in (waiting, other):
            await cluster.reaches(name, "WaitingForGroup")
        held, gone = running.uid(holder), running.uid(waiting)
        await jobs.hold(held)
        running.watching = False
        for name in (holder, waiting):
            cluster.delete(name)
        running.listing()
        await until(lambda: gone not in running.jobs)
        assert (await jobs.trail.head(gone)).state is State.CANCELLED
        async with asyncio.timeout(20):
            while not (await jobs.trail.head(held)).cancel_requested:
                await asyncio.sleep(0.05)
        await play(jobs, held, (Status.CANCELLED, State.CANCELLED), publish=False)
        await cluster.reaches(other, "Queued")
        await until(lambda: set(running.jobs) == {running.uid(other)})


async def test_a_write_that_finds_no_resource_is_a_deletion(jobs: Jobs, cluster: Cluster) -> None:
    async with operator(jobs, cluster) as running:
        name = cluster.create(suspend=True)
        await cluster.reaches(name, "Suspended")
        job = running.jobs[running.uid(name)]
        running.watching = False
        cluster.delete(name)
        cluster.create(name=name)  # another one of that name
        job.worker = "somebody"  # something to write
        running.engine.status_writer.write(job)
        await until(lambda: job.uid not in running.jobs)
        assert (await jobs.trail.head(job.uid)).state is State.CANCELLED
        assert "status" not in cluster.get(name)


async def test_an_operator_that_has_not_heard_of_a_job_does_not_end_it(
    jobs: Jobs, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off from the API server but not from storage, beside its successor."""
    async with operator(jobs, cluster, watching=False, resync_seconds=0.2, sweep_seconds=0.2) as old:
        cut = asyncio.Event()

        async def away(*_: Any) -> bool:
            cut.set()
            raise TimeoutError("the API server does not answer")

        monkeypatch.setattr(old.requests, "exists", away)
        async with operator(jobs, cluster):
            waiting, running = cluster.create(suspend=True), cluster.create()
            await cluster.reaches(waiting, "Suspended")
            await cluster.reaches(running, "Queued")
            uids = [cluster.get(name)["metadata"]["uid"] for name in (waiting, running)]
            await asyncio.wait_for(cut.wait(), 20)
            monkeypatch.undo()
            monkeypatch.setenv("KUBECONFIG", "")
            await asyncio.sleep(1)  # rounds in which it can ask
            assert [(await jobs.trail.head(uid)).state for uid in uids] == [State.SUBMITTED, State.QUEUED]
            cluster.delete(waiting)
            assert (await jobs.outcome(uids[0]))[0] is State.CANCELLED


async def test_a_job_that_cannot_be_cleared_keeps_no_other_from_it(
    jobs: Jobs, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with operator(jobs, cluster):
        names = [cluster.create(suspend=True) for _ in range(3)]
        for name in names:
            await cluster.reaches(name, "Suspended")
        uids = {name: cluster.get(name)["metadata"]["uid"] for name in names}
    for name in names:
        cluster.delete(name)
    exists, asked, mended = JobRequests.exists, list[str](), list[bool]()

    async def answers_for_all_but_the_first(requests: JobRequests, namespace: str, name: str, uid: str) -> bool:
        asked.append(name)
        if name == asked[0] and not mended:
            raise TimeoutError("no answer about this one")
        return await exists(requests, namespace, name, uid)

    monkeypatch.setattr(JobRequests, "exists", answers_for_all_but_the_first)
    async with operator(jobs, cluster, resync_seconds=0.2, sweep_seconds=60):
        await until(lambda: len(set(asked)) == 3)
        for name in names:
            if name != asked[0]:
                assert (await jobs.outcome(uids[name]))[0] is State.CANCELLED
        mended.append(True)
        assert (await jobs.outcome(uids[asked[0]]))[0] is State.CANCELLED


# Specs of another release


@pytest.mark.parametrize("way", ["cancel", "delete", "upgrade"])
async def test_a_spec_that_cannot_be_read_has_a_reason_of_its_own(jobs: Jobs, cluster: Cluster, way: str) -> None:
    def newer(body: dict[str, Any]) -> dict[str, Any]:
        return {**body, "spec": {**body["spec"], "priority": 12}}

    async with operator(jobs, cluster) as running:
        running.seen_as = newer
        name = cluster.create()
        resource = await cluster.reaches(name, "Unsupported")
        uid = resource["metadata"]["uid"]
        assert "spec.priority: Input should be less than or equal to 9" in resource["status"]["message"]
        if way == "upgrade":
            running.seen_as = dict
            cluster.change(name, ttlSecondsAfterFinished=7)
            await cluster.reaches(name, "Queued")
        elif way == "cancel":
            cluster.change(name, cancel=True)
            await cluster.reaches(name, "Cancelled")
        else:
            cluster.delete(name)
            await until(lambda: uid not in running.jobs)
            assert (await jobs.trail.head(uid)).state is State.CANCELLED


# Statuses


async def test_a_status_that_the_api_server_refuses_is_written_shorter(jobs: Jobs, cluster: Cluster) -> None:
    async with operator(jobs, cluster) as running:
        name = cluster.create()
        await cluster.reaches(name, "Queued")
        await play(jobs, running.uid(name), (Status.STARTED, State.RUNNING))
        head = await jobs.trail.head(running.uid(name))
        _, events = await jobs.trail.append(
            head, [NewEvent(Status.COMPLETED, "done")], state=State.COMPLETED, worker="w" * 300
        )
        await tell(jobs, events[0])
        resource = await cluster.reaches(name, "Completed")
        assert "the API server refused" in resource["status"]["message"]
        await until(lambda: running.jobs[running.uid(name)].settled)


async def test_an_ended_job_follows_its_generation_and_its_time_to_live(jobs: Jobs, cluster: Cluster) -> None:
    async with operator(jobs, cluster) as running:
        name = cluster.create()
        await cluster.reaches(name, "Queued")
        await play(jobs, running.uid(name), (Status.STARTED, State.RUNNING), (Status.COMPLETED, State.COMPLETED))
        before = (await cluster.reaches(name, "Completed"))["status"]
        cluster.change(name, ttlSecondsAfterFinished=3600)
        async with asyncio.timeout(20):
            while (resource := cluster.get(name))["status"]["observedGeneration"] != 2:
                await asyncio.sleep(0.05)
        status = resource["status"]
        assert [each["observedGeneration"] for each in status["conditions"]] == [2, 2]
        assert {**status, "observedGeneration": 1, "conditions": []} == {**before, "conditions": []}
        cluster.change(name, ttlSecondsAfterFinished=0)
        async with asyncio.timeout(20):
            while cluster.exists(name):
                await asyncio.sleep(0.05)


async def test_a_change_that_is_heard_of_after_the_outcome_does_not_bring_an_older_status_back(
    jobs: Jobs, cluster: Cluster
) -> None:
    async with operator(jobs, cluster) as running:
        name = cluster.create()
        await cluster.reaches(name, "Queued")
        await play(jobs, running.uid(name), (Status.STARTED, State.RUNNING))
        await cluster.reaches(name, "Running")
        running.watching = False
        cluster.change(name, cancel=True)
        late = cluster.get(name)
        await play(jobs, running.uid(name), (Status.FAILED, State.FAILED))
        await until(lambda: running.jobs[running.uid(name)].settled)
        running.engine.observe("MODIFIED", late)
        running.watching = True
        async with asyncio.timeout(20):
            while (status := cluster.get(name)["status"])["observedGeneration"] != 2:
                await asyncio.sleep(0.05)
        assert {each["reason"] for each in status["conditions"]} == {"Failed"}


async def test_a_time_to_live_without_end(jobs: Jobs, cluster: Cluster) -> None:
    async with operator(jobs, cluster, ttl_seconds_after_finished=0) as running:
        name = cluster.create(ttlSecondsAfterFinished=-1)
        await cluster.reaches(name, "Queued")
        await play(jobs, running.uid(name), (Status.STARTED, State.RUNNING), (Status.COMPLETED, State.COMPLETED))
        await cluster.reaches(name, "Completed")
        await until(lambda: running.jobs[running.uid(name)].settled)
        assert not running.engine._expiry._jobs
        cluster.change(name, ttlSecondsAfterFinished=0)
        async with asyncio.timeout(20):
            while cluster.exists(name):
                await asyncio.sleep(0.05)


# Order, restarts, leftovers


async def test_jobs_of_one_file_start_in_its_order(
    jobs: Jobs, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long storage takes for each of them."""
    create, names = jobs.blobs.create, [f"{letter}-job" for letter in "hebjcfaidg"]

    async def slowly(blob: str, metadata: Any) -> bool:
        await asyncio.sleep(0.1 * (len(names) - names.index(metadata["name"])))
        return await create(blob, metadata)

    monkeypatch.setattr(jobs.blobs, "create", slowly)
    kind = {"apiVersion": "joblease.dev/v1alpha1", "kind": "JobRequest", "spec": {"handler": "noop"}}
    items = [{**kind, "metadata": {"name": name, "namespace": cluster.namespace}} for name in names]
    file = tmp_path / "jobs.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    async with operator(jobs, cluster) as running:
        command = ["kubectl", "create", "-f", str(file)]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode == 0, done.stderr
        for name in names:
            await cluster.reaches(name, "Queued")
            assert [job.name for job in running.jobs.values() if job.state is State.QUEUED] == [name]
            await play(jobs, running.uid(name), (Status.STARTED, State.RUNNING), (Status.COMPLETED, State.COMPLETED))


async def test_the_order_is_the_api_servers_also_after_a_restart(jobs: Jobs, cluster: Cluster) -> None:
    async with operator(jobs, cluster):
        cluster.create(name="holder")
        await cluster.reaches("holder", "Queued")
        names = [cluster.create(name=f"{letter}-job") for letter in "hebjcfaidg"]
        for name in names:
            await cluster.reaches(name, "WaitingForGroup")
    order = []
    async with operator(jobs, cluster) as running:
        for name in ("holder", *names):
            order.append(name)
            await cluster.reaches(name, "Queued")
            assert sum(job.state is State.QUEUED for job in running.jobs.values()) == 1
            await play(jobs, running.uid(name), (Status.STARTED, State.RUNNING), (Status.COMPLETED, State.COMPLETED))
            await cluster.reaches(name, "Completed")
    assert order == ["holder", *names]


async def test_a_restart_reads_each_job_once_and_announces_nothing_again(
    jobs: Jobs, cluster: Cluster, heard: asyncio.Queue[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with operator(jobs, cluster) as running:
        names = [cluster.create(concurrency={"group": f"g{n}", "limit": 1}) for n in range(5)]
        names += [cluster.create(concurrency={"group": "g0", "limit": 1}) for _ in range(5)]
        for name in names:
            await cluster.reaches(name, "Queued", "WaitingForGroup")
        await play(jobs, running.uid(names[0]), (Status.STARTED, State.RUNNING))
        await cluster.reaches(names[0], "Running")
    while not heard.empty():
        heard.get_nowait()
    read: list[str] = []
    for request in ("head", "history"):
        real = getattr(jobs.trail, request)

        async def counted(job_id: str, *rest: Any, real: Any = real, **more: Any) -> Any:
            read.append(job_id)
            return await real(job_id, *rest, **more)

        monkeypatch.setattr(jobs.trail, request, counted)
    queued = await messages(jobs, "default")
    async with operator(jobs, cluster) as running:
        await until(lambda: all(job.state for job in running.jobs.values()) and not running.engine._queue._marked)
        marker = cluster.create(concurrency={"group": "marker", "limit": 1})
        await cluster.reaches(marker, "Queued")
        said = [(await asyncio.wait_for(heard.get(), 20)).message_id for _ in range(2)]
    uids = {cluster.get(name)["metadata"]["uid"] for name in names}  # the list may have ended ones of other tests
    assert sorted(uid for uid in read if uid in uids) == sorted(uids)
    assert {each.split(".")[0] for each in said} == {cluster.get(marker)["metadata"]["uid"]}
    assert await messages(jobs, "default") == queued + 1


async def test_slots_of_groups_that_are_not_used_are_deleted(
    jobs: Jobs, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper, "UNUSED_SECONDS", 0.5)
    for group, slot in (("old", 0), ("old", 1), ("held", 0), ("used", 0)):
        await jobs.blobs.create(slot_blob(group, slot), {})
    await jobs.blobs.acquire(slot_blob("held", 0), 60)

    async def there() -> set[str]:
        return {blob async for _, blob in jobs.blobs.slots()}

    async with operator(jobs, cluster, resync_seconds=0.2) as running:
        name = cluster.create(concurrency={"group": "used", "limit": 1})
        await cluster.reaches(name, "Queued")
        async with asyncio.timeout(20):
            while await there() != {slot_blob("held", 0), slot_blob("used", 0)}:
                await asyncio.sleep(0.05)
        await play(jobs, running.uid(name), (Status.STARTED, State.RUNNING), (Status.COMPLETED, State.COMPLETED))
        async with asyncio.timeout(20):
            while await there() != {slot_blob("held", 0)}:
                await asyncio.sleep(0.05)


async def test_whatever_the_custom_resource_accepts_is_admitted(jobs: Jobs, cluster: Cluster) -> None:
    odd: list[dict[str, Any]] = [
        {"parameters": {"huge": 1e308, "tiny": 5e-324, "zero": -0.0, "big": 2**63 - 1, "more": 1e19}},
        {"parameters": {"": "empty", "a.b/c": 1, "nul\x00": "\x00\x1f\x7f", "😀": "\U0010ffff", "k" * 5_000: None}},
        {"parameters": {f"p{n}": n for n in range(1_000)}},
        {"description": "\x00\t", "inputFilePath": "\x00"},
        {"startAfter": "2020-01-01T00:00:00.123456789Z"},
        {"startAfter": "1000-01-01T00:00:00-00:00"},
        {"concurrency": {}},
        {"concurrency": {"limit": 0}},
        {"concurrency": {"group": "x" * 63, "limit": 10_000}},
        {"retry": {"maxAttempts": 100, "backoff": {"initialSeconds": 0, "factor": 1.0000001, "maxSeconds": 86_400}}},
        {"priority": 9, "activeDeadlineSeconds": 31_536_000, "ttlSecondsAfterFinished": 315_360_000},
    ]
    async with operator(jobs, cluster, default_limit=0):
        for number, spec in enumerate(odd):
            name = f"{number}-{'n' * 240}"
            cluster.create(name=name, **spec)
            resource = await cluster.reaches(name, "Queued")
            events = await jobs.trail.history(resource["metadata"]["uid"])
            for field in ("parameters", "description", "inputFilePath"):
                if field in spec:
                    assert (events[0].data or {})[field] == spec[field]
        garbage = cluster.create(annotations={"joblease.dev/traceparent": "x" * 200_000})
        resource = await cluster.reaches(garbage, "Queued")
        assert "traceparent" not in ((await jobs.trail.history(resource["metadata"]["uid"]))[0].data or {})


async def test_times_that_only_some_can_read_are_refused_by_the_api_server(cluster: Cluster) -> None:
    from kubernetes.client import ApiException

    for moment in (
        "2030-01-01t00:00:00Z",
        "2030-06-30T23:59:60Z",
        "2030-01-01T00:00:00x5Z",
        "2030-01-01T00:00:00,5Z",
        "2030-1-1T00:00:00Z",
    ):
        with pytest.raises(ApiException, match="startAfter"):
            cluster.create(startAfter=moment)


# Errors that nobody has foreseen


async def test_an_ended_job_keeps_its_outcome_whatever_fails_afterwards(
    jobs: Jobs, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with operator(jobs, cluster) as running:
        name = cluster.create()
        await cluster.reaches(name, "Queued")
        uid = running.uid(name)
        await play(jobs, uid, (Status.STARTED, State.RUNNING))
        await cluster.reaches(name, "Running")
        failed = asyncio.Event()

        async def broken(_: Any) -> None:
            failed.set()
            raise AttributeError("not foreseen")

        monkeypatch.setattr(running.engine._publisher, "publish_events", broken)
        await play(jobs, uid, (Status.COMPLETED, State.COMPLETED))
        await asyncio.wait_for(failed.wait(), 20)
        await cluster.reaches(name, "Completed")
        assert (await jobs.trail.history(uid))[-1].status == Status.COMPLETED
        assert (await jobs.trail.head(uid)).state is State.COMPLETED


async def test_a_fault_of_ours_fails_no_job_and_holds_up_nobody(
    jobs: Jobs, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    append = jobs.trail.append

    async def faulty(head: Any, events: Any, **changes: Any) -> Any:
        if head.name == "innocent" and changes.get("state") is State.QUEUED:
            raise KeyError("ours")
        return await append(head, events, **changes)

    monkeypatch.setattr(jobs.trail, "append", faulty)
    async with operator(jobs, cluster) as running:
        cluster.create(name="innocent")
        uid = running.uid("innocent")
        await until(lambda: uid in running.jobs and running.jobs[uid].trouble)
        behind = cluster.create()
        await cluster.reaches(behind, "Queued")
        assert "the operator tries again after: KeyError: 'ours'" in cluster.get("innocent")["status"]["message"]
        assert "test_operator_waits.py" in caplog.text  # where it was raised
        monkeypatch.setattr(jobs.trail, "append", append)
        await play(jobs, running.uid(behind), (Status.STARTED, State.RUNNING), (Status.COMPLETED, State.COMPLETED))
        await cluster.reaches("innocent", "Queued")


async def test_what_storage_refuses_of_all_jobs_is_tried_again_when_it_is_repaired(
    jobs: Jobs, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken SAS token, or a proxy in between: each request is answered by 400."""
    monkeypatch.setattr(engine, "MAX_PAUSE_SECONDS", 0.5)
    append, tries = jobs.trail.append, 0

    async def refuse(*_: Any, **__: Any) -> Any:
        nonlocal tries
        tries += 1
        error = HttpResponseError("InvalidAuthenticationInfo")
        error.status_code = 400
        raise error

    monkeypatch.setattr(jobs.trail, "append", refuse)
    async with operator(jobs, cluster) as running:
        name = cluster.create()
        await until(lambda: tries >= 4)
        monkeypatch.setattr(jobs.trail, "append", append)
        await cluster.reaches(name, "Queued")
        uid = running.uid(name)
        await until(lambda: not running.jobs[uid].trouble)


async def test_a_new_job_that_cannot_be_begun_pauses_between_its_tries(
    jobs: Jobs, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    async def unavailable(*_: Any, **__: Any) -> Any:
        nonlocal tries
        tries += 1
        error = HttpResponseError("ServerBusy")
        error.status_code = 503
        raise error

    monkeypatch.setattr(jobs.trail, "append", unavailable)
    async with operator(jobs, cluster):
        cluster.create()
        await until(lambda: tries)
        await asyncio.sleep(2)
        assert tries <= 3


async def test_a_failed_attempt_of_a_job_whose_spec_cannot_be_read_is_taken_note_of(
    jobs: Jobs, cluster: Cluster
) -> None:
    async with operator(jobs, cluster):
        name = cluster.create()
        await cluster.reaches(name, "Queued")
        uid = cluster.get(name)["metadata"]["uid"]
        await play(jobs, uid, (Status.STARTED, State.RUNNING))
        await cluster.reaches(name, "Running")
    async with operator(jobs, cluster, watching=False) as running:
        job = running.jobs[uid]
        job.spec, job.unsupported = None, "of a newer release"
        await play(jobs, uid, (Status.RETRYING, State.RETRYING))
        await cluster.reaches(name, "Unsupported")
        assert uid not in running.engine._active.running


async def test_orders_are_not_repeated_with_every_step(
    jobs: Jobs, cluster: Cluster, heard: asyncio.Queue[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "REPEAT_SECONDS", 60.0)
    async with operator(jobs, cluster) as running:
        name = cluster.create()
        await cluster.reaches(name, "Queued")
        uid = running.uid(name)
        await jobs.hold(uid)
        await play(jobs, uid, (Status.STARTED, State.RUNNING))
        cluster.change(name, cancel=True)
        async with asyncio.timeout(20):
            while not (await jobs.trail.head(uid)).cancel_requested:
                await asyncio.sleep(0.05)
        for number in range(1, 21):
            await play(jobs, uid, (Status.step(number), State.RUNNING))
        await until(lambda: running.jobs[uid].sequence >= 23)
        await play(jobs, uid, (Status.CANCELLED, State.CANCELLED))
        await cluster.reaches(name, "Cancelled")
        said = [heard.get_nowait().message_id for _ in range(heard.qsize())]
        assert said.count(f"{uid}.cancel") == 1


async def test_a_job_that_was_published_is_not_suspended_any_more(jobs: Jobs, cluster: Cluster) -> None:
    async with operator(jobs, cluster) as running:
        name = cluster.create()
        await cluster.reaches(name, "Queued")
        cluster.change(name, suspend=True)
        await until(lambda: running.jobs[running.uid(name)].spec.suspend)  # type: ignore[union-attr]
        published = await messages(jobs, "default")
    for _ in range(2):
        async with operator(jobs, cluster) as running:
            marker = cluster.create(concurrency={"group": "marker", "limit": 0}, queue=f"{cluster.namespace}-other")
            await cluster.reaches(marker, "Queued")
            await until(lambda: not running.engine.status_writer._jobs)
            await cluster.reaches(name, "Queued")
    assert await messages(jobs, "default") == published


async def test_a_standby_has_the_picture_and_does_nothing_until_it_leads(
    jobs: Jobs, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was there, came, changed and went meanwhile is known; nothing is listed, and nothing was written."""
    async with operator(jobs, cluster, leads=False, default_limit=0) as standby:
        settled, late = cluster.create(queue=cluster.namespace), cluster.create(queue=cluster.namespace)
        going = cluster.create(queue=cluster.namespace)
        held = cluster.create(queue=cluster.namespace, suspend=True)
        await until(lambda: len(standby.jobs) == 4)
        async with operator(jobs, cluster, default_limit=0) as leader:
            await cluster.reaches(settled, "Queued")
            cluster.change(held, suspend=False)
            gone = standby.uid(going)
            cluster.delete(going)
            await until(lambda: gone not in leader.jobs)
            cluster.change(settled, cancel=True)
            await cluster.reaches(settled, "Cancelled")
        await until(lambda: standby.jobs[standby.uid(settled)].settled and gone not in standby.jobs)
        assert [event.status for event in await jobs.trail.history(gone)][-1] == "Cancelled"
        new = cluster.create(queue=cluster.namespace)
        await until(lambda: len(standby.jobs) == 4)
        assert not cluster.get(new).get("status")

        monkeypatch.setattr(standby.requests, "everything", None)  # the picture is whole
        await standby.lead()
        for name in (late, held, new):
            await cluster.reaches(name, "Queued")
        assert cluster.get(settled)["status"]["conditions"][0]["reason"] == "Cancelled"
