"""Who asks, as Kubernetes knows them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.requests import Request


@dataclass(frozen=True, slots=True)
class Identity:
    """A user and their groups."""

    user: str
    groups: tuple[str, ...] = ()


ANYBODY = Identity("anonymous")


def bearer(request: "Request") -> str:
    """The request's token, or nothing."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def identity(request: "Request") -> Identity:
    """Who asks: `Guard` has put it there."""
    found: Identity = request.state.identity
    return found
