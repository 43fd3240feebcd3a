"""A handler's policy, with operator, workers and all that they talk to."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from joblease.messages import HandlerDescription, JobEvent, WorkerReport, now
from joblease.policy import HandlerPolicy, JobPolicy
from joblease.states import State
from joblease.topology import WORKERS
from joblease_worker.work import POLICY_UNKNOWN
from support.cli import Cli
from support.cluster import Cluster
from support.jobs import Jobs
from support.programs import Program

Start = Callable[..., AbstractAsyncContextManager[Program]]
MODULE = {"JOBLEASE_HANDLERS": "support.policies", "JOBLEASE_WORKER_REPORT_SECONDS": "0.2"}
RETRY = {"backoff": {"initialSeconds": 0, "maxSeconds": 0}}
ALL = ["group", "limit", "maxAttempts", "activeDeadlineSeconds"]


def report(queue: str, **policy: Any) -> WorkerReport:
    """Of a worker that nobody sees."""
    handler = HandlerDescription(name="import-rows", policy=HandlerPolicy(**policy) if policy else None)
    return WorkerReport(
        worker="elsewhere", queue=queue, concurrency=1, lease_seconds=60, period_seconds=10, started_at=now(),
        timestamp=now(), handlers=[handler],
    )  # fmt: skip


async def announce(jobs: Jobs, cluster: Cluster, operator: Program, **policy: Any) -> None:
    """Have the operator know a policy: as long as it does not, it is said again."""
    said = operator.output.count("the policy of handler 'import-rows'")
    async with asyncio.timeout(20):
        while operator.output.count("the policy of handler 'import-rows'") == said:
            await jobs.broker.publish(WORKERS, "", report(cluster.namespace, **policy).encode(), message_id="report")
            await asyncio.sleep(0.05)


async def trail(jobs: Jobs, cluster: Cluster, name: str) -> list[JobEvent]:
    return await jobs.trail.history(cluster.get(name)["metadata"]["uid"])


async def known(operator: Program) -> None:
    """Until the operator has heard of the workers' handlers."""
    async with asyncio.timeout(20):
        while "the policy of handler 'import-rows'" not in operator.output:
            await asyncio.sleep(0.05)


async def test_a_job_has_its_handlers_policy_unless_its_spec_says_otherwise(
    jobs: Jobs, cluster: Cluster, operator: Program, start_worker: Start, submit: Callable[..., str], cli: Cli
) -> None:
    customer = cluster.namespace
    async with start_worker(**MODULE):
        await known(operator)
        taken = submit("import-rows", parameters={"customer": customer, "fails": 9}, retry=RETRY)
        own = submit(
            "import-rows", parameters={"customer": customer}, concurrency={"group": f"own-{customer}", "limit": 0},
            retry={"maxAttempts": 3}, activeDeadlineSeconds=60,
        )  # fmt: skip
        policy = (await cluster.reaches(taken, "Failed"))["status"]["policy"]
        assert policy == {
            "group": f"import-{customer}", "limit": 1, "maxAttempts": 2, "activeDeadlineSeconds": 7200,
            "fromHandler": ALL,
        }  # fmt: skip
        events = await trail(jobs, cluster, taken)
        assert [each.status for each in events].count("Started") == 2
        assert (events[1].data, events[1].group) == ({"policy": policy}, f"import-{customer}")
        assert (await cluster.reaches(own, "Completed"))["status"]["policy"] == {
            "group": f"own-{customer}", "limit": 0, "maxAttempts": 3, "activeDeadlineSeconds": 60,
        }  # fmt: skip
        plain = submit("plain")
        assert (await cluster.reaches(plain, "Completed"))["status"]["policy"] == {
            "group": cluster.namespace, "limit": 1, "maxAttempts": 3,
        }  # fmt: skip
    shown = cli("describe", taken).stdout
    assert f"import-{customer} (from the handler)" in shown
    assert "2h (from the handler)" in shown


async def test_jobs_of_one_group_by_template_run_one_after_the_other(
    jobs: Jobs, cluster: Cluster, operator: Program, start_worker: Start, submit: Callable[..., str]
) -> None:
    async with start_worker(**MODULE, JOBLEASE_WORKER_CONCURRENCY="3"):
        await known(operator)
        space = cluster.namespace
        first = submit("import-rows", parameters={"customer": space, "seconds": 30})
        await cluster.reaches(first, "Running")
        other = submit("import-rows", parameters={"customer": f"{space}-2"})
        second = submit("import-rows", parameters={"customer": space})
        await cluster.reaches(other, "Completed")
        message = (await cluster.reaches(second, "WaitingForGroup"))["status"]["message"]
        assert f"group 'import-{space}' (limit 1), held by {space}/{first}" in message
        cluster.change(first, cancel=True)
        await cluster.reaches(second, "Completed")


