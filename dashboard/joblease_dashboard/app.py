"""The Starlette application: routes, errors, security headers, and a count of what was asked."""

import logging
import time
from functools import partial
from typing import TYPE_CHECKING

from azure.core.exceptions import AzureError
from joblease.broker import PublishFailed
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from joblease_dashboard.access.guard import Guard, OnProblem
from joblease_dashboard.access.identity import encrypted
from joblease_dashboard.api.openapi import DOCUMENT
from joblease_dashboard.api.routes import ROUTES as API_ROUTES
from joblease_dashboard.api.routes import answer
from joblease_dashboard.base_path import BasePath
from joblease_dashboard.headers import HEADERS, HTTPS_ONLY, NO_STORE
from joblease_dashboard.metrics import HTTP_REQUESTS, HTTP_SECONDS
from joblease_dashboard.pages.assets import STATIC, Assets
from joblease_dashboard.pages.routes import routes as page_routes
from joblease_dashboard.problems import Problem, headers_of, problem_response, wants_page

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from joblease_dashboard.pages.page import Rooms

log = logging.getLogger(__name__)


class Observed:
    """Middleware: security headers on every answer, and the metrics of each; also when a route has failed."""

    def __init__(self, app: "ASGIApp", answer: OnProblem) -> None:
        """`answer` makes a response of an error."""
        self._app = app
        self._answer = answer

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, request, answered = time.monotonic(), Request(scope), False

        async def watched(message: "Message") -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                message["headers"] = [*message.get("headers", []), *_headers(request, message)]
                route = getattr(scope.get("route"), "path", "other") or "/static"
                HTTP_REQUESTS.labels(route, _method(scope), message["status"]).inc()
                HTTP_SECONDS.labels(route).observe(time.monotonic() - started)
            await send(message)

        try:
            if _ambiguous(request):
                raise Problem(400, "Bad request", "Content-Length and Transfer-Encoding contradict each other")
            await self._app(scope, receive, watched)
        except Exception as error:
            if answered:
                raise
            if not isinstance(error, Problem):
                log.exception("%s %s failed", scope["method"], scope["path"])
            response = await self._answer(request, error)
            await response(scope, receive, watched)


def _headers(request: Request, message: "Message") -> list[tuple[bytes, bytes]]:
    present = {name.lower() for name, _ in message.get("headers", [])}
    own = [*HEADERS, *([HTTPS_ONLY] if encrypted(request) else [])]
    if _ambiguous(request):
        own.append((b"connection", b"close"))
    return own if b"cache-control" in present else [*own, NO_STORE]


def _ambiguous(request: Request) -> bool:
    """Whether a proxy may take another part of what was sent for the next request: somebody else's, perhaps."""
    return {"content-length", "transfer-encoding"} <= set(request.headers.keys())


def _method(scope: "Scope") -> str:
    method: str = scope["method"]
    return (
        method if method in ("GET", "HEAD", "POST", "PATCH", "OPTIONS") else "other"
    )  # callers must not make up labels


def application(rooms: "Rooms", base: str = "") -> Starlette:
    """The application; metrics and probes are not part of it, they have a port of their own. `base`: see `BasePath`."""

    async def openapi(_: Request) -> Response:
        return JSONResponse({**DOCUMENT, "servers": [{"url": base or "/"}]})

    async def on_error(request: Request, error: Exception) -> Response:
        problem = _problem(request, error)
        if wants_page(request):
            return rooms.render.page(request, "problem.html", problem.status, problem=problem.content)
        return problem_response(problem, {**headers_of(problem), **(getattr(error, "headers", None) or {})})

    app = Starlette(
        routes=[
            *page_routes(rooms),
            *(Route(path, partial(answer, each, rooms), methods=list(each)) for path, each in API_ROUTES.items()),
            Route("/openapi.json", openapi),
            Mount("/static", Assets(directory=STATIC), name="static"),
        ],
        middleware=[
            Middleware(BasePath, base=base),
            Middleware(Observed, answer=on_error),
            Middleware(GZipMiddleware, minimum_size=1_000, compresslevel=5),
            Middleware(Guard, access=rooms.access, answer=on_error),
        ],
        exception_handlers=dict.fromkeys((Problem, HTTPException, AzureError, PublishFailed), on_error),
    )
    app.router.redirect_slashes = False  # `BasePath` takes slashes; this would name the host that a request claims
    return app


def _problem(request: Request, error: Exception) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):
        detail = {404: f"there is nothing at {request.scope['path']}", 405: f"{request.method} is not possible here"}
        return Problem(error.status_code, error.detail, detail.get(error.status_code, error.detail))
    if isinstance(error, AzureError):
        return Problem(503, "Storage does not answer", "the audit trail cannot be read at the moment; try again")
    if isinstance(error, PublishFailed):
        return Problem(503, "The broker does not answer", f"RabbitMQ could not be asked: {error}")
    return Problem(500, "Internal error", "something went wrong here; the dashboard's log tells what")
