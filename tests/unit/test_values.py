"""What a handler gives: whatever passes can be stored and sent by every part; the rest is refused by name."""

import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import json
import os
import re
import uuid
from collections import UserDict
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joblease import JobContext, values
from joblease.head import Head
from joblease.limits import MAX_DEPTH, MAX_STEP_DATA_BYTES, MAX_STEP_MESSAGE
from joblease.messages import JobEvent, now
from joblease.rows import event_row
from joblease.states import State
from joblease.trail import NewEvent, _event
from pydantic import BaseModel

UNITS_OF_A_PROPERTY = 32 * 1024
ANY_TEXT = st.text(st.characters(exclude_categories=()))
LEAVES = st.one_of(
    ANY_TEXT, st.none(), st.booleans(), st.integers(), st.floats(), st.binary(), st.dates(), st.datetimes(),
    st.timedeltas(), st.uuids(), st.decimals(), st.complex_numbers(), st.fractions(), st.builds(object),
)  # fmt: skip
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.tuples(inner, inner),
        st.dictionaries(st.one_of(ANY_TEXT, st.integers()), inner, max_size=5),
        st.frozensets(st.integers(), max_size=3),
    ),
    max_leaves=30,
)


class Colour(enum.StrEnum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


class Text(str):
    __slots__ = ()


@dataclasses.dataclass
class Point:
    x: Any


class Model(BaseModel):
    at: dt.date
    point: Point


class Pair(NamedTuple):
    left: Any
    right: Any


@given(message=ANY_TEXT, data=ANYTHING, progress=st.one_of(st.none(), st.integers(), st.floats(), ANY_TEXT))
def test_what_passes_can_be_stored_and_sent(message: str, data: Any, progress: Any) -> None:
    said: list[Any] = []
    job = JobContext("1", report=said.append)
    try:
        job.step(message, data=data, progress=progress)
    except (TypeError, ValueError) as error:
        assert str(error).startswith("job.step(")  # noqa: PT017 - most of these are refused
        return
    (step,) = said
    head = Head("1", "default", "name", "handler", "default", "group", now(), state=State.RUNNING)
    event = _event(head, NewEvent("Step 1", step["message"], None, step["data"]), 1, now())
    assert JobEvent.model_validate_json(event.encode()) == event
    row = event_row(event)
    json.dumps(row, allow_nan=False, ensure_ascii=False).encode()
    assert all(len(str(value).encode("utf-16-le")) <= 2 * UNITS_OF_A_PROPERTY for value in row.values())
    if step["data"]:
        assert json.loads(row["data"]) == step["data"]


@given(ANYTHING)
def test_a_result_that_passes_is_plain_json(value: Any) -> None:
    try:
        plain = values.result(value)
    except (TypeError, ValueError) as error:
        assert str(error).startswith("the result")  # noqa: PT017 - many are refused
        return
    assert json.loads(json.dumps(plain, allow_nan=False, ensure_ascii=False).encode()) == plain
    assert values.result(plain) == plain


@given(st.text())
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    if text.isprintable():
        assert values.printable(text) == text


def test_text_that_cannot_be_shown_is_escaped() -> None:
    assert values.printable(os.fsdecode(b"caf\xe9")) == r"caf\xe9"
    assert values.printable("a\x00\x1b\x7f\x85\ud800b") == r"a\x00\x1b\x7f\x85\ud800b"
    assert values.printable("one\ntwo\r\nthree\tfour\rfive") == "one\ntwo\r\nthree\tfour\\x0dfive"
    assert values.printable("😀é") == "😀é"


@given(st.text(), st.integers(1, 40))
def test_a_text_is_cut_after_its_escaping(text: str, longest: int) -> None:
    whole = values.printable(text)
    assert values.printable(text, longest) == (whole if len(whole) <= longest else whole[: longest - 1] + "…")


def test_what_is_cut_off_is_not_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """120 steps of 300,000 NUL each kept a handler busy for half a minute after it had said them."""
    escaped: list[str] = []

    def escape(match: re.Match[str]) -> str:
        escaped.append(match[0])
        return "?"

    monkeypatch.setattr(values, "_escape", escape)
    assert len(values.message("\0" * 300_000)) == MAX_STEP_MESSAGE
    assert len(escaped) <= MAX_STEP_MESSAGE + 1


def test_a_long_message_is_cut() -> None:
    said = values.message("😀" * (MAX_STEP_MESSAGE + 1))
    assert (len(said), said[-1]) == (MAX_STEP_MESSAGE, "…")
    assert values.message("x" * MAX_STEP_MESSAGE) == "x" * MAX_STEP_MESSAGE


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Colour.RED, "red"),
        (Number.ONE, 1),
        (Text("a\x00"), r"a\x00"),
        (Pair(1, {2}), [1, [2]]),
        (UserDict({"a": (1,)}), {"a": [1]}),
        (fractions.Fraction(1, 2), 0.5),
        (decimal.Decimal("1.10"), "1.10"),
        (Path("/a"), "/a"),
        (uuid.UUID(int=0), "00000000-0000-0000-0000-000000000000"),
        (dt.datetime(2026, 1, 1, tzinfo=dt.UTC), "2026-01-01T00:00:00Z"),
        (dt.timedelta(seconds=90), "PT1M30S"),
        (Point(Point("\udce9")), {"x": {"x": r"\xe9"}}),
        (Model(at=dt.date(2026, 1, 1), point=Point(1)), {"at": "2026-01-01", "point": {"x": 1}}),
        ((1 << 63) - 1, (1 << 63) - 1),
    ],
)
def test_values_are_written_as_pydantic_writes_them(value: Any, plain: Any) -> None:
    assert values.result(value) == plain
    assert values.data({"it": value}) == {"it": plain}