async def test_a_parameter_that_makes_no_group_fails_the_job(
    jobs: Jobs, cluster: Cluster, operator: Program, submit: Callable[..., str]
) -> None:
    await announce(jobs, cluster, operator, group="import-{customer}")
    for parameters, said in (
        ({}, "the parameter customer is missing"),
        ({"customer": [1]}, "the parameter customer is to be text or an integer, not [1]"),
        ({"customer": True}, "the parameter customer is to be text or an integer, not True"),
        ({"customer": "A B"}, "with the parameter customer 'A B' that is no name of a group"),
    ):
        name = submit("import-rows", parameters=parameters)
        message = (await cluster.reaches(name, "Failed"))["status"]["message"]
        assert message.startswith("handler 'import-rows' has its jobs in group 'import-{customer}'"), message
        assert said in message
        assert [each.status for each in await trail(jobs, cluster, name)] == ["Submitted", "Failed"]
    await cluster.reaches(submit("import-rows", concurrency={"group": f"own-{cluster.namespace}"}), "Queued")


async def test_a_job_that_was_admitted_before_its_handler_was_known_runs_under_its_policy_all_the_same(
    jobs: Jobs, cluster: Cluster, operator: Program, start_worker: Start, submit: Callable[..., str]
) -> None:
    """As when a pool scales from zero; the worker's report comes late."""
    name = submit("import-rows", parameters={"customer": cluster.namespace, "fails": 9}, retry=RETRY)
    plain = submit("plain", concurrency={"limit": 0})
    assert (await cluster.reaches(name, "Queued"))["status"]["policy"]["group"] == cluster.namespace
    await cluster.reaches(plain, "Queued")
    async with start_worker(**MODULE | {"JOBLEASE_WORKER_REPORT_SECONDS": "60"}):
        status = (await cluster.reaches(name, "Failed"))["status"]
        assert status["policy"]["fromHandler"] == ALL
        await cluster.reaches(plain, "Completed")
    events = await trail(jobs, cluster, name)
    assert [each.status for each in events] == [
        "Submitted", "Queued", "Deferred", "Queued", "Started", "Retrying", "Queued", "Started", "Failed",
    ]  # fmt: skip
    assert (events[2].state, events[2].message) == (State.SUBMITTED, POLICY_UNKNOWN)
    head = await jobs.trail.head(events[0].job_id)
    assert head.policy == JobPolicy.model_validate(status["policy"])
    assert head.group == f"import-{cluster.namespace}"
    assert [each.status for each in await trail(jobs, cluster, plain)] == [
        "Submitted",
        "Queued",
        "Started",
        "Completed",
    ]


async def test_an_admitted_job_keeps_its_policy_over_a_restart_and_another_announcement(
    jobs: Jobs, cluster: Cluster, start_operator: Start, start_worker: Start, submit: Callable[..., str]
) -> None:
    space = cluster.namespace
    parameters = {"customer": space, "fails": 1}
    async with start_operator() as operator:
        await announce(jobs, cluster, operator, group="import-{customer}", limit=1, max_attempts=2)
        admitted = submit("import-rows", parameters=parameters, retry=RETRY)
        before = (await cluster.reaches(admitted, "Queued"))["status"]["policy"]
        waits = submit("import-rows", parameters=parameters, retry=RETRY)
        await cluster.reaches(waits, "WaitingForGroup")
    async with start_operator(JOBLEASE_OPERATOR_DEFAULT_LIMIT="7") as operator:
        assert f"'import-{space}' (limit 1)" in (await cluster.reaches(waits, "WaitingForGroup"))["status"]["message"]
        await announce(jobs, cluster, operator, group="other-{customer}", max_attempts=1)
        assert (await cluster.reaches(waits, "Queued"))["status"]["policy"] == {
            "group": f"other-{space}", "limit": 7, "maxAttempts": 1, "fromHandler": ["group", "maxAttempts"],
        }  # fmt: skip
        assert cluster.get(admitted)["status"]["policy"] == before
        async with start_worker(**MODULE):
            assert (await cluster.reaches(admitted, "Completed"))["status"]["policy"] == before
            failed = await cluster.reaches(waits, "Failed")
    assert failed["status"]["attempt"] == 1


async def test_of_two_releases_the_one_counts_that_was_started_last(
    jobs: Jobs, cluster: Cluster, operator: Program, start_worker: Start, submit: Callable[..., str]
) -> None:
    parameters = {"customer": cluster.namespace}
    async with start_worker(**MODULE):
        await known(operator)
        first = await cluster.reaches(submit("import-rows", parameters=parameters), "Completed")
        assert (first["status"]["policy"]["limit"], first["status"]["policy"]["maxAttempts"]) == (1, 2)
        async with start_worker("worker-2", **MODULE, JOBLEASE_TEST_RELEASE="2"):
            async with asyncio.timeout(20):
                while operator.output.count("the policy of handler 'import-rows'") < 2:
                    await asyncio.sleep(0.05)
            for _ in range(3):  # both report on
                name = submit("import-rows", parameters=parameters)
                policy = (await cluster.reaches(name, "Completed"))["status"]["policy"]
                assert (policy["limit"], policy["maxAttempts"]) == (2, 1)
                await asyncio.sleep(0.3)
    assert operator.output.count("the policy of handler 'import-rows'") == 2
