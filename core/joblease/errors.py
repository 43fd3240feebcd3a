"""What an error means for whoever tries again: one classification for storage, API server and broker.

`TRANSIENT`: the same request may succeed later; wait, with `pauses`, for as long as the caller may wait. `CONFLICT`:
the thing is not as the caller thought; read it, then decide anew. `PERMANENT`: the same request fails each time; the
job that caused it fails with this error, at once, and no other job notices.

What nobody foresaw (`unforeseen`) is permanent too, but most likely a fault of ours: it is loud, and the job, which is
innocent, is tried again.

Refused credentials (401, 403) are `TRANSIENT`: they concern the installation, not a job, and whoever repairs them must
find the jobs intact. They are logged as errors (`log_level`), not as warnings.
"""

import logging
import random
from collections.abc import Iterator
from enum import Enum

from aiohttp import ClientConnectionError, ClientPayloadError, ClientResponseError
from azure.core.exceptions import AzureError

_NOT_AS_THOUGHT = (404, 409, 410, 412)
_TRY_LATER = (401, 403, 408, 425, 429)
_CLIENT_ERROR, _SERVER_ERROR = 400, 500
_CREDENTIALS = (401, 403)


class ErrorClass(Enum):
    """See the module's docstring."""

    TRANSIENT = "transient"
    CONFLICT = "conflict"
    PERMANENT = "permanent"


class TransientError(Exception):
    """Base of our own errors that mean "later": the broker did not confirm, storage did not answer."""


_GARBLED = ClientResponseError
"""aiohttp could not read an answer; the status that it gives is its own, mostly 400, and no server's."""
_NO_ANSWER = (TransientError, AzureError, OSError, TimeoutError, ClientConnectionError, ClientPayloadError, _GARBLED)


def classify(error: BaseException) -> ErrorClass:
    """The class of an error of Azure's SDK, of the Kubernetes client, of the transport, or of our own."""
    status = _status(error)
    if status in _NOT_AS_THOUGHT:
        return ErrorClass.CONFLICT
    if status is not None:
        refused = _CLIENT_ERROR <= status < _SERVER_ERROR and status not in _TRY_LATER
        return ErrorClass.PERMANENT if refused else ErrorClass.TRANSIENT  # a success that cannot be read was cut short
    # Without a status there was no answer: the transport failed, or the answer was cut.
    if isinstance(error, _NO_ANSWER):
        return ErrorClass.TRANSIENT
    return ErrorClass.PERMANENT


def unforeseen(error: BaseException) -> bool:
    """Whether an error is neither an answer nor about a value that cannot be stored or sent."""
    refused = _status(error) is not None or isinstance(error, ValueError | RecursionError)
    return not refused and classify(error) is ErrorClass.PERMANENT


def log_level(error: BaseException) -> int:
    """How loud an error is that will be tried again: refused credentials need somebody's hand."""
    return logging.ERROR if _status(error) in _CREDENTIALS else logging.WARNING


def pauses(first: float = 0.2, longest: float = 5.0) -> Iterator[float]:
    """Seconds to wait before each further try, without end: doubled each time, with 20 % jitter.

    The jitter keeps programs that failed together from coming back together.
    """
    pause = first
    while True:
        yield pause * random.uniform(0.8, 1.2)
        pause = min(pause * 2, longest)


def _status(error: BaseException) -> int | None:
    """The HTTP status: Azure calls it `status_code`, the Kubernetes client `status`. 0 is its word for no answer."""
    for name in () if isinstance(error, _GARBLED) else ("status_code", "status"):
        status = getattr(error, name, None)
        if isinstance(status, int) and status:
            return status
    return None
