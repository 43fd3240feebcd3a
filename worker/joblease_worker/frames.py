"""What the worker and its handler processes say to each other: JSON lines on a socket.

A process says `Ready` once; then the worker sends a `Run`, and possibly a `Cancel`, and the process answers with any
number of `Step` and `Checkpoint`, and one `Ended`. Each of these names its run, so that whatever a run has left behind
cannot speak for another one. A line that is none of these is `BadFrame`, and the connection is worth nothing from then
on. The worker checks each field's value, too: anything in a handler process may write to its socket.
"""

import functools
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from joblease import values
from joblease.handlers import GIVEN
from joblease.limits import MAX_STEP_MESSAGE

from joblease_worker.ending import RAISED, STOPPED, UNSTARTED

if TYPE_CHECKING:
    from pydantic import TypeAdapter

VERSION = 3
"""Of this protocol. Both sides are of one installation, except when it is upgraded beneath a running worker."""
MAX_FRAME = 4 << 20
"""Bytes of a line at most; room for the descriptions of many handlers."""
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class BadFrame(Exception):
    """What the other side sent is no frame."""


# Data classes, which pydantic reads as strictly as models; to define those takes a third of a handler process's start.


@dataclass(kw_only=True)
class Frame:
    """A line."""

    __pydantic_config__: ClassVar = {"strict": True, "extra": "forbid", "allow_inf_nan": False}


@dataclass(kw_only=True)
class Ready(Frame):
    """Child to worker: the handlers are imported."""

    type: Literal["ready"] = "ready"
    version: int = VERSION
    handlers: list[dict[str, Any]]
    """`HandlerDescription`s."""


@dataclass(kw_only=True)
class OfRun(Frame):
    """All others name the run that they are about."""

    run: str
    """Job id and epoch."""


@dataclass(kw_only=True)
class Step(OfRun):
    """Child to worker: the handler has recorded a step."""

    type: Literal["step"] = "step"
    step: int
    message: str
    progress: float | None
    data: dict[str, Any] | None


@dataclass(kw_only=True)
class Checkpoint(OfRun):
    """Child to worker: the handler has come that far."""

    type: Literal["checkpoint"] = "checkpoint"
    state: dict[str, Any]


@dataclass(kw_only=True)
class Ended(OfRun):
    """Child to worker: the handler has ended."""

    type: Literal["ended"] = "ended"
    how: str
    """The outcome that it gives its job (`GIVEN`), `RAISED`, `STOPPED` or `UNSTARTED`."""
    result: Any = None
    error: str = ""
    traceback: str = ""
    left: str = ""
    """What the run has left in its process, in words. Such a process runs nothing more."""


@dataclass(kw_only=True)
class Run(OfRun):
    """Worker to child: run this job, but do not begin after the deadline (`boot_seconds`)."""

    type: Literal["run"] = "run"
    job: dict[str, Any]
    """The fields of `JobContext`."""
    deadline: float


@dataclass(kw_only=True)
class Cancel(OfRun):
    """Worker to child: stop that run."""

    type: Literal["cancel"] = "cancel"


Said = Ready | Step | Checkpoint | Ended
Order = Run | Cancel
_ORDERS: dict[str, type[Order]] = {"run": Run, "cancel": Cancel}


def encode(frame: Said | Order) -> bytes:
    """A frame as a line. Raises `ValueError` or `RecursionError` when it has what JSON cannot hold."""
    return _encode(vars(frame)).encode() + b"\n"


def said(line: bytes) -> Said:
    """What a handler process says. Raises `BadFrame`."""
    from pydantic import ValidationError  # and with it all that a handler process has no use for

    try:
        frame = _reader().validate_json(line)
        _check(frame)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise BadFrame(f"{'.'.join(map(str, problem['loc'])) or 'the line'}: {problem['msg']}") from None
    except ValueError as error:
        raise BadFrame(str(error)) from None
    return frame


def order(line: bytes) -> Order:
    """What the worker wants. Raises `BadFrame`."""
    try:
        fields = json.loads(line)
        kind: type[Order] = _ORDERS[fields["type"]]
        return kind(**fields)
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise BadFrame(f"the line is no order: {error}") from None


def orders(connection: socket.socket) -> Iterator[Order]:
    """What the worker wants, as it comes, until it hangs up. Raises `BadFrame`, `OSError`."""
    rest = b""
    while block := connection.recv(65_536):
        *lines, rest = (rest + block).split(b"\n")
        if len(rest) > MAX_FRAME:
            raise BadFrame(f"a line of more than {MAX_FRAME} bytes")
        for line in lines:
            yield order(line)


def _check(frame: Said) -> None:
    """What a handler writes into the socket has not come through `JobContext`; none of it must reach the trail."""
    if isinstance(frame, Ready):
        if frame.version != VERSION:
            raise BadFrame(
                f"the handler process speaks version {frame.version} of their protocol, the worker version {VERSION}: "
                "JobLease was upgraded while this worker ran; restart it"
            )
        frame.handlers = values.json_value(frame.handlers, "the handlers")
    elif isinstance(frame, Step):
        if frame.step < 1 or len(frame.message) > MAX_STEP_MESSAGE:
            raise BadFrame("a step has a number from 1, and a message of bounded length")
        values.progress(frame.progress)
        frame.message = values.printable(frame.message)
        frame.data = values.json_value(frame.data, "a step's data")
    elif isinstance(frame, Checkpoint):
        frame.state = values.checkpoint(frame.state)
    else:
        if frame.how not in {*GIVEN, RAISED, STOPPED, UNSTARTED}:
            raise BadFrame("a run ends with an outcome that a handler can give, raised, stopped, or unstarted")
        frame.result = values.json_value(frame.result, "a result")
        frame.error, frame.traceback = values.printable(frame.error), values.printable(frame.traceback)


@functools.cache
def _reader() -> "TypeAdapter[Said]":
    from pydantic import Field, TypeAdapter

    return TypeAdapter(Annotated[Said, Field(discriminator="type")])
