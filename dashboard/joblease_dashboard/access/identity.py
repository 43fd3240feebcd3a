"""Who asks, as Kubernetes knows them."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.requests import Request


@dataclass(frozen=True, slots=True)
class Identity:
    """A user and their groups, and in whose name the API server is asked for them."""

    user: str
    groups: tuple[str, ...] = ()
    token: str = field(default="", repr=False)
    """Theirs: requests are made with it. Without one they are made with the dashboard's own account."""
    impersonated: bool = False
    """The dashboard's own account asks in their name."""


RESERVED = "system:"
"""Begins the names that are Kubernetes' own: neither a proxy nor an OIDC issuer has them to give."""
ANYBODY = Identity("anonymous")
TOKEN_HEADERS = ("authorization", "x-joblease-authorization")
"""The second for those who come by the API server's proxy, which keeps the first for itself."""


def bearer(request: "Request") -> str:
    """The request's token, or nothing."""
    for name in TOKEN_HEADERS:
        scheme, _, token = request.headers.get(name, "").partition(" ")
        if scheme.lower() == "bearer" and token.strip():
            return token.strip()
    return ""


def identity(request: "Request") -> Identity:
    """Who asks: `Guard` has put it there."""
    found: Identity = request.state.identity
    return found


def encrypted(request: "Request") -> bool:
    """Whether the browser came by HTTPS: the first of several proxies says so."""
    forwarded = request.headers.get("x-forwarded-proto", "").split(",")[0].strip().lower()
    return (forwarded or request.url.scheme) == "https"
