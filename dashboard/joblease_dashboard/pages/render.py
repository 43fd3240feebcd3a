"""Turns what the pages know into HTML, in one look."""

import hashlib
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from joblease import __version__
from joblease.messages import State, now, rfc3339
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from joblease_dashboard.access import sessions
from joblease_dashboard.access.access import Access
from joblease_dashboard.problems import wants_page

HERE = Path(__file__).parent
STATIC = HERE / "static"
NOTHING = "–"  # noqa: RUF001 - the dash of a table that has nothing to say
FOREVER = "public, max-age=31536000, immutable"
SCOPED = ("/", "/jobs", "/events", "/submit")
"""Pages that can be about one namespace: a link from one to another stays in it."""


class Renderer:
    """Renders templates."""

    def __init__(self, access: Access, position: Callable[[], int]) -> None:
        """`position` is the number of the event after which a page that is made now follows the stream."""
        self._access = access
        self._position = position
        self._templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=select_autoescape(["html"]),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        files = [path for path in STATIC.rglob("*") if path.is_file()]
        marks = {str(path.relative_to(STATIC)): _mark(path) for path in files}

        def asset(name: str) -> str:
            """Address of a file under `static`, which changes with its content."""
            return f"/static/{name}?{marks.get(name, '')}"

        self._templates.globals |= {"version": __version__, "states": list(State), "assets": marks, "asset": asset}
        self._templates.filters |= {
            "clock": _clock, "iso": _iso, "duration": _duration, "seconds": seconds, "since": _since, "json": _pretty,
        }  # fmt: skip

    def page(self, request: Request, template: str, status: int = 200, /, **context: Any) -> Response:
        """A page."""
        known = request.state.identity
        path, namespace = request.url.path, request.query_params.get("namespace", "")
        frame = {
            "user": known.user if known and self._access.mode != "none" else "",
            "can_sign_out": self._access.mode == "kubernetes",
            "can_act": self._access.can_act,
            "here": path + (f"?{request.url.query}" if request.url.query else ""),
            "path": path,
            "position": self._position(),
            "scope": "?" + urlencode({"namespace": namespace}) if namespace and path in SCOPED else "",
            "scoped": SCOPED,
        }
        html = self._templates.get_template(template).render({**frame, **context})
        return HTMLResponse(html, status, headers={"Cache-Control": "no-store"})

    def done(self, request: Request, target: str, answer: dict[str, Any]) -> Response:
        """After a change: on to a page, or JSON for programs."""
        return RedirectResponse(target, 303) if wants_page(request) else JSONResponse(answer)

    def signed_out(self) -> Response:
        """The session is over."""
        response = RedirectResponse("/login", 303)
        sessions.end(response)
        return response


class Assets(StaticFiles):
    """Files whose address changes with their content: a browser asks for each of them once."""

    async def get_response(self, path: str, scope: Any) -> Response:
        """A file, for ever when it was asked for by its content's mark."""
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = (
            "public, max-age=31536000, immutable" if scope["query_string"] else "no-cache"
        )
        return response


def _mark(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def _clock(moment: datetime | str | None) -> str:
    if not moment:
        return ""
    return (datetime.fromisoformat(moment) if isinstance(moment, str) else moment).strftime("%Y-%m-%d %H:%M:%S")


def _iso(moment: datetime | str) -> str:
    return moment if isinstance(moment, str) else rfc3339(moment)


def _since(moment: datetime | str) -> str:
    begin = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return seconds(max(0.0, (now() - begin).total_seconds()))


def _duration(row: Any) -> str:
    """How long a job has run, as far as its row tells."""
    if not row.get("startedAt") or not row.get("finishedAt"):
        return ""
    begin, end = (datetime.fromisoformat(row[name]) for name in ("startedAt", "finishedAt"))
    return seconds((end - begin).total_seconds())


def seconds(length: float | None) -> str:
    """A length of time in two units at most."""
    if length is None:
        return NOTHING
    if length < 59.5:
        return f"{length:.2g} s" if length < 1 else f"{length:.1f} s" if length < 9.95 else f"{length:.0f} s"
    for name, size, lesser, part in (("d", 86_400, "h", 3_600), ("h", 3_600, "min", 60), ("min", 60, "s", 1)):
        whole, rest = divmod(round(length / part) * part, size)
        if whole:
            return f"{whole} {name} {rest // part} {lesser}" if rest else f"{whole} {name}"
    return NOTHING


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
