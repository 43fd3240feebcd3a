"""What a command says of its job: JSON lines on a file descriptor, each a step, a checkpoint or the result.

A line that is none of these fails the attempt, as a wrong argument of `job.step` does in Python. What a command can
make this process hold is bounded: a line, and the last result.
"""

import json
from typing import Any

from joblease.handlers import JobContext

MAX_LINE = 1 << 18
"""Bytes; room for a checkpoint whose letters are all escaped."""
_STEP = {"step", "progress", "data"}


class BadLine(ValueError):
    """A line that a command has written, and that says nothing."""


class Said:
    """Takes blocks of bytes as they come."""

    def __init__(self, job: JobContext) -> None:
        self._job = job
        self._rest = b""
        self._lines = 0
        self.result: Any = None
        """The last one."""

    def hear(self, block: bytes) -> None:
        """More of it. Raises `BadLine`, what `JobContext` raises, and `JobCancelled`."""
        *lines, self._rest = (self._rest + block).split(b"\n")
        for line in lines:
            self._line(line)
        if len(self._rest) > MAX_LINE:
            raise self._bad(f"has more than {MAX_LINE} bytes", self._lines + 1)

    def end(self) -> None:
        """No more comes: the last line may lack its end. Raises as `hear`."""
        rest, self._rest = self._rest, b""
        self._line(rest)

    def _line(self, line: bytes) -> None:
        self._lines += 1
        if not line.strip():
            return
        if len(line) > MAX_LINE:
            raise self._bad(f"has more than {MAX_LINE} bytes")
        try:
            said = json.loads(line.decode())
        except (ValueError, RecursionError) as error:
            raise self._bad(f"is no JSON ({error}): {line[:100].decode(errors='backslashreplace')}") from None
        if not isinstance(said, dict):
            raise self._bad("is no JSON object")
        keys = said.keys()
        if keys == {"result"}:
            self.result = said["result"]
        elif keys == {"checkpoint"}:
            self._job.checkpoint(said["checkpoint"])
        elif keys and keys <= _STEP:
            self._job.step(said.get("step", ""), progress=said.get("progress"), data=said.get("data"))
        else:
            raise self._bad(
                f"has the keys {', '.join(map(repr, list(keys)[:10]))}: a step has 'step', 'progress' and 'data', "
                "a checkpoint 'checkpoint' alone, a result 'result' alone"
            )

    def _bad(self, what: str, line: int = 0) -> BadLine:
        return BadLine(f"line {line or self._lines} that it wrote on the descriptor JOBLEASE_FD {what}")
