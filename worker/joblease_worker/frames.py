"""What the worker and its handler processes say to each other: JSON lines on a socket.

A process says `Ready` once; then the worker sends a `Run`, and possibly a `Cancel`, and the process answers with any
number of `Step` and one of `Completed`, `Failed`, `Stopped`. Each of these names its run, so that whatever a run has
left behind cannot speak for another one. Both sides read strictly: a line that is none of these is `BadFrame`, and the
connection is worth nothing from then on.
"""

import socket
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from joblease import values
from joblease.limits import MAX_STEP_MESSAGE
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

VERSION = 1
"""Of this protocol. Both sides are of one installation, except when it is upgraded beneath a running worker."""
MAX_FRAME = 4 << 20
"""Bytes of a line at most; room for the descriptions of many handlers."""


class BadFrame(Exception):
    """What the other side sent is no frame."""


def _storable(value: Any) -> Any:
    """Checked once more: what a handler writes into the socket has not come through `JobContext`."""
    return values.json_value(value, "it")


class Frame(BaseModel):
    """A line. It names the run that it is about."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    run: str
    """Job id and epoch."""


class Ready(BaseModel):
    """Child to worker: the handlers are imported."""

    model_config = Frame.model_config

    type: Literal["ready"] = "ready"
    version: int = VERSION
    handlers: list[dict[str, Any]]
    """`HandlerDescription`s."""


class Step(Frame):
    """Child to worker: the handler has recorded a step."""

    type: Literal["step"] = "step"
    step: Annotated[int, Field(ge=1)]
    message: Annotated[str, Field(max_length=MAX_STEP_MESSAGE), AfterValidator(values.printable)]
    progress: Annotated[float, Field(ge=0, le=1)] | None
    data: Annotated[dict[str, Any], AfterValidator(_storable)] | None


class Ended(Frame):
    """What all endings have."""

    left: str = ""
    """What the run has left in its process, in words. Such a process runs nothing more."""


class Completed(Ended):
    """Child to worker: the handler has returned."""

    type: Literal["completed"] = "completed"
    result: Annotated[Any, AfterValidator(_storable)]


class Failed(Ended):
    """Child to worker: the handler has raised."""

    type: Literal["failed"] = "failed"
    error: Annotated[str, AfterValidator(values.printable)]
    traceback: Annotated[str, AfterValidator(values.printable)]
    permanent: bool


class Stopped(Ended):
    """Child to worker: the handler has stopped before its end, as it was asked to."""

    type: Literal["stopped"] = "stopped"


class Run(Frame):
    """Worker to child: run this job, but do not begin after the deadline (`boot_seconds`)."""

    type: Literal["run"] = "run"
    job: dict[str, Any]
    """The fields of `JobContext`."""
    deadline: float


class Cancel(Frame):
    """Worker to child: stop that run."""

    type: Literal["cancel"] = "cancel"


Ending = Completed | Failed | Stopped
Said = Ready | Step | Ending
Order = Run | Cancel
_SAID: TypeAdapter[Said] = TypeAdapter(Annotated[Said, Field(discriminator="type")])
_ORDER: TypeAdapter[Order] = TypeAdapter(Annotated[Order, Field(discriminator="type")])


def encode(frame: Said | Order) -> bytes:
    """A frame as a line."""
    return frame.model_dump_json().encode() + b"\n"


def said(line: bytes) -> Said:
    """What a handler process says. Raises `BadFrame`."""
    try:
        frame = _SAID.validate_json(line)
    except ValidationError as error:
        raise _bad(error) from None
    if isinstance(frame, Ready) and frame.version != VERSION:
        raise BadFrame(
            f"the handler process speaks version {frame.version} of their protocol, the worker version {VERSION}: "
            "JobLease was upgraded while this worker ran; restart it"
        )
    return frame


def order(line: bytes) -> Order:
    """What the worker wants. Raises `BadFrame`."""
    try:
        return _ORDER.validate_json(line)
    except ValidationError as error:
        raise _bad(error) from None


def orders(connection: socket.socket) -> Iterator[Order]:
    """What the worker wants, as it comes, until it hangs up. Raises `BadFrame`, `OSError`."""
    rest = b""
    while block := connection.recv(65_536):
        *lines, rest = (rest + block).split(b"\n")
        if len(rest) > MAX_FRAME:
            raise BadFrame(f"a line of more than {MAX_FRAME} bytes")
        for line in lines:
            yield order(line)


def _bad(error: ValidationError) -> BadFrame:
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return BadFrame(f"{'.'.join(map(str, problem['loc'])) or 'the line'}: {problem['msg']}")
