"""Statistics equal a count over the index, for any order of events, replicas, lost answers, restarts and rebuilds."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from azure.core.exceptions import AzureError
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from joblease.messages import JobEvent, now, rfc3339
from joblease.states import OUTCOMES, State
from joblease.storage import FEED_TABLE, INDEX_TABLE, STATS_TABLE
from joblease_dashboard.live.board import Board
from joblease_dashboard.live.workers import Workers
from joblease_dashboard.read_model.rebuild import complete_statistics, rebuild
from joblease_dashboard.read_model.statistics import Stats, totals
from joblease_dashboard.read_model.tally import LAST_BUCKET, Tally, bucket
from support.history import History
from support.jobs import Jobs
from support.statistics import Account, Crash, Replica

STORIES: dict[str, list[tuple[str, State]]] = {
    "completes": [("Submitted", State.SUBMITTED), ("Started", State.RUNNING), ("Completed", State.COMPLETED)],
    "cancelled": [("Submitted", State.SUBMITTED), ("Cancelled", State.CANCELLED)],
    "running": [("Submitted", State.SUBMITTED), ("Started", State.RUNNING)],
    "newer": [("Submitted", State.SUBMITTED), ("Skipped", State("Skipped"))],
    "handed over": [
        ("Submitted", State.SUBMITTED), ("Started", State.RUNNING), ("Interrupted", State.INTERRUPTED),
        ("Started", State.RUNNING), ("Failed", State.WORKER_CRASHED),
    ],
    "retries": [
        ("Submitted", State.SUBMITTED), ("Started", State.RUNNING), ("Retrying", State.RETRYING),
        ("Started", State.RUNNING), ("Step 1", State.RUNNING), ("Completed", State.COMPLETED),
    ],
}  # fmt: skip


@pytest.fixture
async def account(storage: str) -> AsyncIterator[Account]:
    async with Account(storage) as opened:
        await opened.prepare()
        yield opened


async def happened(account: Account, story: str, age: float = 3, after: float = 1) -> list[JobEvent]:
    """A job that was submitted so many hours ago, in the trail; nobody has heard of it yet."""
    jobs = cast(Jobs, SimpleNamespace(trail=account.trail))
    history = History(jobs, story.replace(" ", "-"), now() - timedelta(hours=age))
    for status, state in STORIES[story]:
        await history.happen(status, state, after=after, publish=False)
    return history.events


async def test_an_answer_that_is_lost_changes_no_count(account: Account) -> None:
    for fault in ("lost", "crash"):
        for at in range(4):
            replica = Replica(account)
            events = [each for _ in range(3) for each in await happened(account, "completes")]
            account.faults.plan = [""] * at + [fault]
            await replica.take(events)
            await account.check()
    assert sum(point["completed"] for point in await Stats(account.table(STATS_TABLE)).read("24h")) == 8 * 3


async def test_what_two_dashboards_hear_of_is_counted_once(account: Account) -> None:
    """Also after more than two days of hours with jobs, and when late jobs of old hours are heard of then."""
    replicas = [Replica(account), Replica(account)]
    stories = [await happened(account, "completes", age) for age in range(60, 0, -1)]
    late = [await happened(account, "completes", age + 0.1) for age in (59, 10)]
    for events in stories:
        await replicas[0].take(events[:2])
        await replicas[1].take(events[:1])
        await replicas[0].take(events[1:])
    for events in late:
        await asyncio.gather(*(each.take(events) for each in replicas))
    await account.check()
    assert totals(await Stats(account.table(STATS_TABLE)).read("7d"))["ended"] == 62


async def test_events_of_ended_jobs_that_come_again_cost_no_count(account: Account) -> None:
    events = await happened(account, "completes")
    replica = Replica(account)
    await replica.take(events)
    sent = account.faults.sent
    await replica.take(events)
    assert account.faults.sent - sent == 1  # their rows of the feed
    await Replica(account).take(events)
    await account.check()


async def test_a_batch_costs_one_transaction_a_table(account: Account) -> None:
    replica = Replica(account)
    await replica.take(await happened(account, "completes", after=0.01))
    jobs = [await happened(account, "completes", after=0.01) for _ in range(10)]
    sent = account.faults.sent
    await replica.take([event for events in jobs for event in events])
    assert account.faults.sent - sent == 3


async def test_the_fullest_hour_has_room(account: Account) -> None:
    """A million jobs a minute, as varied as can be: within 64 KiB a property and 1 MiB a row, and still written."""
    everything = Counter(dict.fromkeys(range(LAST_BUCKET + 1), 10**6))
    full = Tally(Counter(dict.fromkeys(OUTCOMES, 10**9)), everything, everything).encode()
    assert len(full) * 2 < 4096
    assert bucket(10**12) == LAST_BUCKET
    events = await happened(account, "completes")
    await account.writer().add(events)
    (hour,) = [row async for row in account.table(STATS_TABLE).query_entities("RowKey ge 'hour' and RowKey lt 'i'")]
    await account.table(STATS_TABLE).upsert_entity(dict(hour) | {f"m{n:02d}": full for n in range(60)} | {"hour": full})
    await account.writer().add(await happened(account, "completes", after=2))
    assert totals(await Stats(account.table(STATS_TABLE)).read("7d"))["ended"] >= 4 * 10**9 + 1


async def test_many_varied_jobs_of_one_hour(account: Account) -> None:
    """3,000 jobs that waited and ran for all kinds of times."""
    statistics = Stats(account.table(STATS_TABLE))
    begin = now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
    rows = [varied(number, begin + timedelta(seconds=number * 1.2)) for number in range(3_000)]
    await statistics.add(rows)
    await statistics.add(rows[:200])
    assert totals(await Stats(account.table(STATS_TABLE)).read("7d"))["ended"] == len(rows)
    (hour,) = [row async for row in account.table(STATS_TABLE).query_entities("RowKey ge 'hour' and RowKey lt 'i'")]
    assert len(json.dumps(dict(hour))) * 2 < 100_000


def varied(number: int, ended: datetime) -> dict[str, str]:
    def before(seconds: float) -> str:
        return rfc3339(ended - timedelta(seconds=seconds))

    waited, ran = 1.5 ** (number % 37), 1.5 ** (number % 31)
    times = {"submittedAt": before(waited + ran), "startedAt": before(ran), "runStartedAt": before(ran)}
    return {"jobId": f"job-{number}", "state": "Completed", "completedAt": rfc3339(ended), **times}


async def test_data_of_a_step_do_not_reach_the_lists(account: Account) -> None:
    """A handler's own words, of whatever type: with them, no row of that batch could be written."""
    history = History(cast(Jobs, SimpleNamespace(trail=account.trail)), "own-words")
    await history.happen("Submitted", State.SUBMITTED, publish=False, data={"priority": 7})
    await history.happen("Started", State.RUNNING, publish=False)
    await history.happen("Step 1", State.RUNNING, publish=False, data={"priority": [1], "startAfter": "x" * 40_000})
    await account.writer().add(history.events)
    ((row,),) = [await account.index_rows()]
    assert (row["priority"], "startAfter" in row) == (7, False)


