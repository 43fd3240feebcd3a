"""A job's attempts as lanes on a line of time: the picture on its page.

Each attempt has a lane of its own, which begins with what it had to wait. Lanes say in words what their picture shows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from joblease.messages import JobEvent, Status, now
from joblease.states import Kind, Look

LEAST = 0.4
"""Percent of the width that even the shortest stretch takes, to be seen."""
MAX_LANES = 25
MAX_MARKS = 200
TICKS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400, 172800, 604800)
MOST_TICKS = 6
Stretch = Kind | Literal["interrupted"]
_OF_ATTEMPT: Mapping[str, Stretch] = {Status.RETRYING: Kind.FAILED, Status.INTERRUPTED: "interrupted"}
"""What an attempt comes to when the job goes on."""


@dataclass(slots=True)
class Span:
    """A stretch of a lane. Places and lengths are percent of the picture's width."""

    kind: Stretch
    begin: datetime
    end: datetime
    start: float = 0
    width: float = 0

    @property
    def look(self) -> Look:
        """Its colour and pattern."""
        return self.kind.look if isinstance(self.kind, Kind) else "quiet"


@dataclass(slots=True)
class Lane:
    """An attempt, with the wait before it; or a wait after which none has begun yet."""

    attempt: int = 0
    epoch: int = 0
    worker: str = ""
    spans: list[Span] = field(default_factory=list)
    steps: list[tuple[float, str]] = field(default_factory=list)
    """Place, and what was said."""

    @property
    def outcome(self) -> Span:
        """The stretch that tells how it stands with the attempt."""
        return self.spans[-1]


@dataclass(slots=True)
class Timeline:
    """Lanes from top to bottom, and marks on the axis below them."""

    lanes: list[Lane]
    ticks: list[tuple[float, float]]
    """Place, and seconds since the beginning."""
    hidden: int
    """Lanes before the first one shown."""
    partial: int = 0
    """How many events the picture is made of, when there were others before."""


def timeline(events: Sequence[JobEvent], begun: datetime | None = None) -> Timeline:
    """The picture of a job's history, or of the end of it; `begun` is when the last run began."""
    end = events[-1].timestamp
    if not events[-1].state.terminal:
        end = max(end, now())
    lanes = _lanes(events, end, begun)
    hidden = max(0, len(lanes) - MAX_LANES)
    lanes = lanes[hidden:]
    begin = lanes[0].spans[0].begin
    length = max((end - begin) / timedelta(seconds=1), 0.001)
    for lane in lanes:
        for span in lane.spans:
            span.start = (span.begin - begin).total_seconds() / length * 100
            span.width = max((span.end - span.begin).total_seconds() / length * 100, LEAST)
            span.start = min(span.start, 100 - span.width)
        steps = [event for event in events if event.status.startswith("Step") and event.epoch == lane.epoch]
        for event in steps[:: len(steps) // MAX_MARKS + 1]:
            place = (event.timestamp - begin).total_seconds() / length * 100
            lane.steps.append((place, f"{event.status}: {event.message}"))
    step = next((tick for tick in TICKS if length / tick <= MOST_TICKS), length / MOST_TICKS)
    ticks = [(step * number / length * 100, step * number) for number in range(int(length / step) + 1)]
    return Timeline(lanes, ticks, hidden, len(events) if events[0].sequence > 1 else 0)


def _first_lane(first: JobEvent, end: datetime, begun: datetime | None) -> Lane:
    """Where the picture begins: with the submission, or in the middle of what was then."""
    if first.sequence == 1 or first.status == Status.STARTED or first.state.kind is not Kind.RUNNING:
        return Lane(spans=[Span(Kind.WAITING, first.timestamp, end)])
    begin = begun if begun and begun < first.timestamp else first.timestamp
    return Lane(first.attempt, first.epoch, first.worker or "", [Span(Kind.RUNNING, begin, end)])


def _lanes(events: Sequence[JobEvent], end: datetime, begun: datetime | None) -> list[Lane]:
    lanes = [_first_lane(events[0], end, begun)]
    for event in events[1:] if events[0].sequence == 1 else events:
        lane, span = lanes[-1], lanes[-1].spans[-1]
        if event.status == Status.STARTED:
            if span.kind is Kind.RUNNING:  # its worker was lost, and could not say so
                span.kind, span.end = "interrupted", event.timestamp
                lane = Lane()
                lanes.append(lane)
            else:
                span.end = event.timestamp
            lane.attempt, lane.epoch, lane.worker = event.attempt, event.epoch, event.worker or ""
            lane.spans.append(Span(Kind.RUNNING, event.timestamp, end))
        elif event.state.terminal and span.kind is Kind.WAITING and span.begin == event.timestamp and len(lanes) > 1:
            lanes.pop()  # what ended the attempt ended the job
        elif event.state.terminal or event.status in (Status.RETRYING, Status.INTERRUPTED):
            if event.status != Status.INTERRUPTED or span.kind is Kind.RUNNING:
                span.end = event.timestamp
                span.kind = _OF_ATTEMPT.get(event.status, event.state.kind)
            if not event.state.terminal and lane.attempt:
                lanes.append(Lane(spans=[Span(Kind.WAITING, event.timestamp, end)]))
    return lanes
