"""A form's fields, read from a request's body: in bounds of size, of time, and of what all of them take together."""

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect

from joblease_dashboard.problems import Problem

if TYPE_CHECKING:
    from starlette.requests import Request

FORM_SECONDS = 30.0
MAX_FORM_BYTES = 256 << 10
MAX_LOGIN_BYTES = 32 << 10
"""Of the form that anybody may send."""
MAX_FIELDS = 1_000
MAX_ARRIVING = 100
"""Forms that arrive at once. One that comes as fast as it can takes a moment: the one that takes longest gives way."""
_arriving: dict[asyncio.Timeout, None] = {}


async def read_form(request: "Request", most: int = MAX_FORM_BYTES) -> dict[str, str]:
    """A form's fields. Raises `Problem` when it has more than `most` bytes or is too slow, or no form."""
    declared = request.headers.get("content-length", "0")
    too_long = len(declared) > len(str(most)) or int(declared) > most  # then it need not be read at all
    body = None if too_long else await _body(request, most)
    if body is None:
        raise Problem(413, "Too much", f"a form may take {most} bytes")
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except ValueError as error:
        raise Problem(400, "Not a form", str(error)) from None


async def _body(request: "Request", most: int) -> bytearray | None:
    """The body, or None when it is too long."""
    body = bytearray()
    try:
        async with asyncio.timeout(FORM_SECONDS) as patience:
            _arriving[patience] = None
            _make_room()
            try:
                async for part in request.stream():
                    body += part
                    if len(body) > most:
                        return None
            finally:
                _arriving.pop(patience, None)
    except TimeoutError:
        detail = f"a form must arrive within {FORM_SECONDS:g} s, and sooner while many do"
        raise Problem(408, "Too slow", detail) from None
    except ClientDisconnect:
        raise Problem(400, "Not a form", "it was not sent to its end") from None  # nobody reads that
    return body


def _make_room() -> None:
    if len(_arriving) > MAX_ARRIVING:
        oldest = next(iter(_arriving))
        del _arriving[oldest]
        if not oldest.expired():
            oldest.reschedule(asyncio.get_running_loop().time())
