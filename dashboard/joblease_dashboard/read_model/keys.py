"""Keys of the read model: the newest first over the whole history, so that nothing ever has to be scanned or counted.

Azure tables sort by partition and then by row, ascending, and nothing else. A row key that begins with the time
subtracted from a fixed number puts the newest first. Its first digits are the partition (a little more than a day), so
partitions follow each other in the same order, and one range query reads on from any row, however many empty days come
next. Only `[A-Za-z0-9._-]` is used: the emulator fails on other characters.
"""

from datetime import UTC, datetime, timedelta

_END = 10**17
"""Microseconds; far beyond any date, and 17 digits as every difference from it has them."""
_DIGITS = 6
"""Of the partition, which so covers 10^11 microseconds: 27.8 hours."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def inverted(moment: datetime) -> str:
    """17 digits that are smaller the later the time is."""
    return f"{_END - (moment - EPOCH) // timedelta(microseconds=1):017d}"


def partition(moment: datetime) -> str:
    """The partition that a time falls into."""
    return inverted(moment)[:_DIGITS]


def after(partition: str, count: int) -> str:
    """The partition that follows so many others, back in time."""
    return f"{min(int(partition) + count, 10**_DIGITS - 1):0{_DIGITS}d}"


def key(moment: datetime, identity: str) -> tuple[str, str]:
    """Partition and row of what happened at that time: a job in `JobIndex`, an event in `JobFeed`."""
    return partition(moment), f"{inverted(moment)}-{identity}"
