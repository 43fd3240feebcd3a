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
MAX_FIELDS = 1_000
MAX_ARRIVING = 100
"""Forms that arrive at once. One that comes as fast as it can takes a moment: the one that takes longest gives way."""
_arriving: dict[asyncio.Timeout, None] = {}


async def read_form(request: "Request") -> dict[str, str]:
    """A form's fields. Raises `Problem` when it is too long or too slow, or no form."""
    body = bytearray()
    try:
        async with asyncio.timeout(FORM_SECONDS) as patience:
            _arriving[patience] = None
            _make_room()
            try:
                async for part in request.stream():
                    body += part
                    if len(body) > MAX_FORM_BYTES:
                        raise Problem(413, "Too much", f"a form may take {MAX_FORM_BYTES} bytes")
            finally:
                _arriving.pop(patience, None)
    except TimeoutError:
        raise Problem(
            408, "Too slow", f"a form must arrive within {FORM_SECONDS:g} s, or sooner when there are many"
        ) from None
    except ClientDisconnect:
        raise Problem(400, "Not a form", "it was not sent to its end") from None  # to nobody
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except ValueError as error:
        raise Problem(400, "Not a form", str(error)) from None


def _make_room() -> None:
    if len(_arriving) > MAX_ARRIVING:
        oldest = next(iter(_arriving))
        del _arriving[oldest]
        if not oldest.expired():
            oldest.reschedule(asyncio.get_running_loop().time())
