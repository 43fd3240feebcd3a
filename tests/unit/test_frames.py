"""The protocol between the worker and its handler processes, against everything that can be sent."""

import json
import socket
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joblease import values
from joblease.handlers import GIVEN
from joblease_worker import frames
from joblease_worker.ending import RAISED, STOPPED
from joblease_worker.frames import BadFrame

TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=50)
JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(1 << 63), (1 << 63) - 1),
        st.floats(allow_nan=False, allow_infinity=False), TEXT,
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)),
    max_leaves=20,
)  # fmt: skip
SAID = st.one_of(
    st.builds(frames.Ready, handlers=st.lists(st.dictionaries(TEXT, JSON, max_size=3), max_size=2)),
    st.builds(
        frames.Step, run=TEXT, step=st.integers(1), message=TEXT, progress=st.none() | st.floats(0, 1),
        data=st.none() | st.dictionaries(TEXT, JSON, max_size=3),
    ),
    st.builds(frames.Checkpoint, run=TEXT, state=st.dictionaries(TEXT, JSON, max_size=3)),
    st.builds(
        frames.Ended, run=TEXT, left=TEXT, how=st.sampled_from([*map(str, GIVEN), RAISED, STOPPED]),
        result=JSON, error=TEXT, traceback=TEXT,
    ),
)  # fmt: skip
ORDERS = st.one_of(
    st.builds(frames.Run, run=TEXT, job=st.dictionaries(TEXT, JSON, max_size=3), deadline=st.floats(0, 1e9)),
    st.builds(frames.Cancel, run=TEXT),
)
ANY_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters(exclude_categories=()))),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=10,
)
FIELDS = st.sampled_from(
    ["type", "run", "step", "message", "progress", "data", "left", "result", "error", "traceback", "how",
     "version", "handlers", "job", "deadline", "state", "more"]
)  # fmt: skip
TYPES = st.sampled_from(["ready", "step", "checkpoint", "ended", "run", "cancel", "other"])
NONSENSE = st.one_of(
    st.binary(),
    st.dictionaries(FIELDS, ANY_JSON).map(lambda each: json.dumps(each).encode()),
    st.tuples(TYPES, st.dictionaries(FIELDS, ANY_JSON)).map(
        lambda each: json.dumps({**each[1], "type": each[0]}).encode()
    ),
    st.one_of(SAID, ORDERS).flatmap(
        lambda frame: st.integers(0, len(frames.encode(frame))).map(lambda end: frames.encode(frame)[:end])
    ),
)


@given(SAID)
def test_what_is_said_arrives(frame: frames.Said) -> None:
    line = frames.encode(frame)
    assert line.count(b"\n") == 1
    assert frames.said(line) == frame


@given(ORDERS)
def test_orders_arrive(frame: frames.Order) -> None:
    assert frames.order(frames.encode(frame).strip(b"\n")) == frame


@given(NONSENSE)
@settings(max_examples=300)
def test_nonsense_is_a_bad_frame_or_a_frame_that_can_be_stored(line: bytes) -> None:
    """From the child: never anything but `BadFrame`."""
    try:
        said = frames.said(line)
    except BadFrame:
        return
    json.dumps(vars(said), allow_nan=False, ensure_ascii=False).encode()
    if isinstance(said, frames.Step | frames.Ended):
        kept = said.data if isinstance(said, frames.Step) else said.result
        assert values.json_value(kept, "it") == kept


@given(st.lists(st.one_of(NONSENSE, ORDERS.map(frames.encode)), max_size=6), st.integers(1, 40))
@settings(deadline=None)
def test_the_childs_reader_ends_whatever_comes(blocks: list[bytes], size: int) -> None:
    """To the child, cut anywhere: frames, `BadFrame`, or the end; it never hangs."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(10)

    def send() -> None:
        with ours:
            stream = b"".join(blocks)
            for start in range(0, len(stream), size):
                try:
                    ours.sendall(stream[start : start + size])
                except OSError:  # it has had enough
                    return

    sender = threading.Thread(target=send)
    sender.start()
    try:
        for order in frames.orders(theirs):
            assert isinstance(order, frames.Run | frames.Cancel)
    except BadFrame:
        pass
    finally:
        theirs.close()
        sender.join()


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_without_end_is_refused_in_bounded_memory(monkeypatch: pytest.MonkeyPatch, end: bytes) -> None:
    monkeypatch.setattr(frames, "MAX_FRAME", 100_000)
    ours, theirs = socket.socketpair()

    def send() -> None:
        with ours:
            try:
                ours.sendall(b"x" * 1_000_000 + end)
            except OSError:
                return

    sender = threading.Thread(target=send)
    sender.start()
    with theirs, pytest.raises(BadFrame, match="a line of more than 100000 bytes"):
        list(frames.orders(theirs))
    sender.join()


def changed(frame: frames.Said, **fields: Any) -> bytes:
    return json.dumps({**json.loads(frames.encode(frame)), **fields}).encode()


STEP = frames.Step(run="1.1", step=1, message="a", progress=0.5, data={"a": 1})


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (changed(STEP, message="x" * 4001), "a message of bounded length"),
        (changed(STEP, message=3), "step.message: Input should be a valid string"),
        (changed(STEP, progress=1.5), "from 0 to 1, not 1.5"),
        (changed(STEP, progress="0.5"), "step.progress: Input should be a valid number"),
        (changed(STEP, data=[1]), "step.data: Input should be an object"),
        (changed(STEP, data={"a": 10**400}), "a step's data.a is an integer of more than 64 bits"),
        (changed(STEP, data={"a": float("nan")}), "a step's data.a is nan"),
        (changed(STEP, step=0), "a step has a number from 1"),
        (changed(STEP, more=1), "step.more: Unexpected keyword argument"),
        (b'{"type":"ended","how":"Cancelled","run":"1.1"}', "a run ends with an outcome that a handler can give"),
        (b'{"type":"ended","how":"stopped"}', "ended.run: Field required"),
        (b'{"type":"ended","how":"stopped","run":"\\udce9"}', "the line: Invalid JSON"),
        (b"", "the line: Invalid JSON"),
        (b'{"type":"run","run":"1.1","job":{},"deadline":1}', "the line: Input tag 'run' found using 'type' does not"),
        (
            b'{"type":"ready","handlers":[],"version":0}',
            f"version 0 of their protocol, the worker version {frames.VERSION}",
        ),
    ],
)
def test_a_bad_frame_is_told_exactly(line: bytes, problem: str) -> None:
    with pytest.raises(BadFrame) as refused:
        frames.said(line)
    assert problem in str(refused.value)
