"""The dashboard below a path of its host, as an ingress leads there: `https://host/joblease/`.

Inside, nothing knows of it but the pages' links: a request's path loses it on the way in, whether a proxy has taken it
away already or not, and a redirect gets it on the way out.
"""

from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from starlette.datastructures import Headers, MutableHeaders

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BasePath:
    """Middleware; `base` begins with a slash and does not end with one, or is empty."""

    def __init__(self, app: "ASGIApp", base: str) -> None:
        self._app = app
        self._base = base

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        host = Headers(scope=scope).get("host", "")

        async def sent(message: "Message") -> None:
            if message["type"] == "http.response.start" and "location" in (headers := MutableHeaders(scope=message)):
                headers["location"] = self._outside(headers["location"], host)
            await send(message)

        path = scope["path"]
        if self._base and (path == self._base or path.startswith(f"{self._base}/")):
            scope = {**scope, "path": path.removeprefix(self._base) or "/"}
        await self._app(scope, receive, sent)

    def _outside(self, location: str, host: str) -> str:
        """Ours as the browser sees it, without the scheme and host of the request: a proxy may have changed them."""
        at = urlsplit(location)
        if at.netloc not in ("", host):
            return location
        return urlunsplit(("", "", self._base + at.path, at.query, at.fragment))
