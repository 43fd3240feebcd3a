"""What handlers give: messages, progress, data, checkpoints, results.

Checked here and nowhere else, before it leaves the handler. Whatever passes can be stored, sent and shown by every
part: text is Unicode without control characters, numbers fit into 64 bits, nothing is deeper or larger than `limits`
says. What does not pass is the handler's own error, raised where the handler gave it: `TypeError` for a wrong type,
`ValueError` for a value out of bounds. Both name the argument.
"""

import json
import math
import numbers
import operator
import re
from collections.abc import Iterator, Mapping
from typing import Any

from joblease.limits import (
    MAX_CHECKPOINT_BYTES,
    MAX_DEPTH,
    MAX_RESULT_BYTES,
    MAX_STEP_DATA_BYTES,
    MAX_STEP_MESSAGE,
    is_int64,
)

_UNSHOWABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]|\r(?!\n)")
_PLAIN = frozenset({str, dict, list, int, float, bool, type(None)})
_BYTE_OF_A_NAME = range(0xDC80, 0xDD00)
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_ACCEPTED = (
    "accepted are text, numbers, true, false, None, lists and dicts of them, and what pydantic writes as JSON: "
    "dates, UUIDs, Decimals, enums, paths, sets, dataclasses, models"
)


def message(value: object) -> str:
    """A step's message: text, cut to 4,000 characters."""
    if not isinstance(value, str):
        raise TypeError(f"job.step(message=…) takes text (str), not {_kind(value)}")
    return printable(value, MAX_STEP_MESSAGE)


def progress(value: object) -> float | None:
    """A step's progress: a number from 0 to 1, or None."""
    if value is None:
        return None
    if type(value) is not float and (isinstance(value, bool) or not isinstance(value, numbers.Real)):
        raise TypeError(f"job.step(progress=…) takes a number from 0 to 1, not {_kind(value)}")
    number: Any = value
    if not 0 <= number <= 1:
        raise ValueError(f"job.step(progress=…) is a part of 1, from 0 to 1, not {value}")
    return float(number)


def data(value: object) -> dict[str, Any] | None:
    """A step's data: a JSON object of 16 KiB at most, or None."""
    if value is None:
        return None
    return _object(value, "job.step(data=…)", MAX_STEP_DATA_BYTES)


def checkpoint(value: object) -> dict[str, Any]:
    """A checkpoint: a JSON object of 64 KiB at most."""
    return _object(value, "job.checkpoint(…)", MAX_CHECKPOINT_BYTES)


def _object(value: object, name: str, longest: int) -> dict[str, Any]:
    plain, too_much = _read(value, name, longest)
    if too_much:
        raise ValueError(f"{name} takes {longest} bytes of JSON at most, not {too_much}")
    if not isinstance(plain, dict):
        raise TypeError(f"{name} takes a JSON object (a dict), not {_kind(value)}")
    return plain


def result(value: object) -> Any:
    """A handler's result: JSON of 4 KiB at most."""
    if value is None:
        return None
    plain, too_much = _read(value, "the result", MAX_RESULT_BYTES)
    if too_much:
        raise ValueError(
            f"the result takes {too_much} bytes of JSON; at most {MAX_RESULT_BYTES} fit. "
            "Write a large result to storage and return its address."
        )
    return plain


def _read(value: object, name: str, longest: int) -> tuple[Any, str]:
    """The value as plain JSON, and how many bytes it takes if these are more than `longest`."""
    try:
        plain = json_value(value, name, room=_Room(longest))
    except _TooMany as error:
        return None, str(error)
    size = _size(plain)
    return plain, str(size) if size > longest else ""


def printable(text: str, longest: int | None = None) -> str:
    r"""The text with control characters and lone surrogates escaped; newline and tab stay. Cut when too long.

    A byte of a file name that is not UTF-8 (`os.fsdecode` makes a surrogate of it) is shown as `\xe9`.
    """
    if longest is not None:
        text = str.__str__(text)[: longest + 1]  # the rest is not worth escaping, which makes no text shorter
    if not (text.isascii() and text.isprintable()):
        text = _UNSHOWABLE.sub(_escape, str.__str__(text))
    if longest is not None and len(text) > longest:
        text = text[: longest - 1] + "…"
    return text


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code in _BYTE_OF_A_NAME:
        code -= 0xDC00
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}"


class _TooMany(ValueError):
    """There are more values than bytes; says so in place of a number of bytes."""


class _Room:
    """How many values there may be: no more than bytes, of which each takes at least one.

    Without it, a list that is much too large (or one that holds another one twice, and that another one twice, …) would
    be read to its end, for minutes, only to be refused.
    """

    def __init__(self, values: int) -> None:
        self._values = self._left = values

    def take(self, values: int) -> None:
        self._left -= values
        if self._left < 0:
            raise _TooMany(f"more than {self._values}")


def json_value(value: Any, name: str, depth: int = MAX_DEPTH, room: _Room | None = None) -> Any:
    """The value as plain JSON: dicts, lists, str, int, float, bool, None. `name` says in errors what it is."""
    if type(value) not in _PLAIN:
        value = _plain(value, name)
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict | list):
        if depth == 0:
            raise ValueError(f"{name} is nested more than {MAX_DEPTH} levels deep")
        if room:
            room.take(len(value))
        if isinstance(value, dict):
            return {_key(key, name): json_value(each, f"{name}.{key}", depth - 1, room) for key, each in value.items()}
        return [json_value(each, f"{name}[{n}]", depth - 1, room) for n, each in enumerate(value)]
    if isinstance(value, int) and not is_int64(value):
        raise ValueError(f"{name} is an integer of more than 64 bits; pass it as text")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} is {value}, which JSON cannot hold")
    return value


def _key(key: object, name: str) -> str:
    if not isinstance(key, str):
        raise TypeError(f"{name} has a key that is no text (str) but {_kind(key)}")
    return printable(key)


def _plain(value: Any, name: str) -> Any:
    """A value of another type than JSON's as one of JSON's, its parts as they are."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, numbers.Integral):
        return operator.index(value)
    if isinstance(value, numbers.Real):
        return _float(value, name)
    if isinstance(value, Iterator):  # pydantic would run it, for ever perhaps
        raise TypeError(f"{name} is {_kind(value)}, not JSON: {_ACCEPTED}")
    return _as_pydantic_writes(value, name)


def _float(value: numbers.Real, name: str) -> float:
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} is a {_kind(value)} of more than 64 bits; pass it as text") from None


def _as_pydantic_writes(value: Any, name: str) -> Any:
    from pydantic_core import PydanticSerializationError, to_jsonable_python  # most handlers have no use for it

    dump = getattr(type(value), "model_dump", None)
    try:
        plain = dump(value, mode="json") if dump else to_jsonable_python(value, by_alias=False)
    except PydanticSerializationError as error:
        raise TypeError(f"{name} is or holds what is not JSON ({error}): {_ACCEPTED}") from None
    except ValueError as error:
        raise ValueError(f"{name} ({_kind(value)}) cannot be written as JSON: {error}") from error
    if type(plain) not in _PLAIN:
        raise TypeError(f"{name} is {_kind(value)}, not JSON: {_ACCEPTED}")
    return plain


def _kind(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


def _size(plain: Any) -> int:
    return len(_encode(plain).encode())
