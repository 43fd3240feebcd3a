"""The body of a request: in bounds of size, of time, and of what all of them take together."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect

from joblease_dashboard.problems import Problem

if TYPE_CHECKING:
    from starlette.requests import Request

ARRIVAL_SECONDS = 30.0
MAX_ARRIVING = 100
"""Bodies that arrive at once. One that comes as fast as it can takes a moment: the one that takes longest gives way."""
MAX_BYTES = 32 << 20
"""Of all bodies that are there at once, whole or in part."""
_arriving: dict[asyncio.Timeout, bytearray] = {}
_held = 0


@contextlib.asynccontextmanager
async def body_of(request: "Request", most: int, what: str = "a body", heard: int = 0) -> AsyncIterator[bytearray]:
    """The body, which counts as held until the block ends.

    Raises `Problem` when it has more than `most` bytes, is too slow, or does not come whole. `what` it is, in words.
    One that is too long is read and forgotten, up to `heard` bytes: many clients look at the answer only afterwards.
    """
    global _held  # noqa: PLW0603 - all requests together
    too_long = Problem(413, "Too much", f"{what} may take {most} bytes")
    bound = max(most, heard)
    declared = request.headers.get("content-length", "0")
    if len(declared) > len(str(bound)) or int(declared) > bound:  # then it need not be read at all
        raise too_long
    body, size = bytearray(), 0
    try:
        async with _patience(body, what):
            async for part in request.stream():
                size += len(part)
                if size > bound:
                    raise too_long
                if size > most:
                    _held -= len(body)
                    body.clear()
                    continue
                body += part
                _held += len(part)
                if _held > MAX_BYTES and _arriving:
                    _drop_oldest()
            if len(body) < size <= most:  # dropped while its last part came
                raise TimeoutError
        if size > most:
            raise too_long
        yield body
    except ClientDisconnect:
        raise Problem(400, "Not whole", f"{what} was not sent to its end") from None  # nobody reads that
    finally:
        _held -= len(body)


@contextlib.asynccontextmanager
async def _patience(body: bytearray, what: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(ARRIVAL_SECONDS) as patience:
            _arriving[patience] = body
            if len(_arriving) > MAX_ARRIVING:
                _drop_oldest()
            try:
                yield
            finally:
                _arriving.pop(patience, None)
    except TimeoutError:
        detail = f"{what} must arrive within {ARRIVAL_SECONDS:g} s, and sooner while many do"
        raise Problem(408, "Too slow", detail) from None


def _drop_oldest() -> None:
    """Forget what has come of the one that takes longest, at once: the others need not give way for it, too."""
    global _held  # noqa: PLW0603 - all requests together
    oldest = next(iter(_arriving))
    body = _arriving.pop(oldest)
    _held -= len(body)
    body.clear()
    if not oldest.expired():
        oldest.reschedule(asyncio.get_running_loop().time())
