"""The overview's charts: what the statistics of a window say, as lines that the browser draws and a table says again.

Every overview in every browser asks for the same few windows again and again, so an answer is kept for a moment.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from joblease.states import OUTCOMES, Kind, Look

from joblease_dashboard.pages.formats import NOTHING, seconds
from joblease_dashboard.read_model.statistics import WINDOWS, totals

if TYPE_CHECKING:
    from joblease_dashboard.read_model.statistics import Stats

KEPT_SECONDS = 5.0
Values = list[float | None]


@dataclass(frozen=True, slots=True)
class Line:
    """Values over time, one for each step of the window; None where there is nothing to tell."""

    name: str
    look: Look
    """Which colour and dashes: lines are told apart by both."""
    values: Values
    whole: str
    """What the line comes to in the whole window, or at its end (`Chart.about`)."""


@dataclass(frozen=True, slots=True)
class Chart:
    """What is drawn in one frame."""

    title: str
    unit: str
    """`/min`, `%` or `s`."""
    about: str
    """What the lines' `whole` is."""
    start: float
    """Of the first step, Unix time."""
    step: float
    """Seconds."""
    lines: list[Line]

    def data(self) -> dict[str, Any]:
        """For the browser."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Picture:
    """A window: its charts, its sums, and the steps in which something happened, the last first."""

    window: str
    charts: list[Chart]
    ended: int
    success_rate: float | None
    steps: list[Mapping[str, Any]]


class Charts:
    """Reads the statistics and makes charts of them."""

    def __init__(self, stats: "Stats") -> None:
        self._stats = stats
        self._kept: dict[str, tuple[float, Picture]] = {}

    async def read(self, window: str) -> Picture:
        """The charts of a window of `WINDOWS`. One storage request, two across a month's end. Raises `AzureError`."""
        until, known = self._kept.get(window, (0.0, None))
        if known is None or until < time.monotonic():
            known = picture(window, await self._stats.read(window))
            self._kept[window] = (time.monotonic() + KEPT_SECONDS, known)
        return known


def picture(window: str, points: Sequence[Mapping[str, Any]]) -> Picture:
    """Charts of the statistics' points."""
    minutes = WINDOWS[window][1]
    start = datetime.fromisoformat(points[0]["time"]).timestamp()
    whole = totals(points)

    def chart(title: str, unit: str, about: str, *lines: Line) -> Chart:
        return Chart(title, unit, about, start, minutes * 60, list(lines))

    def count(kind: Kind) -> Line:
        values = [_short(point[kind] / minutes) for point in points]
        return Line(kind, kind.look, [*values], f"{ended(points, kind):,}")

    def percentiles(name: str) -> list[Line]:
        return [percentile("median", "main", f"{name}P50"), percentile("p95", "high", f"{name}P95")]

    def percentile(name: str, look: Look, column: str) -> Line:
        values = [point[column] for point in points]
        last = next((value for value in reversed(values) if value is not None), None)
        return Line(name, look, [None if value is None else _short(value) for value in values], seconds(last))

    charts = [
        chart(
            "Jobs ended, per minute", "/min", "in all",
            *(count(kind) for kind in OUTCOMES if kind is not Kind.UNKNOWN or ended(points, kind)),
        ),
        chart(
            "Success rate", "%", "in all",
            Line("completed", "good", [_rate(point) for point in points], _percent(whole["successRate"])),
        ),
        chart("Wait in the queue", "s", "at the end", *percentiles("waited")),
        chart("Run time", "s", "at the end", *percentiles("ran")),
    ]  # fmt: skip
    busy = [point for point in reversed(points) if any(point[kind] for kind in OUTCOMES)]
    return Picture(window, charts, whole["ended"], whole["successRate"], busy)


def ended(points: Sequence[Mapping[str, Any]], kind: Kind) -> int:
    """How many jobs ended in this way."""
    return sum(point[kind] for point in points)


def _rate(point: Mapping[str, Any]) -> float | None:
    judged = point["completed"] + point["failed"]
    return _short(100 * point["completed"] / judged) if judged else None


def _percent(rate: float | None) -> str:
    return NOTHING if rate is None else f"{rate * 100:.1f} %"


def _short(value: float) -> float:
    """Four digits that count: more cannot be seen."""
    return float(f"{value:.4g}")
