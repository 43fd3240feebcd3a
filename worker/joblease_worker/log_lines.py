"""How a line that a handler prints says its level: `<3>`, as systemd's journal reads it (sd-daemon(3)).

The handler process writes it before what is logged, the worker reads it and logs the rest at that level. What is just
printed has none, and is information.
"""

import logging
import re

_PRIORITIES = {2: logging.CRITICAL, 3: logging.ERROR, 4: logging.WARNING, 6: logging.INFO, 7: logging.DEBUG}
_PREFIX = re.compile(rb"<([0-7])>")


class WithLevel(logging.Formatter):
    """Each line of a record with its level."""

    def format(self, record: logging.LogRecord) -> str:
        """As `logging.Formatter`."""
        priority = next((number for number, level in _PRIORITIES.items() if record.levelno >= level), 7)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).split("\n"))


def log_to_stderr(level: str) -> None:
    """Set up `logging` in a handler process: lines as `name: message`; the worker adds the rest."""
    output = logging.StreamHandler()
    output.setFormatter(WithLevel("%(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[output])


def take_apart(line: bytes) -> tuple[int, bytes]:
    """A line's level and its text."""
    if not (prefix := _PREFIX.match(line)):
        return logging.INFO, line
    number = int(prefix[1])
    level = next((level for priority, level in _PRIORITIES.items() if number <= priority), logging.DEBUG)
    return level, line[prefix.end() :]
