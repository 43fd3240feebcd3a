"""Keys of the read model: the newest first, in partitions by time, so that nothing ever has to be scanned or counted.

Azure tables sort by key, ascending, and nothing else. A row key that begins with the time subtracted from a fixed
number puts the newest first. Only `[A-Za-z0-9._-]` is used: the emulator fails on other characters.
"""

from datetime import UTC, datetime, timedelta

_END = 10**17
"""Microseconds; far beyond any date, and 17 digits as every difference from it has them."""
DAY = "%Y-%m-%d"
HOUR = "%Y-%m-%dT%H"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def inverted(moment: datetime) -> str:
    """17 digits that are smaller the later the time is."""
    return f"{_END - (moment - EPOCH) // timedelta(microseconds=1):017d}"


def index_key(submitted_at: datetime, job_id: str) -> tuple[str, str]:
    """Partition and row of a job in `JobIndex`."""
    return submitted_at.astimezone(UTC).strftime(DAY), f"{inverted(submitted_at)}-{job_id}"


def feed_key(timestamp: datetime, event_id: str) -> tuple[str, str]:
    """Partition and row of an event in `JobFeed`."""
    return timestamp.astimezone(UTC).strftime(HOUR), f"{inverted(timestamp)}-{event_id}"


def previous(partition: str, form: str) -> str:
    """The partition before this one, by day or by hour."""
    step = timedelta(days=1) if form == DAY else timedelta(hours=1)
    return (datetime.strptime(partition, form).replace(tzinfo=UTC) - step).strftime(form)
