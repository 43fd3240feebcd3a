"""A job's attempts as bars on a line of time, for the picture on its page."""

from collections.abc import Sequence
from dataclasses import dataclass

from joblease.messages import JobEvent, Status, now

WIDTH = 1_000
"""Units of the picture, from the submission to the end or to now."""
LEAST = 4


@dataclass(slots=True)
class Bar:
    """A stretch of time: waiting, or an attempt."""

    kind: str
    """`waiting`, `running`, or how the attempt ended: `completed`, `failed`, `interrupted`, `cancelled`."""
    label: str
    start: float
    width: float
    steps: list[tuple[float, str]]


def timeline(events: Sequence[JobEvent]) -> list[Bar]:
    """Bars from left to right."""
    begin, end = events[0].timestamp, events[-1].timestamp
    if not events[-1].state.terminal:
        end = max(end, now())
    length = max((end - begin).total_seconds(), 0.001)

    def place(event: JobEvent) -> float:
        return (event.timestamp - begin).total_seconds() / length * WIDTH

    bars = [Bar("waiting", "waited", 0, 0, [])]
    for event in events[1:]:
        at, last = place(event), bars[-1]
        if event.status == Status.STARTED:
            last.width = at - last.start
            label = f"attempt {event.attempt}, epoch {event.epoch}, {event.worker}"
            bars.append(Bar("running", label, at, 0, []))
        elif event.status.startswith("Step"):
            last.steps.append((at, f"{event.status}: {event.message}"))
        elif last.kind == "running" and event.status != Status.DEFERRED:
            last.kind = "failed" if event.status == Status.RETRYING else event.status.lower()
            last.width = at - last.start
            if not event.state.terminal:
                bars.append(Bar("waiting", "waited", at, 0, []))
    bars[-1].width = WIDTH - bars[-1].start
    for bar in bars:
        bar.width = max(bar.width, LEAST)
    return bars
