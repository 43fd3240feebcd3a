"""Lengths of time as they are typed: as Go writes them (`1h30m`, `1.5h`), with `d` and `w`, or as seconds (`90`)."""

import re

import durationpy

EXAMPLES = "90, 1h30m, 1.5h, 2d"
_LONGEST = 1e10
"""Seconds; three centuries. The API server has bounds of its own, which are smaller."""


def seconds(text: str) -> float:
    """The length in seconds. Raises `ValueError`."""
    try:
        if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
            found = float(text)
        elif re.fullmatch(r"([0-9.]+(h|m|s|ms|us|µs|μs|ns|d|w))+", text):
            found = float(durationpy.from_str(text).total_seconds())
        else:
            raise ValueError(text)
    except ValueError:
        raise ValueError(f"expected a length of time such as {EXAMPLES}, not {text!r}") from None
    if found > _LONGEST:
        raise ValueError(f"{text} is too long a time")
    return found


def whole_seconds(text: str) -> int:
    """The same, for fields that hold whole seconds. Raises `ValueError`."""
    found = seconds(text)
    if found != int(found):
        raise ValueError(f"whole seconds are expected, not {text}")
    return int(found)
