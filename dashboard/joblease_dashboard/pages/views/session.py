"""The way in and out."""

from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from joblease_dashboard.actions.forms import MAX_LOGIN_BYTES, read_form
from joblease_dashboard.pages.page import Rooms


async def show(rooms: Rooms, request: Request) -> Response:
    """Ask for a token, or send to the issuer."""
    return _page(rooms, request, _local(request.query_params.get("next")))


async def login(rooms: Rooms, request: Request) -> Response:
    """Sign in."""
    form = await read_form(request, MAX_LOGIN_BYTES)
    target = _local(form.get("next"))
    response = RedirectResponse(target, 303)
    if await rooms.access.sign_in(request, form.get("token", "").strip(), response):
        return response
    return _page(rooms, request, target, refused=True)


async def begin(rooms: Rooms, request: Request) -> Response:
    """To the OIDC issuer."""
    return await rooms.access.begin_oidc(request, _local(request.query_params.get("next")))


async def callback(rooms: Rooms, request: Request) -> Response:
    """Back from the OIDC issuer."""
    return await rooms.access.finish_oidc(request)


async def logout(rooms: Rooms, request: Request) -> Response:
    """Sign out."""
    response = RedirectResponse("/login", 303)
    await rooms.access.sign_out(request, response)
    return response


def _page(rooms: Rooms, request: Request, target: str, *, refused: bool = False) -> Response:
    oidc = f"/login/oidc?{urlencode({'next': target})}" if rooms.access.has_issuer else ""
    return rooms.render.page(request, "login.html", 401 if refused else 200, target=target, refused=refused, oidc=oidc)


def _local(target: str | None) -> str:
    """A path of this dashboard to go to: nobody is sent elsewhere."""
    return target if target and target.startswith("/") and not target.startswith(("//", "/\\")) else "/"
