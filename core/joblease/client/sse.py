"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html), out of the bytes of a stream."""

from collections.abc import Iterator
from typing import NamedTuple

MAX_LINE = 1 << 20


class Message(NamedTuple):
    """An event of a stream; `kind` is empty for one that only brings an id, or shows that the stream lives."""

    kind: str
    data: str


class Parser:
    """Takes bytes as they come."""

    def __init__(self) -> None:
        self.last_id = ""
        """With which the stream can be resumed."""
        self._rest = b""
        self._kind = ""
        self._data: list[str] = []

    def restart(self) -> None:
        """Another stream begins; the last id stays."""
        self._rest, self._kind, self._data = b"", "", []

    def feed(self, chunk: bytes) -> Iterator[Message]:
        """The events that are complete now. Raises `ValueError` for what is no stream of events."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > MAX_LINE:
            raise ValueError("a line without an end")
        for line in lines:
            text = line.rstrip(b"\r").decode()
            if text:
                self._field(text)
                continue
            yield Message(self._kind if self._data else "", "\n".join(self._data))
            self._kind, self._data = "", []

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._kind = value
        elif name == "data":
            self._data.append(value)
        elif name == "id":
            self.last_id = value
