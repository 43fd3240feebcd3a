"""What handlers print becomes log lines of the worker, with the fields of the job that printed them."""

import asyncio
import logging
import os
from collections.abc import Mapping
from typing import Any

from joblease_worker.log_lines import take_apart

log = logging.getLogger("handler")

LONGEST_LINE = 8_192
LINE_COST_BYTES = 64
"""Of the limit that each line takes beside its text: a log line is more work than its letters."""
_BLOCK = 512
"""Read in one turn of the loop: as many lines as are logged in some 50 ms, should it have no letters."""
_DROPPED_BLOCK = 65_536
_PIPE_BLOCKS = 1_024
"""As many as a pipe holds."""


class Output:
    """Reads one process' output as it comes: a process whose output nobody reads would block."""

    def __init__(self, limit: int) -> None:
        """`limit`: bytes of a run that are logged, and a few for each line; the rest is dropped, and it is said."""
        self._limit = self._left = limit
        self._fields: Mapping[str, Any] = {}
        self._rest = b""
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        asyncio.get_running_loop().add_reader(self._read_end, self._read)

    def begin(self, fields: Mapping[str, Any]) -> None:
        """What comes from here on is another run's, with these fields."""
        self._fields, self._left = fields, self._limit

    async def catch_up(self) -> None:
        """Log what was printed so far."""
        for _ in range(_PIPE_BLOCKS):
            if not self._read():
                break
            await asyncio.sleep(0)
        self._log_rest()

    async def close(self) -> None:
        """Log the rest and let go of the pipe."""
        await self.catch_up()
        if self._read_end >= 0:
            self._let_go()

    def _let_go(self) -> None:
        asyncio.get_running_loop().remove_reader(self._read_end)
        os.close(self._read_end)
        self._read_end = -1

    def _read(self) -> bool:
        """One block; False when there is none."""
        if self._read_end < 0:
            return False
        try:
            block = os.read(self._read_end, _BLOCK if self._left >= 0 else _DROPPED_BLOCK)
        except BlockingIOError:
            return False
        if not block:  # everybody who could write has ended
            self._let_go()
            return False
        if self._left < 0:
            return True
        *lines, self._rest = (self._rest + block).split(b"\n")
        for line in lines:
            self._log(line)
        if len(self._rest) > LONGEST_LINE:
            self._log_rest()
        return True

    def _log_rest(self) -> None:
        rest, self._rest = self._rest, b""
        if rest:
            self._log(rest)

    def _log(self, line: bytes) -> None:
        if self._left < 0:
            return
        self._left -= len(line) + LINE_COST_BYTES
        level, said = take_apart(line)
        text = said[:LONGEST_LINE].decode(errors="backslashreplace")
        if self._left < 0:
            text = f"(the run printed more than {self._limit} bytes; the rest is not logged)"
        log.log(level, "%s", text, extra=dict(self._fields))
