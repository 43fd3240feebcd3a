"""The Starlette application: routes, errors, security headers, and a count of what was asked."""

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from azure.core.exceptions import AzureError
from joblease.broker import PublishFailed
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route

from joblease_dashboard.access.guard import Guard
from joblease_dashboard.api.openapi import DOCUMENT
from joblease_dashboard.api.routes import ROUTES as API_ROUTES
from joblease_dashboard.metrics import HTTP_REQUESTS, HTTP_SECONDS
from joblease_dashboard.pages.assets import STATIC, Assets
from joblease_dashboard.pages.routes import routes as page_routes
from joblease_dashboard.problems import Problem, problem_response, wants_page

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from joblease_dashboard.pages.page import Rooms

CONTENT_SECURITY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    b"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = [
    (b"content-security-policy", CONTENT_SECURITY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
]


class Observed:
    """Middleware: security headers on every answer, and the metrics of each."""

    def __init__(self, app: "ASGIApp") -> None:
        self._app = app

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()

        async def watched(message: "Message") -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *HEADERS]
                route = getattr(scope.get("route"), "path", "other") or "/static"
                HTTP_REQUESTS.labels(route, _method(scope), message["status"]).inc()
                HTTP_SECONDS.labels(route).observe(time.monotonic() - started)
            await send(message)

        await self._app(scope, receive, watched)


def _method(scope: "Scope") -> str:
    method: str = scope["method"]
    return method if method in ("GET", "HEAD", "POST", "OPTIONS") else "other"  # callers must not make up labels


def application(rooms: "Rooms", problems: Callable[[], list[str]], dead: Callable[[], list[str]] = list) -> Starlette:
    """The application; `problems` keep it from being ready, and what is `dead` only a new start can help with."""

    async def health(_: Request) -> Response:
        return _probe(dead())

    async def ready(_: Request) -> Response:
        return _probe([*dead(), *problems()])

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    async def openapi(_: Request) -> Response:
        return JSONResponse(DOCUMENT)

    async def on_error(request: Request, error: Exception) -> Response:
        problem = _problem(request, error)
        if wants_page(request):
            return rooms.render.page(request, "problem.html", problem.status, problem=problem.content)
        return problem_response(problem, dict(getattr(error, "headers", None) or {}))

    return Starlette(
        routes=[
            *page_routes(rooms),
            *(Route(path, partial(answer, rooms)) for path, answer in API_ROUTES.items()),
            Route("/openapi.json", openapi),
            Route("/metrics", metrics),
            Route("/healthz", health),
            Route("/readyz", ready),
            Mount("/static", Assets(directory=STATIC), name="static"),
        ],
        middleware=[
            Middleware(Observed),
            Middleware(GZipMiddleware, minimum_size=1_000, compresslevel=5),
            Middleware(Guard, access=rooms.access, answer=on_error),
        ],
        exception_handlers=dict.fromkeys((Problem, HTTPException, AzureError, PublishFailed, Exception), on_error),
    )


def _probe(found: list[str]) -> Response:
    return PlainTextResponse("\n".join(found or ["ok"]) + "\n", 503 if found else 200)


def _problem(request: Request, error: Exception) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):
        detail = {404: f"there is nothing at {request.url.path}", 405: f"{request.method} is not possible here"}
        return Problem(error.status_code, error.detail, detail.get(error.status_code, error.detail))
    if isinstance(error, AzureError):
        return Problem(503, "Storage does not answer", "the audit trail cannot be read at the moment; try again")
    if isinstance(error, PublishFailed):
        return Problem(503, "The broker does not answer", f"RabbitMQ could not be asked: {error}")
    return Problem(500, "Internal error", "something went wrong here; the dashboard's log tells what")