def doubled(levels: int) -> Any:
    """Takes a few kilobytes, and more than any memory when it is written down."""
    value: Any = 1
    for _ in range(levels):
        value = [value, value]
    return value


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (1 << 63, ValueError, "the result is an integer of more than 64 bits; pass it as text"),
        ({"a": [float("inf")]}, ValueError, r"the result\.a\[0\] is inf, which JSON cannot hold"),
        (deep(MAX_DEPTH + 1), ValueError, "is nested more than 64 levels deep"),
        ({"a": {1: 2}}, TypeError, r"the result\.a has a key that is no text \(str\) but int"),
        ([object()], TypeError, r"the result\[0\] is or holds what is not JSON"),
        (Point(object()), TypeError, r"Unable to serialize unknown type: <class 'object'>"),
        (Point(deep(300)), ValueError, "cannot be written as JSON|nested more than"),
        ((n for n in (1, 2)), TypeError, "the result is generator, not JSON: accepted are text, numbers"),
        (b"\xff", ValueError, r"the result \(bytes\) cannot be written as JSON"),
        ("x" * 5000, ValueError, "the result takes 5002 bytes of JSON; at most 4096 fit"),
        (doubled(60), ValueError, "the result takes more than 4096 bytes of JSON; at most 4096 fit"),
        ([doubled(60)], ValueError, "more than 4096"),
    ],
)
def test_what_json_cannot_hold_is_refused_by_name(value: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        values.result(value)


def test_the_depth_that_is_allowed() -> None:
    assert values.result(deep(MAX_DEPTH)) == deep(MAX_DEPTH)


@pytest.mark.parametrize(
    ("step", "error", "message"),
    [
        ({"message": 3}, TypeError, r"job\.step\(message=…\) takes text \(str\), not int"),
        ({"message": None}, TypeError, "not NoneType"),
        ({"data": [1]}, TypeError, r"job\.step\(data=…\) takes a JSON object \(a dict\), not list"),
        ({"data": {"a": "x" * MAX_STEP_DATA_BYTES}}, ValueError, "takes 16384 bytes of JSON at most, not 16392"),
        ({"data": {"a": doubled(60)}}, ValueError, "takes 16384 bytes of JSON at most, not more than 16384"),
        ({"progress": True}, TypeError, r"job\.step\(progress=…\) takes a number from 0 to 1, not bool"),
        ({"progress": "0.5"}, TypeError, "not str"),
        ({"progress": float("nan")}, ValueError, "from 0 to 1, not nan"),
        ({"progress": 10**400}, ValueError, "from 0 to 1, not 1000"),
    ],
)
def test_a_steps_arguments_are_refused_in_the_handler(
    step: dict[str, Any], error: type[Exception], message: str
) -> None:
    said: list[Any] = []
    with pytest.raises(error, match=message):
        JobContext("1", report=said.append).step(**step)
    assert said == []
