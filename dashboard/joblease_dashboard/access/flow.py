"""A sign-in by OpenID Connect: the browser goes to the issuer, and comes back with a code.

What ties its coming back to its going is in an encrypted cookie: whoever brings a code that was given to somebody else
does not have it.
"""

import hmac
import json
import logging
import secrets
from typing import TYPE_CHECKING

from cryptography.fernet import InvalidToken
from starlette.responses import RedirectResponse, Response

from joblease_dashboard.access.claims import kept_of
from joblease_dashboard.access.identity import encrypted
from joblease_dashboard.access.oidc import Issuer, Refused
from joblease_dashboard.problems import Problem

if TYPE_CHECKING:
    from starlette.requests import Request

    from joblease_dashboard.access.sessions import Kept, Sessions
    from joblease_dashboard.settings import DashboardSettings

COOKIE, SECURE_COOKIE = "joblease-oidc", "__Host-joblease-oidc"
SECONDS = 600
"""How long somebody may take at the issuer's."""
CALLBACK = "/login/callback"
log = logging.getLogger(__name__)


class Flow:
    """Raises `Problem` for all that does not end in a sign-in."""

    def __init__(self, settings: "DashboardSettings", sessions: "Sessions", issuer: Issuer) -> None:
        self._settings = settings
        self._sessions = sessions
        self._issuer = issuer

    async def begin(self, request: "Request", target: str) -> Response:
        """Send the browser to the issuer; in the end it goes to `target`, a path of ours."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        address = await self._issuer.address(self._callback(request), state, nonce, verifier)
        response = RedirectResponse(address, 303)
        kept, secure = json.dumps([state, nonce, verifier, target]), encrypted(request)
        response.set_cookie(
            _cookie(request), self._sessions.seal(kept), max_age=SECONDS, httponly=True, secure=secure, samesite="lax"
        )
        return response

    async def finish(self, request: "Request") -> "tuple[Kept, str]":
        """Whom the issuer has sent back, and where they want to go."""
        query = request.query_params
        try:
            text = self._sessions.unseal(request.cookies.get(_cookie(request), ""), SECONDS)
            state, nonce, verifier, target = json.loads(text)
        except (InvalidToken, ValueError):
            raise _failed("this browser has begun no sign-in in the last ten minutes") from None
        if not hmac.compare_digest(query.get("state", "").encode(), state.encode()):
            raise _failed("this is the answer to another sign-in")
        try:
            self._issuer.check_sender(query.get("iss"))
            if "code" not in query:
                raise Refused(f"the issuer says: {(query.get('error_description') or query.get('error') or '')[:200]}")
            grant = await self._issuer.exchange(query["code"], self._callback(request), verifier, nonce)
            return kept_of(grant, self._settings), target
        except Refused as refused:
            log.warning("a sign-in by OIDC failed: %s", refused)
            raise _failed(str(refused)) from None

    def _callback(self, request: "Request") -> str:
        """Ours, which the issuer knows as the client's redirect URI."""
        scheme = "https" if encrypted(request) else "http"
        return f"{scheme}://{request.url.netloc}{self._settings.dashboard_base_path}{CALLBACK}"


def forget(request: "Request", response: Response) -> None:
    """Delete the cookie: it was for one sign-in."""
    response.delete_cookie(_cookie(request), httponly=True, samesite="lax", secure=encrypted(request))


def _cookie(request: "Request") -> str:
    return SECURE_COOKIE if encrypted(request) else COOKIE


def _failed(why: str) -> Problem:
    return Problem(403, "Sign-in failed", f"{why}; start again at /login")
