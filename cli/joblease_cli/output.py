"""What the commands print: tables, bars and colours for people, plain stable text for pipes.

Anything that is not a terminal gets aligned columns that are never cut or coloured. Text is text: what came from
elsewhere (messages, results, what was typed) may hold control characters that a terminal obeys, and rich's markup; the
former is escaped, the latter is switched off.
"""

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from joblease.states import Look, State
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from joblease_cli.job import Job

STYLES: dict[Look, str] = {
    "good": "green",
    "busy": "cyan",
    "wait": "blue",
    "bad": "red",
    "quiet": "magenta",
    "main": "bright_blue",
    "high": "default",
}
NONE = "-"
_BAR = 10
_LONG = ("NAMESPACE", "NAME", "HANDLER", "WORKER", "MESSAGE", "LABELS")
"""Columns that give way on a narrow terminal."""
_ROOMY = 80


@cache
def console() -> Console:
    """Standard output. rich itself respects NO_COLOR."""
    return Console(highlight=False, soft_wrap=True, markup=False, emoji=False)


def program() -> str:
    """What it was called as."""
    return "kubectl joblease" if Path(sys.argv[0]).name.startswith("kubectl-") else "joblease"


def fancy() -> bool:
    """Whether somebody looks at it on a terminal that can be drawn on."""
    return console().is_terminal and not console().is_dumb_terminal


def notice(text: str) -> None:
    """A line on standard error."""
    sys.stderr.write(clean(text) + "\n")
    sys.stderr.flush()


def error(text: object) -> None:
    """Why something could not be done."""
    notice(f"{program()}: {text}")


def line(text: str | Text) -> None:
    """A line on standard output."""
    if fancy():
        console().print(text)
    else:
        raw(f"{text}\n")


def raw(text: str) -> None:
    """Text as it is on standard output; a terminal gets control characters escaped."""
    sys.stdout.write(_escaped(text, "\n\t") if sys.stdout.isatty() else text)
    sys.stdout.flush()


def clean(value: object) -> str:
    """The text in one line, with control characters made visible instead of obeyed."""
    return _escaped(str(value).replace("\n", " ").replace("\t", " "))


def _escaped(text: str, allowed: str = "") -> str:
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in allowed else f"\\x{ord(each):02x}" for each in text)


def status(job: Job) -> Text:
    """The column STATUS in its colour."""
    return Text(clean(job.reason or NONE), style(job))


def style(job: Job) -> str:
    """The colour of its state."""
    return STYLES[State(job.reason).kind.look]


def roomy() -> bool:
    """Whether the terminal has room for bars."""
    return console().width >= _ROOMY


def bar(percent: int | None) -> Text:
    """Progress as a short bar, when there is somebody to see it and room for it."""
    if percent is None:
        return Text(NONE, "dim")
    if not (fancy() and roomy()):
        return Text(f"{percent}%")
    full = round(min(max(percent, 0), 100) * _BAR / 100)
    return Text.assemble(("━" * full, "green"), ("━" * (_BAR - full), "dim"), f" {percent:>3}%")


def span(seconds: float) -> str:
    """A length of time in at most two units: 45s, 5m30s, 3h20m, 6d."""
    whole = max(0, int(seconds))
    if whole < 120:
        return f"{whole}s"
    for size, unit, smaller, small in ((60, "m", 1, "s"), (3600, "h", 60, "m"), (86_400, "d", 3600, "h")):
        if whole < size * (48 if unit == "h" else 120 if unit == "m" else 10**9):
            rest = whole % size // smaller
            return f"{whole // size}{unit}" + (f"{rest}{small}" if rest and whole < size * 10 else "")
    return ""


def age(since: datetime | None) -> str:
    """How long ago."""
    return span((datetime.now(UTC) - since).total_seconds()) if since else NONE


def compact(value: Any) -> str:
    """JSON in one line."""
    return json.dumps(value, ensure_ascii=False)


def table(
    header: Sequence[str], rows: Sequence[Sequence[str | Text]], *, title: bool = True, whole: bool = False
) -> None:
    """A table: drawn on a terminal, aligned text elsewhere; without `title` only its rows.

    On a narrow terminal names and messages give way: they are cut, or folded when they are to be seen `whole`.
    """
    if fancy():
        drawn = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold", show_header=title)
        for number, name in enumerate(header):
            if name in _LONG:
                drawn.add_column(name, overflow="fold" if whole else "ellipsis")
            else:
                least = max(map(cell_len, (name, *(str(row[number]) for row in rows))))
                drawn.add_column(name, no_wrap=True, min_width=least)
        for row in rows:
            drawn.add_row(*(_in_one_line(cell) if isinstance(cell, str) and not whole else cell for cell in row))
        console().print(drawn, soft_wrap=False)
        return
    aligned([*([header] if title else []), *([str(cell) for cell in row] for row in rows)])


def _in_one_line(cell: str) -> Text:
    return Text(cell, no_wrap=True, overflow="ellipsis")


def aligned(rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as what is in them."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        raw("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n")
