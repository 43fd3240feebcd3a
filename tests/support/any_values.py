"""What a handler can have in its hands that JSON cannot say, under names that JSON can."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import BaseModel

NOT_UTF8 = os.fsdecode(b"caf\xe9")


class Model(BaseModel):
    when: date = date(2026, 1, 2)


@dataclass
class Point:
    x: float = 0.5


class Colour(Enum):
    RED = "red"


class Mute(Exception):
    """Cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


class Text(str):
    """A kind of text that is not quite text."""

    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("no text")


def nested(value: Mapping[str, Any]) -> Any:
    inner: Any = 0
    for number in range(int(value["depth"])):
        inner = [inner] if number % 2 else {"in": inner}
    return inner


def cycle(_: object) -> Any:
    around: list[Any] = []
    around.append(around)
    return around


SPECIALS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "repeat": lambda value: str(value["text"]) * int(value["times"]),
    "nested": nested,
    "cycle": cycle,
    "keys": lambda _: {1: 2, None: 3, (4, 5): 6, 0.5: 7},
    "many-keys": lambda _: {str(number): number for number in range(5_000)},
    "object": lambda _: object(),
    "mute": lambda _: Mute(),
    "text": lambda _: Text("x"),
    "not-utf8": lambda _: NOT_UTF8,
    "not-utf8-key": lambda _: {NOT_UTF8: 1},
    "nul": lambda _: "a\0b\x1b[31m\x7f\u2028",
    "nan": lambda _: float("nan"),
    "infinity": lambda _: float("-inf"),
    "huge": lambda _: 10**5_000,
    "big": lambda _: -(2**64),
    "complex": lambda _: 1j,
    "decimal": lambda _: Decimal("1.10"),
    "no-decimal": lambda _: Decimal("sNaN"),
    "date": lambda _: datetime(2026, 1, 2, tzinfo=UTC),
    "naive": lambda _: datetime(1, 1, 1),  # noqa: DTZ001
    "duration": lambda _: timedelta(days=-1),
    "uuid": lambda _: UUID(int=1),
    "path": lambda _: Path("x"),
    "bytes": lambda _: b"\xff\0",
    "set": lambda _: {1, "a"},
    "enum": lambda _: Colour.RED,
    "dataclass": lambda _: Point(),
    "model": lambda _: Model(),
    "model-class": lambda _: Model,
    "generator": lambda _: (number for number in range(3)),
    "module": lambda _: sys,
}


def value_of(said: Any) -> Any:
    """What a part of the parameters stands for."""
    if isinstance(said, dict):
        if said.get("!") in SPECIALS:
            return SPECIALS[said["!"]](said)
        return {key: value_of(each) for key, each in said.items()}
    if isinstance(said, list):
        return [value_of(each) for each in said]
    return said
