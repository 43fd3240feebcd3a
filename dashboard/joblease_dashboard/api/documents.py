"""Bodies in JSON: read strictly, and held to a model, with errors that name the field.

What JSON leaves open is refused, since two readers of it would see two things: names that are there twice, numbers that
are none, text that is no Unicode.
"""

import json
import math
import re
import reprlib
from collections import Counter
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from joblease.jobrequest import deeper_than
from joblease.limits import MAX_DEPTH, is_int64
from joblease.model import Model
from pydantic import ValidationError

from joblease_dashboard.actions.bodies import body_of
from joblease_dashboard.actions.submission import expected
from joblease_dashboard.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic_core import ErrorDetails
    from starlette.requests import Request

MAX_BYTES = 2 << 20
MAX_BATCH_BYTES = 8 << 20
"""Decoded it may take four times as much."""
MAX_HEARD_BYTES = 64 << 20
"""Of a body that is too long."""
MOST_LEVELS = MAX_DEPTH + 16
"""At which nothing that reads JSON gives up. How deep a job's parameters may be is said elsewhere."""
DIGITS = 20
"""Of a whole number, its sign included."""
NAMED = 5
"""Mistakes that one answer tells of."""
LONGEST_FIELD = 200
JSON_TYPE = re.compile(r"application/([\w.+-]+\+)?json", re.ASCII | re.IGNORECASE)
_BLANK = re.compile(r"[ \t\n\r]*")
_shorten = reprlib.Repr()
_shorten.maxstring = _shorten.maxother = 80
M = TypeVar("M", bound=Model)


def text_of(request: "Request", body: bytearray) -> str:
    """The body as text. Raises `Problem`."""
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip()
    if not JSON_TYPE.fullmatch(kind):
        raise Problem(415, "Not JSON", f"send application/json, not {_shorten.repr(kind)} (curl: --json)")
    try:
        return body.decode()
    except ValueError:
        raise _no_json("it is not UTF-8") from None


async def read_body(model: type[M], request: "Request") -> M:
    """What a request's body says; an empty one says `{}`. Raises `Problem`."""
    async with body_of(request, MAX_BYTES, heard=MAX_HEARD_BYTES) as body:
        return read(model, text_of(request, body) if body else "{}")[0]


def read(model: type[M], text: str) -> tuple[M, dict[str, Any]]:
    """What a text says, and the same as it was written. Raises `Problem`."""
    try:
        value: Any = _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise _no_json(error) from None
    if deeper_than(MOST_LEVELS, value):
        raise Problem(422, "Too deep", f"it is nested more than {MOST_LEVELS} levels deep")
    try:
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
        found = model.model_validate_json(text, strict=True, extra="forbid", by_alias=True, by_name=False)
    except ValidationError as error:
        raise _misfit(error.errors(include_url=False)) from None
    except ValueError:
        raise _no_json("there is half a character (a lone surrogate)") from None
    return found, value


def elements(text: str, name: str, most: int) -> list[str]:
    """The texts of a list's elements, when that list is all that there is: `{"name": […]}`. Raises `Problem`.

    So that only one of them has to be in memory as more than text.
    """
    found: list[str] = []
    try:
        at = _after(text, 0, "{")
        key, at = _DECODER.raw_decode(text, at)
        if key != name:
            raise Problem(422, "Does not fit", f"there is no field {_shorten.repr(key)}; {name!r} is expected")
        at = _after(text, _after(text, at, ":"), "[")
        while text[at : at + 1] != "]" or found:
            if len(found) == most:
                raise Problem(422, "Too many", f"{name}: {most} at most", field=name)
            _, end = _DECODER.raw_decode(text, at)
            found.append(text[at:end])
            at = _BLANK.match(text, end).end()  # type: ignore[union-attr]
            if text[at : at + 1] == "]":
                break
            at = _after(text, at, ",")
        if _after(text, _after(text, at, "]"), "}") != len(text):
            raise _no_json("there is something after its end")
    except (ValueError, RecursionError) as error:
        raise _no_json(error) from None
    return found


def _after(text: str, at: int, mark: str) -> int:
    at = _BLANK.match(text, at).end()  # type: ignore[union-attr]
    if text[at : at + 1] != mark:
        raise ValueError(f"{mark} is expected at character {at}")
    return _BLANK.match(text, at + 1).end()  # type: ignore[union-attr]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"{_shorten.repr(twice)} is there twice")
    return found


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{_shorten.repr(text)} is too large a number")
    return number


def _whole(digits: str) -> int:
    if len(digits) > DIGITS or not is_int64(number := int(digits)):
        raise ValueError(f"{_shorten.repr(digits)} is an integer of more than 64 bits; text can hold it")
    return number


_DECODER = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_constant, parse_float=_finite, parse_int=_whole)


def _no_json(why: object) -> Problem:
    return Problem(400, "Not JSON", f"the body cannot be read: {why}")


def _misfit(errors: "Iterable[ErrorDetails]") -> Problem:
    found = [(".".join(map(str, each["loc"])) or "the body", each) for each in errors]
    said = [f"{_cut(field)}: {_expected(each)}, not {_shorten.repr(each['input'])}" for field, each in found[:NAMED]]
    more = [f"and {len(found) - NAMED} more"] if len(found) > NAMED else []
    return Problem(422, "Does not fit", "; ".join(said + more), field=_cut(found[0][0]))


def _expected(error: "ErrorDetails") -> str:
    if error["type"] == "extra_forbidden":
        return "there is no such field"
    return expected(error).removeprefix("Value error, ")


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_FIELD else f"{text[:LONGEST_FIELD]}…"
