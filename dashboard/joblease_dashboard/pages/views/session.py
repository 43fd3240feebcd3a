"""The way in and out."""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from joblease_dashboard.actions.forms import MAX_LOGIN_BYTES, read_form
from joblease_dashboard.pages.page import Rooms


async def show(rooms: Rooms, request: Request) -> Response:
    """Ask for a token."""
    return rooms.render.page(request, "login.html", target=_local(request.query_params.get("next")), refused=False)


async def login(rooms: Rooms, request: Request) -> Response:
    """Sign in."""
    form = await read_form(request, MAX_LOGIN_BYTES)
    target = _local(form.get("next"))
    response = RedirectResponse(target, 303)
    if await rooms.access.sign_in(request, form.get("token", "").strip(), response):
        return response
    return rooms.render.page(request, "login.html", 401, target=target, refused=True)


async def logout(rooms: Rooms, request: Request) -> Response:
    """Sign out."""
    response = RedirectResponse("/login", 303)
    await rooms.access.sign_out(request, response)
    return response


def _local(target: str | None) -> str:
    """A path of this dashboard to go to: nobody is sent elsewhere."""
    return target if target and target.startswith("/") and not target.startswith(("//", "/\\")) else "/"
