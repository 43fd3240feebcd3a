"""What a benchmark has found: one table on the terminal, the same as JSON, and whether the targets were reached.

Every benchmark repeats its rounds and shows the median of each figure with the least and the greatest, because a single
run on a small machine says little. Contenders are measured alternately in the same run, so that a slow minute of the
machine slows all of them; a comparison is a ratio of figures of one run, never of two.

`docs/performance.md` is made from these JSON files by `document.py`.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, str]:
    """What the figures come from."""
    cpu = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "?")
    memory = next(int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal"))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    return {
        "processors": f"{os.cpu_count()} x {cpu}",
        "memory": f"{memory / (1 << 20):.0f} GiB",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "commit": commit.strip(),
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure of several rounds."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        if self.low == self.high:
            return number(self.median)
        return f"{number(self.median)} ({number(self.low)}-{number(self.high)})"


Cell = str | int | float | Spread | None
Row = Mapping[str, Cell]
"""Column, with its unit, and value: `{"workers": 10, "scheme": "naive", "p50 ms": Spread(…)}`."""


@dataclass(frozen=True, slots=True)
class Target:
    """What was to be reached, and what was."""

    what: str
    wanted: str
    measured: str
    met: bool


@dataclass(frozen=True, slots=True)
class Plot:
    """A curve for each value of `by`, over the numbers in `x`. All three are columns."""

    x: str
    y: str
    by: str
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """A benchmark's result."""

    name: str
    question: str
    """What is measured, in one sentence."""
    rounds: int
    rows: Sequence[Row]
    targets: Sequence[Target] = ()
    notes: Sequence[str] = ()
    """How to read it, and what limits it; a sentence each."""
    plot: Plot | None = None
    curves: Sequence[Row] = ()
    """What is plotted, when that is not the rows."""
    machine: Mapping[str, str] = field(default_factory=machine)
    date: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y-%m-%d}")

    def publish(self, write_to: Path | None) -> None:
        """Print the table and the targets; write the JSON when a folder is given."""
        print(f"\n{self.question}\n\n{table(self.rows)}\n")
        for target in self.targets:
            met = "reached" if target.met else "MISSED "
            print(f"{met}  {target.what}: {target.wanted}; measured {target.measured}")
        for note in self.notes:
            print(f"note: {note}")
        if write_to:
            path = write_to / f"{self.name}.json"
            path.write_text(json.dumps(asdict(self), indent=1) + "\n")
            print(f"written to {path}")


def spread(values: Iterable[float]) -> Spread:
    """The median of some rounds' figures, and their range."""
    found = list(values)
    return Spread(statistics.median(found), min(found), max(found))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """What was measured in turn, compared round by round."""
    return spread(one / other for one, other in zip(ours, theirs, strict=True))


def at_most(what: str, limit: float, measured: float | Spread, unit: str = "") -> Target:
    """Whether a figure, or the median of one, is no greater than it may be."""
    return Target(what, f"<= {limit:g} {unit}".strip(), f"{_text(measured)} {unit}".strip(), median(measured) <= limit)


def at_least(what: str, limit: float, measured: float | Spread, unit: str = "") -> Target:
    """Whether a figure, or the median of one, is no less than it should be."""
    return Target(what, f">= {limit:g} {unit}".strip(), f"{_text(measured)} {unit}".strip(), median(measured) >= limit)


def median(cell: Cell) -> float:
    """The number in a cell; the middle one of a spread."""
    return cell.median if isinstance(cell, Spread) else float(cell or 0)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the values lie; the nearest one, nothing in between."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def number(value: float) -> str:
    """Three figures that count, and no exponent."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"


def table(rows: Sequence[Row], *, markdown: bool = False) -> str:
    """Rows as a table; numbers to the right."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_text(row.get(name)) for name in columns] for row in rows]
    right = [all(not isinstance(row.get(name), str) for row in rows) for name in columns]
    widths = [max(len(line[at]) for line in [columns, *cells]) for at in range(len(columns))]
    aligned = [str.rjust if flush else str.ljust for flush in right]
    lines = [
        [align(text, width) for align, text, width in zip(aligned, line, widths, strict=True)]
        for line in [columns, *cells]
    ]
    if not markdown:
        return "\n".join("  ".join(line).rstrip() for line in lines)
    rule = ["-" * (width - 1) + ":" if flush else "-" * width for width, flush in zip(widths, right, strict=True)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], rule, *lines[1:]])


def _text(value: Cell) -> str:
    if value is None:
        return ""
    return number(value) if isinstance(value, float) else str(value)


def arguments(description: str | None, rounds: int, **more: Mapping[str, Any]) -> argparse.Namespace:
    """The command line that all benchmarks have, and more options of one of them."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, help=f"repetitions (default: {rounds})")
    parser.add_argument(
        "--write", nargs="?", type=Path, const=RESULTS, help=f"write NAME.json into a folder (default: {RESULTS.name}/)"
    )
    parser.add_argument("--quick", action="store_true", help="see that it works: one small round, nothing is written")
    for name, settings in more.items():
        parser.add_argument(f"--{name.replace('_', '-')}", **settings)
    options = parser.parse_args()
    if options.quick:
        options.write = None
    options.rounds = options.rounds or (1 if options.quick else rounds)
    return options
