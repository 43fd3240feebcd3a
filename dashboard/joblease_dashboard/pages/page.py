"""What a page is, and what its view is given."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from joblease_dashboard.api.sources import Sources
from joblease_dashboard.pages.render import Link, Renderer

if TYPE_CHECKING:
    from joblease_dashboard.pages.charts import Charts


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms(Sources):
    """What pages are made from."""

    charts: "Charts"
    render: Renderer


View = Callable[[Rooms, Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Link):
    """A link, and what is there."""

    view: View | None = None
    """Shows it."""
    form: View | None = None
    """Does what its form says (POST)."""
