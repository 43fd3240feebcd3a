"""What both clients do alike with httpx: settings, requests, answers."""

import os
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from joblease.client.errors import NotConfigured
from joblease.client.lean import httpx
from joblease.client.place import Place, find, tls_context
from joblease.client.steps import Answer, Call
from joblease.client.submission import Submission

CONNECT_SECONDS = 5.0
CONNECTIONS = 100
LONGEST = 86_400
"""Seconds; a socket takes no infinite time."""


@dataclass(frozen=True, slots=True)
class Config:
    """How a client was set up."""

    place: Place
    tls: ssl.SSLContext
    timeout: float
    options: Mapping[str, Any]
    """Of each job that does not say otherwise."""

    @classmethod
    def of(
        cls,
        url: str | None,
        token: str | Callable[[], str] | None,
        ca: str | os.PathLike[str] | None,
        timeout: float,
        options: Any,
        *,
        plain: bool,
    ) -> Self:
        """Checked. Raises `NotConfigured`, `TypeError`, `ValueError`."""
        if not isinstance(timeout, int | float) or not 0 < timeout <= LONGEST:
            raise ValueError(f"timeout: seconds are expected, more than 0 and at most {LONGEST}, not {timeout!r}")
        place = find(url, token, plain=plain)
        defaults = Submission("").options(**options).said
        return cls(place, tls_context(place, ca), timeout, defaults)


@contextmanager
def opening() -> Iterator[None]:
    """Where httpx reads the environment's proxies. Raises `NotConfigured` for those that it cannot use."""
    try:
        yield
    except (ValueError, ImportError, httpx.InvalidURL) as error:
        text = f"HTTPS_PROXY, ALL_PROXY or NO_PROXY of the environment cannot be used: {error}"
        raise NotConfigured(text) from None


def limits() -> httpx.Limits:
    """Of connections; one that is not used is closed before the dashboard closes it."""
    return httpx.Limits(max_connections=CONNECTIONS, keepalive_expiry=4.0)


def request_of(config: Config, http: httpx.Client | httpx.AsyncClient, call: Call, read: float) -> httpx.Request:
    """The request that a call means; it may be silent for `read` seconds."""
    token = config.place.token(call.fresh_token) if config.place.token else ""
    headers = {
        "Accept": "application/json",
        **(dict.fromkeys(config.place.token_headers, f"Bearer {token}") if token else {}),
        **({"Content-Type": "application/json"} if call.content is not None else {}),
        **call.headers,
    }
    connect = min(CONNECT_SECONDS, call.seconds)
    timeout = httpx.Timeout(connect=connect, read=read, write=read, pool=read)
    request = http.build_request(
        call.method, call.path, params=dict(call.query) or None, content=call.content, headers=headers, timeout=timeout
    )
    # A dashboard without access control (`make up`) takes changes from its own pages alone: what no page of another
    # site can say in a browser.
    request.headers["Origin"] = f"{request.url.scheme}://{request.url.netloc.decode()}"
    return request


def answer_of(response: httpx.Response, content: bytes) -> Answer:
    """The answer, for the operations."""
    return Answer(response.status_code, {name.lower(): value for name, value in response.headers.items()}, content)
