"""The dashboard's plain parts: why a job waits, the picture of its attempts, the form of a job, lengths of time."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from joblease.messages import HandlerDescription, JobEvent, WorkerReport, now, rfc3339
from joblease.states import State
from joblease_dashboard.actions.submission import fields_of, form_of, spec_of
from joblease_dashboard.live import log
from joblease_dashboard.live.board import Board
from joblease_dashboard.live.workers import Workers
from joblease_dashboard.pages.formats import NOTHING, seconds
from joblease_dashboard.pages.timeline import timeline
from joblease_dashboard.problems import Problem
from joblease_dashboard.read_model.rows import job_row
from joblease_dashboard.read_model.tally import Tally, bucket, tally_of

BEGIN = datetime(2026, 11, 24, 12, tzinfo=UTC)
STATES = {"Submitted": State.SUBMITTED, "Suspended": State.SUSPENDED, "Queued": State.QUEUED,
          "Deferred": State.QUEUED, "Retrying": State.RETRYING,
          "Interrupted": State.INTERRUPTED, "Completed": State.COMPLETED, "Failed": State.FAILED,
          "Cancelled": State.CANCELLED}  # fmt: skip


def event(job: str, status: str, at: float = 0, sequence: int = 1, **fields: Any) -> JobEvent:
    values = {"group": "g", "queue": "default", "namespace": "ns", "attempt": 1, "epoch": 1, **fields}
    return JobEvent(
        event_id=f"{job}.{sequence}", job_id=job, name=job, handler="h", submitted_at=BEGIN,
        sequence=sequence, status=status, state=STATES.get(status, State.RUNNING),
        timestamp=BEGIN + timedelta(seconds=at), **values,
    )  # fmt: skip


def report(worker: str, *jobs: str, queue: str = "default") -> WorkerReport:
    return WorkerReport(
        worker=worker, queue=queue, concurrency=1, lease_seconds=60, period_seconds=10, started_at=BEGIN,
        timestamp=BEGIN, jobs=list(jobs),
    )  # fmt: skip


def why(board: Board, job: str, *, everything: bool = True) -> str:
    return board.reasons(everything=everything).why(board.get(job) or {}).text


def test_why_a_job_waits_for_its_group() -> None:
    board = Board(Workers())
    board.add(event("holder", "Started", worker="w-1"))
    board.add(event("second", "Submitted", at=2))
    board.add(event("urgent", "Submitted", at=3, data={"priority": 5}))
    board.add(event("other", "Submitted", group="another"))
    assert why(board, "urgent") == "next in line: group g is taken by holder on w-1"
    assert why(board, "second") == "number 2 in line: group g is taken by holder on w-1"
    assert why(board, "other").startswith("not admitted yet")
    board.add(event("queued", "Queued"))  # a group with a limit of two: it has a slot, and waits for a worker
    assert why(board, "queued") == "no worker serves queue default"
    assert why(board, "urgent") == "next in line: group g is taken by holder on w-1 and 1 more"


def test_why_a_job_waits_tells_nothing_of_other_namespaces() -> None:
    workers = Workers()
    board = Board(workers)
    for stranger in ("secret-1", "secret-2"):
        board.add(event(stranger, "Started", worker="w-secret", namespace="theirs"))
        board.add(event(f"{stranger}-waits", "Submitted", namespace="theirs", data={"priority": 9}))
    board.add(event("mine", "Submitted"))
    board.add(event("also", "Submitted", at=1))
    taken = "among the jobs of ns: group g is taken by a job of another namespace"
    assert why(board, "mine", everything=False) == f"next in line {taken}"
    assert why(board, "also", everything=False) == f"number 2 in line {taken}"
    board.add(event("own", "Started", worker="w-1"))
    assert why(board, "mine", everything=False).endswith("taken by own on w-1 and a job of another namespace")
    assert why(board, "also").startswith("number 4 in line: group g is taken by")
    board.add(event("queued", "Queued"))
    workers.add(report("w-secret", "secret-1"))
    assert why(board, "queued", everything=False) == "all workers of queue default are busy"
    workers.add(report("w-2"))
    assert why(board, "queued", everything=False) == "about to be taken by a worker of queue default"


def test_a_suspended_job_and_one_whose_time_has_not_come_stand_in_no_line() -> None:
    board = Board(Workers())
    board.add(event("holder", "Started", worker="w-1"))
    board.add(event("suspended", "Suspended"))
    board.add(event("later", "Submitted", data={"startAfter": rfc3339(now() + timedelta(hours=1))}))
    board.add(event("waits", "Submitted", at=9))
    assert why(board, "waits").startswith("next in line")


def test_why_a_job_waits_for_a_worker() -> None:
    workers = Workers()
    board = Board(workers)
    board.add(event("job", "Queued"))
    workers.add(report("w-1"))
    assert why(board, "job") == "w-1 is about to take it"
    workers.add(report("w-1", "another"))
    assert why(board, "job") == "w-1 is busy"
    workers.add(report("w-2", "third"))
    assert why(board, "job") == "all 2 workers of queue default are busy"
    workers.add(report("w-2"))
    assert why(board, "job") == "about to be taken by one of 2 workers of queue default"
    board.add(event("job", "Interrupted", sequence=2))
    assert why(board, "job").startswith("its worker let go of it")
    board.add(event("job", "Deferred", sequence=3, message="another worker holds the lease"))
    assert why(board, "job").endswith("another worker holds the lease")


def test_why_a_job_waits_for_its_time() -> None:
    board = Board(Workers())
    due = rfc3339(now() + timedelta(hours=1))
    board.add(event("scheduled", "Submitted", data={"startAfter": due}))
    failed = "attempt 1 of 3 failed: ValueError; next attempt in 10 s"
    board.add(event("retrying", "Retrying", message=failed, data={"nextAttemptAt": due}))
    assert board.reasons(everything=True).why(board.get("scheduled") or {}).until == due
    reason = board.reasons(everything=True).why(board.get("retrying") or {})
    assert (reason.text, reason.until) == (f"{failed}, at", due)
    board.add(event("retrying", "Retrying", sequence=2, data={"nextAttemptAt": rfc3339(BEGIN)}))
    assert why(board, "retrying").startswith("not admitted yet")


def test_waiting_time_ends_with_the_first_run() -> None:
    history = [event("job", "Submitted", 0, 1), event("job", "Started", 1, 2), event("job", "Interrupted", 559, 3),
               event("job", "Started", 560, 4, epoch=2), event("job", "Completed", 570, 5, epoch=2)]  # fmt: skip
    tally = tally_of(job_row(history) or {})
    assert tally == Tally(Counter(completed=1), Counter([bucket(1)]), Counter([bucket(10)]))
    assert Tally.decode((tally + tally).encode()) == tally + tally


def test_what_comes_after_an_outcome_changes_nothing() -> None:
    """Only a newer release writes it, after a state that this one takes for an outcome."""
    ended = [event("job", "Submitted", 0, 1), event("job", "Failed", 1, 2)]
    assert job_row([*ended, event("job", "Started", 2, 3), event("job", "Completed", 3, 4)]) == job_row(ended)


def test_failures_of_one_namespace_push_out_none_of_another() -> None:
    board = Board(Workers())
    mine = event("mine", "Failed").model_copy(update={"namespace": "team-a"})
    board.add(mine)
    for number in range(60):
        board.add(event(f"other-{number}", "Failed", at=number + 1))
    assert [row["name"] for row in board.failed("team-a")] == ["mine"]
    assert [row["name"] for row in board.failed("ns")] == [f"other-{number}" for number in range(59, 39, -1)]
    assert [row["name"] for row in board.failed()][-1] == "mine"


def test_the_namespaces_whose_failures_are_kept_are_those_that_failed_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("joblease_dashboard.live.board.MAX_NAMESPACES", 2)
    board = Board(Workers())
    for number, name in enumerate(("old", "newest", "new")):
        at = {"old": 0, "newest": 9, "new": 1}[name]
        board.add(event(f"job-{number}", "Failed", at=at).model_copy(update={"namespace": name}))
    assert [row["namespace"] for row in board.failed()] == ["newest", "new"]


def test_ten_thousand_waiting_jobs_are_explained_at_once() -> None:
    board = Board(Workers())
    for number in range(10_000):
        board.add(event(f"job-{number}", "Submitted", at=number))
    board.add(event("holder", "Started", worker="w-1"))
    reasons = board.reasons(everything=True)
    assert all("taken by holder" in reasons.why(row).text for row in board.waiting())


def test_a_picture_has_a_lane_for_each_attempt() -> None:
    picture = timeline(
        [
            event("job", "Submitted", attempt=0, epoch=0),
            event("job", "Started", 10, 2, worker="w-1"),
            event("job", "Step 1", 15, 3, message="half"),
            event("job", "Retrying", 20, 4),
            event("job", "Started", 30, 5, attempt=2, epoch=2, worker="w-2"),
            event("job", "Interrupted", 60, 6, attempt=2, epoch=2),
            event("job", "Started", 60, 7, attempt=3, epoch=3, worker="w-3"),
            event("job", "Completed", 100, 8, attempt=3, epoch=3),
        ]
    )
    assert [(lane.attempt, lane.worker, lane.outcome.kind) for lane in picture.lanes] == [
        (1, "w-1", "failed"), (2, "w-2", "interrupted"), (3, "w-3", "completed"),
    ]  # fmt: skip
    assert [(span.kind, span.start, span.width) for span in picture.lanes[1].spans] == [
        ("waiting", 20, 10), ("interrupted", 30, 30),
    ]  # fmt: skip
    assert picture.lanes[0].steps == [(15, "Step 1: half")]
    spans = [span for lane in picture.lanes for span in lane.spans]
    assert all(span.start >= 0 and span.start + span.width <= 100.001 for span in spans)
    assert picture.ticks[1] == (30, 30)


@pytest.mark.parametrize(
    ("events", "kinds"),
    [
        ([event("j", "Submitted")], ["waiting"]),
        ([event("j", "Submitted"), event("j", "Cancelled", 5, 2)], ["cancelled"]),
        ([event("j", "Submitted"), event("j", "Failed", 0, 2)], ["failed"]),
        ([event("j", "Submitted"), event("j", "Started", 5, 2)], ["running"]),
        (  # the worker was lost too often: what ended the attempt ended the job
            [event("j", "Submitted"), event("j", "Started", 5, 2), event("j", "Interrupted", 9, 3),
             event("j", "Failed", 9, 4)],
            ["interrupted"],
        ),
    ],
)  # fmt: skip
def test_a_picture_of_a_job_that_never_got_far(events: list[JobEvent], kinds: list[str]) -> None:
    assert [lane.outcome.kind for lane in timeline(events).lanes] == kinds


def test_a_picture_of_many_attempts_shows_the_last_ones() -> None:
    events = [event("j", "Submitted", epoch=0)]
    for attempt in range(1, 101):
        fields = {"attempt": attempt, "epoch": attempt}
        events.append(event("j", "Started", attempt * 10, 2 * attempt, **fields))
        events.append(event("j", "Retrying", attempt * 10 + 5, 2 * attempt + 1, **fields))
    picture = timeline(events)
    assert (len(picture.lanes), picture.hidden, picture.lanes[0].spans[0].start) == (25, 76, 0)


DESCRIPTION = HandlerDescription(
    name="h",
    parameters={
        "properties": {
            "path": {"type": "string"}, "width": {"type": "integer", "default": 800, "minimum": 1},
            "fast": {"type": "boolean", "default": False}, "mode": {"enum": ["a", "b"], "type": "string"},
            "list": {"type": "array"}, "unknown": {},
        },
        "required": ["path"],
    },
)  # fmt: skip


def test_a_form_is_made_of_a_handlers_parameters() -> None:
    fields = {each.parameter: each for each in fields_of(DESCRIPTION)}
    assert [each.kind for each in fields.values()] == ["text", "integer", "choice", "choice", "json", "json"]
    assert (fields["width"].default, fields["width"].least, fields["path"].required) == ("800", "1", True)
    assert fields["mode"].choices == ('"a"', '"b"')
    assert fields_of(None) == fields_of(HandlerDescription(name="says-nothing")) == []


def test_a_filled_form_is_a_spec_and_a_spec_fills_the_form() -> None:
    form = {
        "handler": "h", "parameter.path": "x.csv", "json.width": "640", "json.fast": "", "json.list": "[1, 2]",
        "parameters": '{"more": null}', "group": "g", "limit": "2", "maxAttempts": "5", "priority": "3",
        "queue": "gpu", "activeDeadlineSeconds": "60", "namespace": "ns", "name": "n",
    }  # fmt: skip
    spec = spec_of(form)
    assert spec == {
        "handler": "h", "parameters": {"path": "x.csv", "width": 640, "list": [1, 2], "more": None}, "queue": "gpu",
        "concurrency": {"group": "g", "limit": 2}, "retry": {"maxAttempts": 5}, "priority": 3,
        "activeDeadlineSeconds": 60,
    }  # fmt: skip
    again = {"handler": "h", **form_of(spec, fields_of(DESCRIPTION))}
    assert spec_of(again) == spec
    unfitting = {**spec, "parameters": {"path": 7}}  # no text, as the form would have it: kept as it was all the same
    assert spec_of({"handler": "h", **form_of(unfitting, fields_of(DESCRIPTION))}) == unfitting


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"json.width": "{"}, "width: not JSON"),
        ({"json.width": "NaN"}, "width: not JSON"),
        ({"parameters": "[1]"}, "must be a JSON object"),
        ({"parameters": '{"a": "' + "x" * 70_000 + '"}'}, "at most 65536 fit"),
        ({"priority": "12"}, "priority"),
        ({"startAfter": "tomorrow"}, "startAfter"),
        ({"handler": "No Name"}, "handler"),
    ],
)
def test_what_is_wrong_with_a_form_is_named(form: dict[str, str], said: str) -> None:
    with pytest.raises(Problem, match=said):
        spec_of({"handler": "h", **form})


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (None, NOTHING), (0, "0 s"), (0.1234, "0.12 s"), (5.04, "5.0 s"), (59, "59 s"), (60, "1 min"),
        (61.4, "1 min 1 s"), (3599.9, "1 h"), (3725, "1 h 2 min"), (86_400, "1 d"), (200_000, "2 d 8 h"),
    ],
)  # fmt: skip
def test_lengths_of_time(length: float | None, text: str) -> None:
    assert seconds(length) == text


def test_a_page_hears_again_of_what_the_read_model_may_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all events of the last two seconds, and not of many more."""
    chance, clock, read = Random(1), [100.0], [(0.0, -1)]
    monkeypatch.setattr(log, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    read_log = log.Log(Mock(), size=1_000)
    for _ in range(5_000):
        clock[0] += chance.choice([0.001, 0.1, 0.5, 3, 7])
        if chance.random() < 0.8:
            read.append((clock[0], read[-1][1] + 1))
            read_log._take(read[-1][1], str(read[-1][1]), b"")
        position = int(read_log.page_position())
        recent = [number for at, number in read[-500:] if clock[0] - at < log.READ_MODEL_SECONDS]
        assert all(number > position for number in recent)
        old = [number for at, number in read[-500:] if clock[0] - at > 5 * log.READ_MODEL_SECONDS]
        assert len(old) < 10 or position >= old[-10]
