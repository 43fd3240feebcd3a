"""What a client's operation asks of its surroundings. The operations are generators that yield these steps.

So each is written once, without I/O: `Client` takes the steps one after the other, `AsyncClient` awaits them. Whoever
takes them sends the answer into the generator, or throws `Lost`.
"""

import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")


class Lost(Exception):
    """No answer: no connection, one that broke, or time that was over."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request. Its answer is an `Answer`."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    """JSON."""
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 30.0
    """Until the whole answer is there."""
    fresh_token: bool = False
    """Whether the token is to be read anew."""


@dataclass(frozen=True, slots=True)
class Open:
    """A request whose answer is a stream: `Read` reads it, if the status is 200. Its answer is an `Answer`."""

    call: Call


@dataclass(frozen=True, slots=True)
class Read:
    """The next bytes of the stream; none at its end."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Close:
    """The stream is not needed any more, if there is one."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Show:
    """Something for whoever uses the client."""

    value: Any


@dataclass(frozen=True, slots=True)
class Answer:
    """To a request."""

    status: int
    headers: Mapping[str, str]
    """Their names in small letters."""
    content: bytes

    def json(self) -> Any:
        """The content. Raises `ValueError`."""
        return json.loads(self.content)


Step: TypeAlias = Call | Open | Read | Close | Pause | Show
Steps: TypeAlias = Generator[Step, Any, T]


def shown(steps: Steps[T]) -> Steps[None]:
    """The steps, and what comes of them as the last thing that is shown."""
    value = yield from steps
    yield Show(value)
