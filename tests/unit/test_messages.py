from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from joblease.messages import JobEvent, JobMessage, Status, rfc3339
from joblease.rows import join_text, split_text
from joblease.states import State
from pydantic import ValidationError

MOMENT = datetime(2026, 11, 24, 3, 4, 5, 600, tzinfo=UTC)
EVENT = JobEvent(
    event_id="1.0000000001", job_id="1", namespace="team-a", name="n", handler="h", queue="default", group="default",
    submitted_at=MOMENT, sequence=1, status="Step 12", state=State.RUNNING, timestamp=MOMENT, attempt=1, epoch=1,
)  # fmt: skip


def test_times_are_utc_with_microseconds_and_sort_as_text() -> None:
    assert rfc3339(MOMENT) == "2026-11-24T03:04:05.000600Z"
    assert rfc3339(MOMENT.astimezone(timezone(timedelta(hours=9)))) == rfc3339(MOMENT)


def test_an_event_survives_the_wire() -> None:
    assert JobEvent.model_validate_json(EVENT.encode()) == EVENT
    assert b'"submittedAt":"2026-11-24T03:04:05.000600Z"' in EVENT.encode()


def test_all_steps_share_a_routing_key() -> None:
    assert EVENT.routing_key == "team-a.Step"
    assert EVENT.model_copy(update={"status": Status.STARTED}).routing_key == "team-a.Started"


def test_a_newer_writers_field_is_ignored() -> None:
    body = EVENT.encode()[:-1] + b',"fieldOfTomorrow":1}'
    assert JobEvent.model_validate_json(body) == EVENT


@pytest.mark.parametrize(
    "change",
    [{"version": 2}, {"limit": -1}, {"group": "../x"}, {"job_id": "a/b"}, {"handler": None}],
)
def test_a_job_message_is_checked(change: dict[str, object]) -> None:
    fields = {
        "job_id": "1", "namespace": "default", "name": "n", "handler": "h", "queue": "q", "group": "g", "limit": 1,
    }  # fmt: skip
    assert JobMessage(**fields).message_id(2) == "1.2"
    with pytest.raises(ValidationError):
        JobMessage(**(fields | change))


@given(st.text(max_size=1_000).map(lambda text: text * 100))
@example("😀" * 40_000)
@example("a" * 14_999 + "😀" * 20_000)
@example("a" * 29_999 + "😀" * 20_000)
def test_long_texts_are_split_and_joined(text: str) -> None:
    row = split_text("data", text)
    assert join_text("data", row) == text
    assert all(len(chunk.encode("utf-16-le")) <= 64 * 1024 for chunk in row.values())
