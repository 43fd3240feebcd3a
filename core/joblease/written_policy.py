"""A handler's policy as its author writes it: what is wrong with it is said where the handler is imported.

Without pydantic, which a program that only defines handlers would have to wait for.
"""

import re
from datetime import timedelta
from typing import Any

from joblease.limits import MAX_NAME, is_name

KEYS = ("group", "limit", "max_attempts", "deadline")
MAX_LIMIT, MOST_ATTEMPTS, LONGEST_DEADLINE = 10_000, 100, 31_536_000
"""The bounds of the CRD; that of the deadline in seconds."""
FIELD = re.compile(r"\{([A-Za-z_][-A-Za-z0-9_]*)\}")
"""Where a parameter's value stands in the name of a group. There are no formats, attributes or elements."""
NAME = (
    f"one has at most {MAX_NAME} characters, lower case letters, digits, '-', '.' and '_', and begins and ends with a "
    "letter or digit"
)
_LENGTHS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def written(
    *, group: object = None, limit: object = None, max_attempts: object = None, deadline: object = None
) -> dict[str, Any]:
    """The fields of a `HandlerPolicy` that are given. Raises `TypeError`, `ValueError`."""
    if group is not None:
        _check_template(group)
    found = {
        "group": group,
        "limit": _whole("limit", limit, MAX_LIMIT),
        "max_attempts": _whole("max_attempts", max_attempts, MOST_ATTEMPTS),
        "active_deadline_seconds": _deadline(deadline),
    }
    return {name: value for name, value in found.items() if value is not None}


def _check_template(group: object) -> None:
    if not isinstance(group, str):
        raise TypeError(f"group is to be text, not {group!r}")
    plain = FIELD.sub("x", group)
    if "{" in plain or "}" in plain:
        raise ValueError(f"group {group!r}: in braces there can be the name of a parameter and nothing else")
    if not is_name(plain):
        raise ValueError(f"group {group!r} makes no name of a group: {NAME}")


def _whole(name: str, value: object, most: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is to be an integer, not {value!r}")
    if not 1 <= value <= most:
        raise ValueError(f"{name} is to be from 1 to {most}, not {value}")
    return value


def _deadline(value: object) -> int | None:
    if value is None:
        return None
    seconds: float
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, int) and not isinstance(value, bool):
        seconds = value
    elif isinstance(value, str) and re.fullmatch(r"([0-9]{1,9}[smhd])+", value):
        seconds = sum(int(part[:-1]) * _LENGTHS[part[-1]] for part in re.findall(r"[0-9]+[smhd]", value))
    else:
        raise ValueError(f"deadline is to be a length of time as '2h', '1h30m' or a number of seconds, not {value!r}")
    if not 1 <= seconds <= LONGEST_DEADLINE or seconds != int(seconds):
        raise ValueError(f"deadline is to be whole seconds, from 1 to {LONGEST_DEADLINE}, not {value}")
    return int(seconds)
