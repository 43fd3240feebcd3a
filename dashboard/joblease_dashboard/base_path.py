"""The dashboard below a path of its host, as an ingress leads there: `https://host/joblease/`.

Inside, nothing knows of it but the pages' links: a request's path loses it on the way in, whether a proxy has taken it
away already or not, and a redirect gets it on the way out.
"""

from typing import TYPE_CHECKING

from starlette.datastructures import MutableHeaders

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BasePath:
    """Middleware; `base` begins with a slash and does not end with one, or is empty."""

    def __init__(self, app: "ASGIApp", base: str) -> None:
        self._app = app
        self._base = base

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """One request. A slash at the end makes no difference."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sent(message: "Message") -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if headers.get("location", "").startswith("/"):  # else it leads elsewhere: to an issuer
                    headers["location"] = self._base + headers["location"]
            await send(message)

        path: str = scope["path"]
        if path == self._base or path.startswith(f"{self._base}/"):
            path = path.removeprefix(self._base)
        await self._app({**scope, "path": path.rstrip("/") or "/"}, receive, sent)
