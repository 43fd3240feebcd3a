"""Errors as RFC 9457 problem details for programs, and as a page for people."""

import math
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

API_PAGE = "/api/docs"
"""The only page below the API's path."""
MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """An answer that is not a success."""

    def __init__(self, status: int, title: str, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.content = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}


def problem_response(problem: Problem, headers: dict[str, str]) -> JSONResponse:
    """The problem as JSON."""
    return JSONResponse(problem.content, problem.status, headers, MEDIA_TYPE)


def headers_of(problem: Problem) -> dict[str, str]:
    """What a status says besides: how to come in, and when to come again."""
    if problem.status == 401:
        return {"WWW-Authenticate": "Bearer"}
    if "retryAfterSeconds" in problem.content:
        return {"Retry-After": str(math.ceil(problem.content["retryAfterSeconds"]))}
    return {}


def wants_page(request: Request) -> bool:
    """Whether the answer is for a person's browser."""
    path = request.scope["path"]
    return (path == API_PAGE or not path.startswith("/api")) and "text/html" in request.headers.get("accept", "")
