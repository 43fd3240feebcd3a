"""A signed cookie that says who signed in, and holds no token."""

from typing import TYPE_CHECKING

from itsdangerous import BadData, URLSafeTimedSerializer

from joblease_dashboard.access.identity import Identity
from joblease_dashboard.problems import Problem

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

COOKIE = "joblease-session"
MAX_COOKIE = 4_000
"""Characters; browsers drop longer ones without a word."""


class Sessions:
    """Cookies that are signed with `key` and last for `seconds`."""

    def __init__(self, key: str, seconds: int) -> None:
        self._serializer = URLSafeTimedSerializer(key, salt="joblease-session")
        self._seconds = seconds

    def read(self, request: "Request") -> Identity | None:
        """Who signed in, or None."""
        try:
            user, groups = self._serializer.loads(request.cookies.get(COOKIE, ""), max_age=self._seconds)
        except (BadData, ValueError):
            return None
        return Identity(user, tuple(groups))

    def begin(self, request: "Request", response: "Response", who: Identity) -> None:
        """Put a session into the response. Raises `Problem`."""
        session = self._serializer.dumps([who.user, who.groups])
        if len(session) > MAX_COOKIE:
            raise Problem(400, "Too many groups", f"{who.user} is in {len(who.groups)} groups: no cookie holds them")
        secure = "https" in (request.url.scheme, request.headers.get("x-forwarded-proto"))
        response.set_cookie(COOKIE, str(session), httponly=True, secure=secure, samesite="lax", max_age=self._seconds)


def end(response: "Response") -> None:
    """Take the session away."""
    response.delete_cookie(COOKIE, httponly=True, samesite="lax")
