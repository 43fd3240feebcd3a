"""How values are written on pages: the templates' filters."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from joblease.messages import now, rfc3339

NOTHING = "–"  # noqa: RUF001 - the dash of a table that has nothing to say


def _clock(moment: datetime | str | None) -> str:
    if not moment:
        return ""
    return (datetime.fromisoformat(moment) if isinstance(moment, str) else moment).strftime("%Y-%m-%d %H:%M:%S")


def _iso(moment: datetime | str) -> str:
    return moment if isinstance(moment, str) else rfc3339(moment)


def _since(moment: datetime | str) -> str:
    begin = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return seconds(max(0.0, (now() - begin).total_seconds()))


def _until_end(row: Any, begin: str) -> str:
    """From a time of a job's row to its end, as far as the row tells."""
    if not row.get(begin) or not row.get("completedAt"):
        return ""
    length = datetime.fromisoformat(row["completedAt"]) - datetime.fromisoformat(row[begin])
    return seconds(length.total_seconds())


def _duration(row: Any) -> str:
    return _until_end(row, "startedAt")


def _run_time(row: Any) -> str:
    return _until_end(row, "runStartedAt")


def seconds(length: float | None) -> str:
    """A length of time in two units at most."""
    if length is None:
        return NOTHING
    if length < 59.5:
        return f"{length:.2g} s" if length < 1 else f"{length:.1f} s" if length < 9.95 else f"{length:.0f} s"
    for name, size, lesser, part in (("d", 86_400, "h", 3_600), ("h", 3_600, "min", 60), ("min", 60, "s", 1)):
        whole, rest = divmod(round(length / part) * part, size)
        if whole:
            return f"{whole} {name} {rest // part} {lesser}" if rest else f"{whole} {name}"
    return NOTHING


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


FILTERS: dict[str, Callable[[Any], str]] = {
    "clock": _clock, "iso": _iso, "duration": _duration, "run_time": _run_time, "seconds": seconds, "since": _since,
    "json": _pretty,
}  # fmt: skip
