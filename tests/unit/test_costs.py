"""What the documents say a job costs, and what they conclude, is what the figures in `bench/costs.py` say."""

import inspect
import re
from pathlib import Path

import costs
import document
from costs import Cost, Job, Site
from joblease import topology
from joblease.messages import Status
from joblease_dashboard.read_model import indexer
from joblease_dashboard.read_model.parts import parts
from joblease_operator import queue, status_writer
from joblease_operator.settings import OperatorSettings
from joblease_worker import keeper
from joblease_worker.settings import WorkerSettings
from scale import FEED, GROUP, INDEX, KEPT, OPERATOR_CPU, capacity

ROOT = Path(__file__).parent.parent.parent
README, SCALE = (ROOT / "README.md").read_text(), (ROOT / "docs" / "scale.md").read_text()
DAY = 86_400
IN_ORDER = (
    costs.SUBMIT, costs.ADMIT, costs.WAIT, costs.RUN, costs.SLOT, costs.STEP, costs.DESCRIBE, costs.RENEW, costs.HEAR,
    costs.SHOW, costs.PROGRESS, costs.REFLECT, costs.RESYNC, costs.INDEX, costs.DEFER, costs.RECOVER,
)  # fmt: skip
"""As the table of `docs/scale.md` has them."""
ROOM = 0.7
"""How much of a part's limit the page plans with."""


def table(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading of `docs/scale.md`, below its head."""
    lines = SCALE.split(f"\n## {heading}\n", 1)[1].split("\n\n")
    rows = next(text for text in lines if text.lstrip().startswith("|")).strip().splitlines()
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def number(text: str) -> float:
    return float(text.replace(",", ""))


def test_the_readme_tells_the_requests_of_a_job() -> None:
    told = re.search(r"(\d+) storage requests of the worker and (\d+) of the operator for a job without steps", README)
    assert told
    assert int(told[1]) == Job(limited=True).worker().storage
    assert int(told[2]) == Job(limited=True).operator().storage
    assert costs.WAIT.storage == 1
    assert "one more when it has to wait" in README


def test_the_page_tells_each_cost() -> None:
    rows = table("What a job costs")
    assert len(rows) == len(IN_ORDER)
    for (_, what, *cells), cost in zip(rows, IN_ORDER, strict=True):
        assert Cost(*map(number, cells)) == cost, what


def test_the_page_adds_them_up() -> None:
    job = Job(limited=True)
    both, whole = job.operator() + job.worker(), job.total()
    assert f"takes {both.storage:g} storage requests, {whole.published:g} confirmed messages" in SCALE
    assert f"and {whole.api:g} or {(whole + costs.SHOW).api:g} API writes" in SCALE
    renewals = 1000 * 2 / costs.RENEW_SECONDS  # a session and a slot each
    assert f"groups with limits, make {renewals:g} requests a second" in SCALE
    assert f"{renewals / costs.ACCOUNT.value:.1%}".replace("%", " %") in SCALE
    assert f"{capacity(Job(), Site())[FEED]:g} jobs a second without steps are the end" in SCALE


def test_the_page_cites_each_limit() -> None:
    for limit in (costs.ACCOUNT, costs.PARTITION, costs.BLOB, costs.QUEUE, costs.OBJECTS, costs.ETCD_WRITES):
        row = next(line for line in SCALE.splitlines() if limit.url in line)
        assert f"{limit.value:,.0f}" in row
    assert costs.ETCD_BYTES.url in SCALE
    assert f"{costs.ETCD_BYTES.value / (1 << 30):g} GiB" in SCALE


def test_what_is_recommended_has_room() -> None:
    rows = table("In short")
    ttl: float = costs.TTL_SECONDS
    assert len(rows) == 5
    for a_day, a_second, advice in rows[:-1]:
        assert abs(number(a_second) * DAY / number(a_day) - 1) < 0.2
        if told := re.search(r"(?:ttlSecondsAfterFinished: |TTL )(\d+)", advice):
            ttl = float(told[1])
        parts = capacity(Job(1), Site(), ttl=ttl)
        assert number(a_day) / DAY <= parts[KEPT] * 1.001
        assert number(a_day) / DAY <= ROOM * min(parts[part] for part in (OPERATOR_CPU, INDEX, FEED))


def test_one_at_a_time_is_as_fast_as_the_page_says() -> None:
    told = re.search(r"limit 1, as it comes\): about (\d+) jobs a second at most", SCALE)
    assert told
    turns = capacity(Job(limited=True, waits=True), Site(), 1)[GROUP]
    assert abs(turns / float(told[1]) - 1) < 0.2
    long = capacity(Job(10, limited=True, waits=True), Site(), 1)[GROUP]
    assert f"10 s are {round(long * DAY, -2):,.0f} a day" in SCALE


def test_the_page_shows_what_was_measured() -> None:
    for path in document.PAGES:
        assert document.page(path.read_text()) == path.read_text(), f"{path.name}: make bench-docs"


def test_the_figures_are_those_of_the_programs() -> None:
    worker, operator = WorkerSettings(), OperatorSettings()
    assert worker.lease_seconds == costs.LEASE_SECONDS
    assert worker.renew_seconds == costs.RENEW_SECONDS
    assert worker.defer_seconds == costs.DEFER_SECONDS
    assert keeper.DESCRIBE_AFTER_SECONDS == costs.DESCRIBE_SECONDS
    assert len(parts([None] * 1000)[0]) == costs.INDEX_BATCH
    assert indexer.BATCH_SECONDS == costs.INDEX_BATCH_SECONDS
    assert queue.WORKERS == costs.RECONCILES
    assert f"workers={costs.STATUS_WRITES})" in inspect.getsource(status_writer.StatusWriter)
    assert status_writer.DEBOUNCE_SECONDS == costs.DEBOUNCE_SECONDS
    events = (Status.SUBMITTED, Status.QUEUED, Status.STARTED, Status.COMPLETED)
    assert len(events) == costs.EVENTS_OF_A_JOB
    assert sum(status not in topology._OF_OPERATOR for status in events) == costs.HEARD_OF_A_JOB
    assert operator.operator_progress_seconds == costs.PROGRESS_SECONDS
    assert operator.operator_resync_seconds == costs.RESYNC_SECONDS
    assert operator.operator_ttl_seconds_after_finished == costs.TTL_SECONDS
