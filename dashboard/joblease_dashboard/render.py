"""Turns what the pages know into HTML, in one look."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from joblease import __version__
from joblease.messages import State
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from joblease_dashboard.access import COOKIE, Access
from joblease_dashboard.problems import wants_page

HERE = Path(__file__).parent


class Renderer:
    """Renders templates."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=select_autoescape(["html"]),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        assets = {path.name for path in (HERE / "static" / "vendor").glob("*")}
        self._templates.globals |= {"version": __version__, "states": list(State), "assets": assets}
        self._templates.filters |= {"clock": _clock, "duration": _duration, "json": _pretty}

    def page(self, request: Request, template: str, status: int = 200, /, **context: Any) -> Response:
        """A page."""
        known = request.state.identity
        frame = {
            "user": known.user if known and self._access.mode != "none" else "",
            "can_sign_out": self._access.mode == "kubernetes",
            "can_act": self._access.can_act,
            "here": request.url.path + (f"?{request.url.query}" if request.url.query else ""),
            "path": request.url.path,
        }
        html = self._templates.get_template(template).render({**frame, **context})
        return HTMLResponse(html, status, headers={"Cache-Control": "no-store"})

    def done(self, request: Request, target: str, answer: dict[str, Any]) -> Response:
        """After a change: on to a page, or JSON for programs."""
        return RedirectResponse(target, 303) if wants_page(request) else JSONResponse(answer)

    def signed_out(self) -> Response:
        """The session is over."""
        response = RedirectResponse("/login", 303)
        response.delete_cookie(COOKIE, httponly=True, samesite="lax")
        return response


def _clock(moment: datetime | str | None) -> str:
    if not moment:
        return ""
    return (datetime.fromisoformat(moment) if isinstance(moment, str) else moment).strftime("%Y-%m-%d %H:%M:%S")


def _duration(row: Any) -> str:
    """How long a job has run, as far as its row tells."""
    if not row.get("startedAt") or not row.get("finishedAt"):
        return ""
    seconds = (datetime.fromisoformat(row["finishedAt"]) - datetime.fromisoformat(row["startedAt"])).total_seconds()
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
