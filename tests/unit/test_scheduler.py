"""The scheduler: by example, exhaustively for small cases, and against a naive model by property."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations, product

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from joblease.states import State
from joblease_operator.scheduler import Admission, Candidate, Scheduler

START = datetime(2026, 1, 1, tzinfo=UTC)


def job(
    uid: str,
    *,
    group: str = "g",
    limit: int = 1,
    priority: int = 0,
    age: int = 0,
    after: int | None = None,
    suspended: bool = False,
    order: int = 0,
    queue: str = "q",
) -> Candidate:
    not_before = None if after is None else START + timedelta(seconds=after)
    submitted = START - timedelta(seconds=age)
    return Candidate(uid, f"ns/{uid}", group, limit, submitted, priority, not_before, suspended, order, queue)


def admitted(scheduler: Scheduler, seconds: int = 0) -> list[str]:
    return [admission.uid for admission in scheduler.admit(START + timedelta(seconds=seconds))]


def drain(scheduler: Scheduler) -> list[str]:
    """Admit and end one job after the other."""
    order = []
    while batch := admitted(scheduler):
        order += batch
        for uid in batch:
            scheduler.remove(uid)
    return order


def test_one_at_a_time_by_priority_then_age() -> None:
    jobs = [job("a", age=1), job("b", priority=5), job("c", age=9), job("d", priority=5, age=2)]
    for arrival in permutations(jobs):
        scheduler = Scheduler()
        for each in arrival:
            scheduler.enqueue(each)
        assert drain(scheduler) == ["d", "b", "c", "a"]


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_as_many_as_the_limit_with_slots_of_their_own(limit: int) -> None:
    scheduler = Scheduler()
    for number in range(5):
        scheduler.enqueue(job(str(number), limit=limit, age=-number))
    first = scheduler.admit(START)
    assert [each.uid for each in first] == [str(number) for number in range(limit)]
    assert sorted(each.slot for each in first if each.slot is not None) == list(range(limit))
    scheduler.remove("0")
    assert scheduler.admit(START) == [Admission(str(limit), 0)]  # the slot that became free


def test_without_a_limit_nothing_waits_for_others() -> None:
    scheduler = Scheduler()
    scheduler.enqueue(job("limited-1"))
    scheduler.enqueue(job("limited-2"))
    for number in range(10):
        scheduler.enqueue(job(f"free-{number}", limit=0))
    assert len(admitted(scheduler)) == 11
    scheduler.remove("limited-1")
    assert admitted(scheduler) == ["limited-2"]


def test_groups_do_not_wait_for_each_other() -> None:
    scheduler = Scheduler()
    for group in ("one", "two"):
        scheduler.enqueue(job(f"{group}-a", group=group))
        scheduler.enqueue(job(f"{group}-b", group=group, age=-1))
    assert sorted(admitted(scheduler)) == ["one-a", "two-a"]


def test_nobody_overtakes_a_job_with_a_smaller_limit() -> None:
    scheduler = Scheduler()
    scheduler.enqueue(job("wide-1", limit=3, age=9))
    assert admitted(scheduler) == ["wide-1"]
    scheduler.enqueue(job("narrow", limit=1, age=5))
    scheduler.enqueue(job("wide-2", limit=3, age=1))
    assert admitted(scheduler) == []
    scheduler.remove("wide-1")
    assert admitted(scheduler) == ["narrow"]
    scheduler.remove("narrow")
    assert admitted(scheduler) == ["wide-2"]


def test_times_are_kept() -> None:
    scheduler = Scheduler()
    scheduler.enqueue(job("later", after=10))
    scheduler.enqueue(job("sooner", after=5, age=-1))
    assert scheduler.next_due() == START + timedelta(seconds=5)
    assert admitted(scheduler, 4) == []
    assert admitted(scheduler, 5) == ["sooner"]
    assert scheduler.next_due() == START + timedelta(seconds=10)
    assert admitted(scheduler, 11) == []  # due, but the group is taken
    assert scheduler.next_due() is None
    scheduler.remove("sooner")
    assert admitted(scheduler, 11) == ["later"]


def test_a_suspended_job_waits_until_it_is_resumed() -> None:
    scheduler = Scheduler()
    scheduler.enqueue(job("held", suspended=True))
    scheduler.enqueue(job("next", age=-1))
    assert admitted(scheduler) == ["next"]
    scheduler.remove("next")
    assert admitted(scheduler) == []
    scheduler.enqueue(job("held"))
    assert admitted(scheduler) == ["held"]


def test_a_changed_priority_counts() -> None:
    scheduler = Scheduler()
    for uid in ("a", "b", "c"):
        scheduler.enqueue(job(uid, age=ord("z") - ord(uid)))
    scheduler.enqueue(job("c", age=ord("z") - ord("c"), priority=9))
    assert drain(scheduler) == ["c", "a", "b"]


def test_a_retry_gives_up_its_slot_and_stands_in_line_again() -> None:
    scheduler = Scheduler()
    scheduler.enqueue(job("a", age=5))
    scheduler.enqueue(job("b", age=1))
    assert admitted(scheduler) == ["a"]
    scheduler.enqueue(job("a", age=5, after=30))
    assert admitted(scheduler) == ["b"]
    scheduler.remove("b")
    assert admitted(scheduler, 29) == []
    assert admitted(scheduler, 30) == ["a"]


def test_after_a_restart_running_jobs_hold_their_slots() -> None:
    scheduler = Scheduler()
    scheduler.hold_slot(job("running"))
    scheduler.hold_slot(job("running"))
    scheduler.enqueue(job("waiting"))
    assert admitted(scheduler) == []
    assert scheduler.why_waiting("waiting") == (
        State.WAITING_FOR_GROUP,
        "waits for group 'g' (limit 1), held by ns/running",
    )
    scheduler.remove("running")
    assert admitted(scheduler) == ["waiting"]


def said(scheduler: Scheduler, uid: str) -> str:
    _, text = scheduler.why_waiting(uid) or (None, "")
    return text


def test_it_says_why() -> None:
    scheduler = Scheduler()
    scheduler.enqueue(job("held", suspended=True))
    scheduler.enqueue(job("later", after=5))
    assert scheduler.why_waiting("held") == (State.SUSPENDED, "held back by spec.suspend")
    assert scheduler.why_waiting("later") == (State.SCHEDULED, "waits until 2026-01-01T00:00:05Z")
    for number in range(5):
        scheduler.hold_slot(job(f"h{number}", limit=5))
    scheduler.enqueue(job("full", limit=5))
    assert said(scheduler, "full") == "waits for group 'g' (limit 5), held by ns/h0, ns/h1, ns/h2 and others"


def test_it_tells_nothing_of_other_namespaces() -> None:
    scheduler = Scheduler()
    for number in range(3):
        scheduler.hold_slot(replace(job(f"secret-{number}", limit=4), label=f"theirs/secret-{number}"))
    scheduler.enqueue(job("waits", limit=3))
    assert said(scheduler, "waits") == "waits for group 'g' (limit 3), held by a job of another namespace"
    scheduler.hold_slot(job("own", limit=4))
    assert said(scheduler, "waits") == "waits for group 'g' (limit 3), held by ns/own and a job of another namespace"


def test_it_says_what_a_job_really_waits_for() -> None:
    scheduler = Scheduler()
    scheduler.hold_slot(job("small", limit=1))
    scheduler.enqueue(job("waits", limit=3))
    assert (
        said(scheduler, "waits")
        == "waits for group 'g' (limit 3), held by ns/small; a job that holds it has a smaller limit"
    )
    scheduler = Scheduler()
    scheduler.hold_slot(job("large", limit=3))
    scheduler.enqueue(job("first", limit=1, age=5))
    scheduler.enqueue(job("waits", limit=3))
    assert admitted(scheduler) == []
    assert said(scheduler, "waits").endswith("held by ns/large; it stands behind others in line")


def test_jobs_of_the_same_second_go_as_the_api_server_took_them() -> None:
    jobs = [job(uid, order=order) for uid, order in (("c", 7), ("a", 8), ("b", 10), ("d", 100))]
    for arrival in permutations(jobs):
        scheduler = Scheduler()
        for each in arrival:
            scheduler.enqueue(each)
        assert drain(scheduler) == ["c", "a", "b", "d"]


def test_whom_a_job_held_up_goes_when_that_one_does_not_wait_any_more() -> None:
    for change in ("removed", "suspended", "later"):
        scheduler = Scheduler()
        scheduler.enqueue(job("wide-1", limit=3, age=9))
        assert admitted(scheduler) == ["wide-1"]
        scheduler.enqueue(job("narrow", limit=1, age=5))
        scheduler.enqueue(job("wide-2", limit=3, age=1))
        assert admitted(scheduler) == []
        if change == "removed":
            scheduler.remove("narrow")
        else:
            later = 10 if change == "later" else None
            scheduler.enqueue(job("narrow", limit=1, age=5, suspended=change == "suspended", after=later))
        assert admitted(scheduler) == ["wide-2"]


def test_a_queue_that_nobody_serves_holds_up_nobody() -> None:
    scheduler = Scheduler()
    for uid, queue, age in (("typo-1", "typo", 9), ("typo-2", "typo", 8), ("served", "q", 1)):
        scheduler.enqueue(job(uid, queue=queue, age=age))
    assert admitted(scheduler) == ["typo-1"]
    scheduler.pass_over({"typo"})
    assert scheduler.slot("typo-1") == 0
    assert scheduler.give_back("typo-1")
    assert not scheduler.give_back("typo-1")
    assert scheduler.is_admitted("typo-1")
    assert admitted(scheduler) == ["served"]  # nobody of the same queue
    for uid in ("typo-1", "typo-2"):
        assert scheduler.why_waiting(uid) == (State.QUEUED, "no worker serves queue 'typo'")
    assert scheduler.why_waiting("served") is None
    scheduler.remove("served")
    assert admitted(scheduler) == []
    scheduler.pass_over(())
    assert admitted(scheduler) == ["typo-2"]
    scheduler.hold_slot(job("typo-1", queue="typo", age=9))  # it has started all the same: the lease decides
    assert sorted(slot for uid in ("typo-1", "typo-2") if (slot := scheduler.slot(uid)) is not None) == [0, 1]
    scheduler.enqueue(job("next"))
    scheduler.remove("typo-2")
    assert admitted(scheduler) == []
    scheduler.remove("typo-1")
    assert admitted(scheduler) == ["next"]


def test_no_call_admits_more_than_its_steps_and_nothing_is_forgotten() -> None:
    scheduler = Scheduler()
    for number in range(50):
        scheduler.enqueue(job(f"free-{number:02}", limit=0, after=1 if number % 2 else None))
        scheduler.enqueue(job(f"gone-{number:02}", limit=1, age=9))
    scheduler.enqueue(job("last"))
    for number in range(50):
        scheduler.remove(f"gone-{number:02}")
    found: list[str] = []
    calls = 0
    while len(found) < 51:
        batch = scheduler.admit(START + timedelta(seconds=2), steps=7)
        assert len(batch) <= 7
        found += [each.uid for each in batch]
        calls += 1
        assert calls < 50
    assert not scheduler.behind or scheduler.admit(START + timedelta(seconds=2)) == []
    assert not scheduler.behind
    assert sorted(found) == sorted([*(f"free-{number:02}" for number in range(50)), "last"])


def test_a_job_whose_queue_is_served_no_more_holds_up_nobody() -> None:
    scheduler = Scheduler()
    scheduler.enqueue(job("first", limit=2, priority=9))
    assert [each.uid for each in scheduler.admit(START)] == ["first"]
    scheduler.enqueue(job("alone", limit=1, priority=5, queue="r"))
    scheduler.enqueue(job("second", limit=2))
    assert scheduler.admit(START) == []
    scheduler.pass_over({"r"})
    assert [each.uid for each in scheduler.admit(START)] == ["second"]


def test_groups_that_nobody_uses_are_forgotten() -> None:
    scheduler = Scheduler()
    for number in range(10):
        scheduler.enqueue(job(str(number), group=f"g{number}"))
    drain(scheduler)
    assert not scheduler._groups


@pytest.mark.parametrize(
    ("first", "second", "third"),
    list(product([(1, 0), (1, 9), (2, 0), (2, 9), (0, 0)], repeat=3)),
)
def test_every_mix_of_three_jobs_ends(first: tuple[int, int], second: tuple[int, int], third: tuple[int, int]) -> None:
    scheduler = Scheduler()
    for number, (limit, priority) in enumerate((first, second, third)):
        scheduler.enqueue(job(str(number), limit=limit, priority=priority, age=-number))
    assert sorted(drain(scheduler)) == ["0", "1", "2"]


class AgainstTheModel(RuleBasedStateMachine):
    """Whatever happens in whatever order, the scheduler does what the naive rules say."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler()
        self.waiting: dict[str, Candidate] = {}
        self.running: dict[str, tuple[Candidate, int | None]] = {}
        self.lent: set[str] = set()
        """Running, and without a slot until they start."""
        self.unserved: frozenset[str] = frozenset()
        self.now = START
        self.count = 0

    @rule(
        group=st.sampled_from(["x", "y"]),
        limit=st.integers(0, 3),
        priority=st.integers(0, 2),
        delay=st.none() | st.integers(1, 20),
        suspended=st.booleans(),
        order=st.integers(0, 5),
        queue=st.sampled_from(["q", "r"]),
    )
    def submit(
        self,
        group: str,
        limit: int,
        priority: int,
        delay: int | None,
        suspended: bool,  # noqa: FBT001
        order: int,
        queue: str,
    ) -> None:
        self.count += 1
        uid = f"{self.count:04d}"
        due = None if delay is None else self.now + timedelta(seconds=delay)
        candidate = Candidate(uid, uid, group, limit, self.now, priority, due, suspended, order, queue)
        self.waiting[uid] = candidate
        self.scheduler.enqueue(candidate)

    @rule(data=st.data(), priority=st.integers(0, 2), suspended=st.booleans())
    def change(self, data: st.DataObject, priority: int, suspended: bool) -> None:  # noqa: FBT001
        if self.waiting:
            old = self.waiting[data.draw(st.sampled_from(sorted(self.waiting)))]
            due = old.not_before if old.not_before and old.not_before > self.now else None
            new = replace(old, priority=priority, not_before=due, suspended=suspended)
            self.waiting[old.uid] = new
            self.scheduler.enqueue(new)

    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        if self.running:
            uid = data.draw(st.sampled_from(sorted(self.running)))
            del self.running[uid]
            self.lent.discard(uid)
            self.scheduler.remove(uid)

    @rule(queues=st.frozensets(st.sampled_from(["q", "r"])))
    def serve(self, queues: frozenset[str]) -> None:
        self.unserved = queues
        self.scheduler.pass_over(queues)

    @rule(data=st.data())
    def lend(self, data: st.DataObject) -> None:
        if self.running:
            uid = data.draw(st.sampled_from(sorted(self.running)))
            assert self.scheduler.give_back(uid) == bool(self.running[uid][0].limit and uid not in self.lent)
            self.lent.add(uid)

    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        if self.running:
            uid = data.draw(st.sampled_from(sorted(self.running)))
            self.scheduler.hold_slot(self.running[uid][0])
            self.lent.discard(uid)
            self.running[uid] = self.running[uid][0], self.scheduler.slot(uid)

    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        if self.waiting:
            uid = data.draw(st.sampled_from(sorted(self.waiting)))
            del self.waiting[uid]
            self.scheduler.remove(uid)

    @rule(data=st.data(), delay=st.integers(1, 20))
    def retry(self, data: st.DataObject, delay: int) -> None:
        if self.running:
            old, _ = self.running.pop(data.draw(st.sampled_from(sorted(self.running))))
            due = self.now + timedelta(seconds=delay)
            again = replace(old, not_before=due, suspended=False)
            self.lent.discard(old.uid)
            self.waiting[old.uid] = again
            self.scheduler.enqueue(again)

    @rule(seconds=st.integers(0, 30))
    def admit(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        expected = self._expected()
        admissions = self.scheduler.admit(self.now)
        assert {each.uid for each in admissions} == expected
        assert not self.scheduler.behind
        for each in admissions:
            candidate = self.waiting.pop(each.uid)
            assert each.slot == self._lowest_free(candidate)
            self.running[each.uid] = (candidate, each.slot)
            assert self.scheduler.slot(each.uid) == each.slot
        for group in {self.running[each.uid][0].group for each in admissions if each.slot is not None}:
            limits = [each.limit for each, _ in self._holding() if each.group == group and each.limit]
            assert len(limits) <= min(limits)  # what started without a slot may break it, an admission may not

    def _lowest_free(self, candidate: Candidate) -> int | None:
        taken = {slot for each, slot in self._holding() if each.group == candidate.group}
        return next(slot for slot in range(len(taken) + 1) if slot not in taken) if candidate.limit else None

    def _expected(self) -> set[str]:
        ready = [
            each
            for each in self.waiting.values()
            if not each.suspended and (each.not_before is None or each.not_before <= self.now)
        ]
        chosen = {each.uid for each in ready if each.limit == 0}
        for group in ("x", "y"):
            limits = [each.limit for each, _ in self._holding() if each.group == group and each.limit]
            served = [e for e in ready if e.queue not in self.unserved]
            line = sorted((e for e in served if e.group == group and e.limit), key=lambda e: e.key)
            for each in line:
                if len(limits) >= min([each.limit, *limits]):
                    break
                chosen.add(each.uid)
                limits.append(each.limit)
        return chosen

    def _holding(self) -> list[tuple[Candidate, int | None]]:
        return [self.running[uid] for uid in self.running if uid not in self.lent]

    @invariant()
    def slots_are_never_shared(self) -> None:
        for group in ("x", "y"):
            slots = [slot for each, slot in self._holding() if each.group == group and slot is not None]
            assert len(slots) == len(set(slots))

    @invariant()
    def nothing_is_lost(self) -> None:
        assert self.scheduler.waiting == len(self.waiting)
        assert self.scheduler.admitted == len(self.running)
        for uid in self.waiting:
            assert self.scheduler.why_waiting(uid)

    @invariant()
    def the_next_time_is_known(self) -> None:
        times = [each.not_before for each in self.waiting.values() if each.not_before and each.not_before > self.now]
        due = self.scheduler.next_due()
        assert not times or (due is not None and due <= min(times))


TestAgainstTheModel = AgainstTheModel.TestCase
TestAgainstTheModel.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
