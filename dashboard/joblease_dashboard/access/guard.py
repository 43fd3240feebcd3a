"""Nobody passes without an identity: the middleware before every route but the open ones."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from joblease_dashboard.access.access import SAFE, Access
from joblease_dashboard.problems import Problem, wants_page

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

OnProblem = Callable[[Request, Exception], Awaitable[Response]]
OPEN = ("/login", "/login/oidc", "/login/callback", "/logout")
"""Paths that need no identity; besides `/static/`."""
ENDLESS = "/api/stream"
"""Its answer has no end, and a bound of its own."""


class SignIn(Exception):
    """Go to the sign-in page first."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.target = target


class Guard:
    """Middleware: nobody passes without an identity, except to the open paths."""

    def __init__(self, app: "ASGIApp", access: Access, answer: OnProblem) -> None:
        """`answer` makes a response of a problem."""
        self._app = app
        self._access = access
        self._answer = answer

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        request.state.identity = None
        turn: AbstractAsyncContextManager[None] = nullcontext()
        try:
            self._access.check_origin(request)
            if scope["path"] in OPEN or scope["path"].startswith("/static/"):
                self._access.check_everybody(request, "")
            else:
                self._access.check_host(request)
                found = await self._access.identify(request)
                self._access.check_everybody(request, found.user if found else "")
                if found is None:
                    self._refuse(request)
                request.state.identity = found
                if scope["path"] != ENDLESS:
                    turn = self._access.turn(request, found.user)
            async with turn:
                await self._app(scope, receive, send)
        except Problem as problem:
            response = await self._answer(request, problem)
            await response(scope, receive, send)
        except SignIn as to:
            await RedirectResponse(f"/login?{urlencode({'next': to.target})}", 303)(scope, receive, send)

    def _refuse(self, request: Request) -> NoReturn:
        if self._access.mode == "kubernetes":
            if wants_page(request) and request.method in SAFE:
                raise SignIn(request.scope["path"] + (f"?{request.url.query}" if request.url.query else ""))
            raise Problem(401, "Who are you?", "send a Kubernetes token: Authorization: Bearer …; or sign in at /login")
        raise Problem(401, "Who are you?", "only requests of the authenticating proxy are let in")
