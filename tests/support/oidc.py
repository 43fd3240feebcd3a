"""A real OpenID Connect issuer (npm's oidc-provider), and somebody who signs in with it by HTTP."""

import json
import re
import shutil
import ssl
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
from joblease_local import npm
from joblease_local.ports import listening
from joblease_local.processes import PartFailed, Process

from support.parts import CACHE, need, say

HERE = Path(__file__).parents[1] / "oidc"
READY_SECONDS = 60
HTML = {"Accept": "text/html"}
CLIENT = {"JOBLEASE_DASHBOARD_OIDC_CLIENT_ID": "joblease", "JOBLEASE_DASHBOARD_OIDC_CLIENT_SECRET": "a-client-secret"}


class TestIssuer:
    """The issuer as a process."""

    __test__ = False

    def __init__(
        self, state: Path, port: int, certificate: tuple[Path, Path] | None = None, host: str = "127.0.0.1"
    ) -> None:
        """`certificate`: its file and its key's, for HTTPS; `host`: the address to listen on."""
        self._script = need(
            lambda: npm.require("oidc-provider", HERE / "package.json", SCRIPT, CACHE / "oidc-provider", say)
        )
        self._host, self._port, self._certificate = host, port, certificate
        self.address = f"{'https' if certificate else 'http'}://{host}:{port}"
        self._process = Process("oidc-issuer", state)
        self.authority = certificate[0] if certificate else None
        self.trust = ssl.create_default_context(cafile=self.authority)

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        node = shutil.which("node")
        if not node:
            raise PartFailed("oidc-provider needs Node.js, and there is no node on the PATH")
        self._process.start([node, HERE / "issuer.mjs", self._script, self.address, *map(str, self._certificate or ())])
        self._process.until(lambda: listening(self._port, self._host), READY_SECONDS)

    def stop(self) -> None:
        """End it."""
        self._process.stop()

    def set(self, **changes: Any) -> dict[str, int]:
        """Change how it is (`config` in issuer.mjs; `rotate=True`: another key). How often each path was asked for."""
        request = urllib.request.Request(f"{self.address}/control", json.dumps(changes).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=10, context=self.trust) as answer:
            asked: dict[str, int] = json.load(answer)
            return asked


SCRIPT = "oidc-provider/lib/index.js"


async def at_the_issuers(http: httpx.AsyncClient, name: str, begin: str = "/login/oidc") -> str:
    """Sign in at the issuer's; the address with which it sends the browser back."""
    answer = await http.get(begin, headers=HTML)
    for _ in range(12):
        if answer.is_redirect:
            location = urljoin(str(answer.url), answer.headers["location"])
            if "/login/callback" in location:
                return location
            answer = await http.get(location, headers=HTML)
            continue
        action, prompt = (
            re.search(pattern, answer.text)
            for pattern in (r'<form[^>]* action="([^"]+)"', r'name="prompt" value="(\w+)"')
        )
        assert action, (answer.status_code, answer.text)
        assert prompt, answer.text
        form = {"prompt": prompt[1], "login": name, "password": "any"}
        answer = await http.post(urljoin(str(answer.url), action[1]), data=form)
    raise AssertionError(f"the issuer does not send the browser back: {answer.url}")


async def sign_in(http: httpx.AsyncClient, name: str, begin: str = "/login/oidc") -> httpx.Response:
    """Sign in; the dashboard's answer to who comes back."""
    return await http.get(await at_the_issuers(http, name, begin), headers=HTML)
