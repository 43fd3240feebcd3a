"""Turns what the views know into HTML, in one look."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from joblease import __version__
from joblease.messages import STATUSES
from joblease.states import OUTCOMES, REASONS, State
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from joblease_dashboard.pages.assets import marks
from joblease_dashboard.pages.formats import FILTERS
from joblease_dashboard.problems import wants_page

if TYPE_CHECKING:
    from joblease_dashboard.access.access import Access

SEARCHED = ("name", "namespace", "handler", "group", "state", "status", "from", "to")
"""Fields of the lists' searches."""
TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """An address for people."""

    path: str
    name: str = ""
    """In the navigation; empty: it is reached from other pages."""
    scoped: bool = False
    """Whether it can be about one namespace (`?namespace=`): links from one such page to another stay in it."""


class Renderer:
    """Renders templates."""

    def __init__(self, access: "Access", position: Callable[[], str], links: Sequence[Link]) -> None:
        """`position` is the number of the event after which a page that is made now follows the stream."""
        self._access = access
        self._position = position
        self._scoped = [link.path for link in links if link.scoped]
        self._templates = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=select_autoescape(["html"]),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        known = marks()

        def asset(name: str) -> str:
            """Address of a file under `static`, which changes with its content."""
            return f"/static/{name}?{known.get(name, '')}"

        self._templates.globals |= {
            "version": __version__, "reasons": REASONS, "outcomes": [kind.value for kind in OUTCOMES],
            "State": State, "statuses": STATUSES, "assets": known, "asset": asset, "scoped": self._scoped,
            "navigation": [link for link in links if link.name],
        }  # fmt: skip
        self._templates.filters |= FILTERS

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
            "scope": "?" + urlencode({"namespace": namespace}) if namespace and path in self._scoped else "",
        }
        html = self._templates.get_template(template).render({**frame, **context})
        return HTMLResponse(html, status, headers={"Cache-Control": "no-store"})

    def listed(self, request: Request, template: str, token: str | None, **context: Any) -> Response:
        """A page of a list that goes on with `token`. Its address is its search."""
        query = {name: value for name, value in request.query_params.items() if value and name != "page_token"}

        def link(**changes: str) -> str:
            """The same search with something changed."""
            return "?" + urlencode({name: value for name, value in {**query, **changes}.items() if value})

        return self.page(
            request,
            template,
            query={name: query.get(name, "") for name in SEARCHED},
            filtered=bool(set(query) - {"page_size"}),
            this_page=request.query_params.get("page_token", ""),
            following=link(page_token=token) if token else None,
            link=link,
            **context,
        )

    def done(self, request: Request, target: str, answer: dict[str, Any]) -> Response:
        """After a change: on to a page, or JSON for programs."""
        return RedirectResponse(target, 303) if wants_page(request) else JSONResponse(answer)
