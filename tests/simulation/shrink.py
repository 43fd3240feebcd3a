"""The faults of a seed that its violation needs, and the lines of a trace that tell of it.

Faults are numbered in the order in which they strike. A play that spares some is the same as before up to the first of
them, and another one after it; so what is left is a small play with the same kind of violation, and not a part of the
first one.
"""

import re
from dataclasses import replace

from simulation.campaign import one
from simulation.world import Play, Result

TRIES = 40
_DETAIL = re.compile(r"uid-[\w-]+|job-\d+|[\d.]+|\(.*")
_JOB = re.compile(r"uid-job-\d+-\d+")


def shrink(play: Play) -> Result:
    """The play with the fewest faults that were found to break the same rule; the whole one when nothing is broken."""
    first = one(play)
    if not first.violations:
        return first
    kinds = _kinds(first)
    best, tries = (play, first), 0

    def breaks(tried: Play) -> bool:
        nonlocal best, tries
        tries += 1
        result = one(tried)
        if not kinds & _kinds(result):
            return False
        best = tried, result
        return True

    low, high = 0, first.struck
    while low < high:  # the last fault that is needed
        middle = (low + high) // 2
        if breaks(replace(play, last_strike=middle)):
            high = middle
        else:
            low = middle + 1
    size = max(1, high // 2)
    while size and tries < TRIES:  # parts of those before it
        at = 0
        while at < high and tries < TRIES:
            part = frozenset(range(at + 1, at + size + 1))
            if not part <= best[0].spared:
                breaks(replace(best[0], last_strike=high, spared=best[0].spared | part))
            at += size
        size //= 2
    return best[1]


def relevant(result: Result) -> list[str]:
    """The trace's lines about the jobs of the violations, and what was done to the programs."""
    jobs = {job for each in result.violations for job in _JOB.findall(each)}
    names = {job.removeprefix("uid-").rsplit("-", 1)[0] for job in jobs}
    words = jobs | names
    return [line for line in result.trace if not words or any(word in line for word in words) or line[28:].isupper()]


def _kinds(result: Result) -> set[str]:
    """What was broken, without whose and when."""
    return {_DETAIL.sub("", each) for each in result.violations}
