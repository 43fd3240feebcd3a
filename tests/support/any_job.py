"""Any job: hypothesis' strategies for whatever a JobRequest and its handler can contain."""

import signal
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from support.any_ends import RAISED
from support.any_values import SPECIALS

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
TEXT = st.text(max_size=30) | st.sampled_from(
    ["", " ", "\n", "\0", "\U0001f600", "__proto__", "null", "é" * 20, "\ud83d"]
)
NUMBERS = (
    st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([-0.0, 1e308, 2**63, 10**30])
)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
SPECIAL = st.one_of(
    st.sampled_from(sorted(SPECIALS.keys() - {"repeat", "nested"})).map(lambda name: {"!": name}),
    st.builds(
        lambda text, times: {"!": "repeat", "text": text, "times": times},
        st.sampled_from(["x", "\U0001f600", "é", "\0", "\ud83d", "\n"]),
        st.sampled_from([1_000, 4_000, 4_100, 16_300, 33_000, 300_000]),
    ),
    st.sampled_from([20, 90, 130, 250, 990, 5_000]).map(lambda depth: {"!": "nested", "depth": depth}),
)
ANY_VALUE = JSON | SPECIAL | st.lists(SPECIAL, max_size=2) | st.dictionaries(TEXT, SPECIAL, max_size=2)
STEPS = st.fixed_dictionaries(
    {"do": st.just("step"), "caught": st.booleans()},
    optional={
        "message": TEXT | SPECIAL,
        "progress": st.floats() | st.sampled_from([0, 1, 2, "1", None]) | SPECIAL,
        "data": ANY_VALUE,
        "times": st.sampled_from([2, 120]),
    },
)
DEEDS = STEPS | st.one_of(
    *(
        st.just({"do": name})
        for name in (
            *("thread", "waiting_thread", "child", "session", "daemon", "copy", "talking_copy", "returning_copy"),
            *("close", "deafen", "spoil", "alarm", "group", "stop"),
        )
    ),
    st.builds(lambda message: {"do": "print", "message": message}, TEXT | SPECIAL),
    st.builds(
        lambda message: {"do": "scribble", "message": message}, st.sampled_from(["x", "\n", "{}\n", '{"type":1}\n'])
    ),
    st.sampled_from([0.01, 0.3]).map(lambda seconds: {"do": "sleep", "seconds": seconds}),
)
VALUED = ["return", "return", "raise", "permanent", "cause", "group", "sys-exit"]
ENDLESS = {"hang", "stubborn", "spin"}
ENDS: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.builds(lambda how, value: {"how": how, "value": value}, st.sampled_from(VALUED), ANY_VALUE),
    st.sampled_from(
        [
            *({"how": how} for how in ("recurse", "segfault", *sorted(ENDLESS), *sorted(RAISED))),
            *({"how": "exit", "value": code} for code in (0, 1, 255)),
            *({"how": "kill", "value": int(number)} for number in (signal.SIGHUP, signal.SIGKILL, signal.SIGTERM)),
        ]
    ),
)
LIVES = st.sampled_from([1, 2, 3, 0]).flatmap(lambda count: st.lists(DEEDS, min_size=count, max_size=count))
HANDLERS = st.sampled_from(["anything"] * 3 + ["anything-async"])
"""An unknown one is looked for on other workers for a minute: tests/integration/test_worker.py has that."""
EXTRA = st.dictionaries(TEXT, JSON, max_size=3)
FILLERS = st.sampled_from([("", 0)] * 8 + [("\U0001f600", 16_200), ("x", 65_000), ("x", 70_000), ("é", 25_000)])
DEPTHS = st.sampled_from([0] * 8 + [60, 100, 200, 260, 500])
MOMENTS = st.sampled_from(
    ["2020-02-29T23:59:59Z", "1000-01-01T00:00:00Z", "2026-01-01T00:00:00.123456789+14:00", "2999-12-31T23:59:60Z",
     "2999-12-31T23:59:59-14:00", "2024-06-30T23:59:60Z"]
)  # fmt: skip
NAMES = st.text(LETTERS, min_size=1, max_size=20) | st.sampled_from(["a" * 63, "a.b", "0", "a--b", "1e5", "null"])
CHANGES: st.SearchStrategy[list[tuple[float, dict[str, Any]]]] = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.sampled_from(
            [{"cancel": True}, {"cancel": True}, {"suspend": True}, {"suspend": False}, {"priority": 9}, {}]
        ),
    ),
    max_size=2,
)
"""Seconds to wait, then what is merged into the spec; nothing means: delete it."""


@dataclass
class AnyJob:
    """A job, and what is done to it. What is large in it is said in short, for whoever reads of it."""

    name: str
    spec: dict[str, Any]
    annotations: dict[str, str]
    changes: list[tuple[float, dict[str, Any]]]
    filler: tuple[str, int]
    """A text that is repeated so often, as another parameter."""
    depth: int
    """Lists within lists, as another parameter."""

    def parameters(self) -> dict[str, Any]:
        """The parameters in full."""
        text, times = self.filler
        nested: Any = 0
        for _ in range(self.depth):
            nested = [nested]
        large = {"text": text * times} if times else {}
        return {**self.spec["parameters"], **large, **({"nested": nested} if self.depth else {})}


@st.composite
def any_job(draw: st.DrawFn) -> AnyJob:
    """One that has an end: what would go on for ever has a deadline."""
    ending, deeds = draw(ENDS), draw(LIVES)
    spec: dict[str, Any] = {
        "handler": draw(HANDLERS),
        "parameters": {**draw(EXTRA), "deeds": deeds, "end": ending},
        "retry": {
            "maxAttempts": draw(st.integers(1, 2)),
            "backoff": {"initialSeconds": draw(st.integers(0, 1)), "factor": draw(st.sampled_from([1, 1.5, 10])),
                        "maxSeconds": 1},
        },
    }  # fmt: skip
    optional = {
        "inputFilePath": st.text(min_size=1, max_size=40),
        "description": TEXT,
        "priority": st.integers(0, 9),
        "activeDeadlineSeconds": st.sampled_from([1, 2, 31_536_000]),
        "startAfter": MOMENTS,
        "ttlSecondsAfterFinished": st.sampled_from([0, 1, 315_360_000]),
        "suspend": st.booleans(),
        "cancel": st.sampled_from([False] * 5 + [True]),
    }
    for name, values in optional.items():
        if draw(st.sampled_from([False, False, False, True])):
            spec[name] = draw(values)
    survives = ending["how"] == "kill" and ending["value"] != signal.SIGKILL  # it is deaf, or the test's starter was
    if (ending["how"] in ENDLESS or {"do": "stop"} in deeds or survives) and spec.get("activeDeadlineSeconds", 9) > 2:
        spec["activeDeadlineSeconds"] = 1
    annotations = draw(st.dictionaries(NAMES.map(lambda name: f"example.com/{name}"), TEXT, max_size=2))
    return AnyJob(draw(NAMES), spec, annotations, draw(CHANGES), draw(FILLERS), draw(DEPTHS))