async def test_jobs_that_an_older_release_has_indexed_are_counted_at_the_start(account: Account) -> None:
    """Its `JobStats` had a row per hour and replica, and nothing that says which jobs are in it."""
    jobs = [await happened(account, story) for story in STORIES]
    for events in jobs:
        await account.writer().add(events)
    old = account.table(STATS_TABLE)
    async for row in old.list_entities():
        await old.delete_entity(row)
    hour = (now() - timedelta(hours=3)).strftime("%Y-%m-%dT%H")
    data = {"1": {"ended": {"completed": 5}, "waited": {"1": 5}, "ran": {"1": 5}}}
    await old.upsert_entity({"PartitionKey": hour[:7], "RowKey": f"{hour}-0123abcd", "data": json.dumps(data)})
    account.faults.plan = ["lost"]
    for _ in range(3):
        with contextlib.suppress(AzureError):  # the dashboard tries again
            await complete_statistics(account)
    await account.check()
    assert await Stats(old).complete()
    sent = account.faults.sent
    await complete_statistics(account)
    assert account.faults.sent - sent == 1


async def test_after_a_restart_nobodys_failures_are_pushed_out(account: Account) -> None:
    mine, *others = [await happened(account, "handed over", 5 - number / 20) for number in range(61)]
    mine = [each.model_copy(update={"namespace": "team-a"}) for each in mine]
    await account.writer().add([event for history in (mine, *others) for event in history])
    board = Board(Workers())
    await board.restore(account.table(INDEX_TABLE))
    assert [row["jobId"] for row in board.failed("team-a")] == [mine[0].job_id]
    assert len(board.failed("default")) == 20
    board.add(mine[1])
    assert board.running("team-a") == []


async def test_a_rebuild_is_what_a_fresh_read_model_would_be(account: Account) -> None:
    """Whatever was lost, doubled or wrong before, and with a dashboard at work."""
    replica, jobs = Replica(account), [await happened(account, story, age) for story in STORIES for age in (1, 30, 90)]
    for events in jobs:
        await replica.take(events)
    await account.check()
    before = [await all_rows(account, table) for table in (INDEX_TABLE, FEED_TABLE, STATS_TABLE)]
    index, stats = account.table(INDEX_TABLE), account.table(STATS_TABLE)
    first, second, *_ = await account.index_rows()
    await index.delete_entity(first)
    await index.upsert_entity({"PartitionKey": "1", "RowKey": "old-layout", "jobId": "x", "state": "Completed"})
    await index.upsert_entity(dict(second) | {"state": "Failed", "nonsense": 1})
    async for row in stats.query_entities("RowKey ge 'hour' and RowKey lt 'i'"):
        await stats.upsert_entity(dict(row) | {"hour": Tally(Counter(failed=9)).encode()})
    fresh = [await happened(account, story, 2) for story in STORIES]
    assert await rebuild(account) == len(jobs) + len(fresh)
    await account.check()
    for events in fresh:
        await replica.take(events)
    await account.check()
    ids = {events[0].job_id for events in fresh}
    after = [await all_rows(account, table) for table in (INDEX_TABLE, FEED_TABLE)]
    assert [[row for row in rows if row["jobId"] not in ids] for rows in after] == before[:2]


async def all_rows(account: Account, table: str) -> list[dict[str, Any]]:
    return [dict(row) async for row in account.table(table).list_entities()]


@dataclass
class Deed:
    """Something that is done: which replicas get which events, what fails, whether a rebuild goes on beside it."""

    batches: list[list[tuple[int, int]]]
    plan: list[str]
    restarts: bool
    rebuilds: bool


JOBS = st.lists(
    st.tuples(
        st.sampled_from(sorted(STORIES)),
        st.sampled_from([0.2, 0.3, 1, 26, 70, 160, 800]),
        st.sampled_from([0.001, 1, 40, 900]),
    ),
    min_size=1,
    max_size=6,
)
EVENTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=8)
DEEDS = st.lists(
    st.builds(
        Deed,
        st.lists(EVENTS, min_size=2, max_size=2),
        st.lists(st.sampled_from(["", "", "lost", "crash"]), max_size=6),
        st.booleans(),
        st.sampled_from([False, False, False, True]),
    ),
    max_size=4,
)


def test_any_history_of_the_read_model(storage: str) -> None:
    @settings(
        max_examples=15, deadline=None, database=None, phases=(Phase.explicit, Phase.generate), derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(JOBS, DEEDS)
    @example([("completes", 0.2, 0.001)], [Deed([[(0, 1)], [(0, 0)]], [], restarts=False, rebuilds=False)])
    def check(jobs: list[tuple[str, float, float]], deeds: list[Deed]) -> None:
        asyncio.run(live(storage, jobs, deeds))

    check()


async def live(storage: str, jobs: list[tuple[str, float, float]], deeds: list[Deed]) -> None:
    async with Account(storage) as account:
        await account.prepare()
        histories = [await happened(account, *job) for job in jobs]
        replicas = [Replica(account), Replica(account)]
        for deed in deeds:
            account.faults.plan = list(deed.plan)
            if deed.restarts:
                replicas[0].restart()
            async with asyncio.TaskGroup() as group:
                for replica, chosen in zip(replicas, deed.batches, strict=True):
                    some = [histories[j % len(histories)] for j, _ in chosen]
                    group.create_task(replica.take([h[e % len(h)] for h, (_, e) in zip(some, chosen, strict=True)]))
                if deed.rebuilds:
                    group.create_task(rebuilt(account))
            if account.faults.crashes == 0:  # a job may be counted just before its row says that it has ended
                await account.check()
        account.faults.plan = []
        for number, history in enumerate(histories):  # each message is delivered at last
            await replicas[number % 2].take(history)
        await account.check()
        ended = [row for row in await account.index_rows() if State(row["state"]).terminal]
        assert len(ended) == sum(story != "running" for story, *_ in jobs)
        await rebuilt(account)
        await account.check()


async def rebuilt(account: Account) -> None:
    """Whoever has started it sees that it has failed, and starts it again."""
    while True:
        with contextlib.suppress(AzureError, Crash):
            await rebuild(account)
            return
