"""Where the dashboard is, and who asks: as it was told, or as it is found in a pod or on a laptop."""

import ipaddress
import os
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from joblease.client import tokens
from joblease.client.errors import NotConfigured

URL_VARIABLE = "JOBLEASE_DASHBOARD_URL"
HOST_VARIABLE, PORT_VARIABLE = "JOBLEASE_DASHBOARD_SERVICE_HOST", "JOBLEASE_DASHBOARD_SERVICE_PORT"
"""What Kubernetes tells each pod of the release's namespace about the Service `joblease-dashboard`."""
PROXIED_TOKEN = "X-JobLease-Authorization"  # noqa: S105 - its name
"""Says the same as `Authorization`, which the API server's proxy keeps for itself."""
_PROXY = re.compile(r"/api/v1/namespaces/[^/]+/(services|pods)/[^/]+/proxy(/|$)")
_URL = re.compile(r"[!-~]+")
SERVICE = "http://joblease-dashboard.joblease.svc"
"""Of a release `joblease` in a namespace `joblease`, as the installation guide has it."""


@dataclass(frozen=True, slots=True)
class Place:
    """A dashboard, as somebody reaches it."""

    url: str
    """Without a slash at its end."""
    token: tokens.Token | None

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.url.startswith("https:")

    @property
    def token_headers(self) -> tuple[str, ...]:
        """In which headers the token is sent: an API server on the way takes one for itself."""
        return ("Authorization", PROXIED_TOKEN) if _PROXY.search(self.url) else ("Authorization",)


def find(
    url: str | None,
    token: str | Callable[[], str] | None,
    *,
    plain: bool = False,
    environment: Mapping[str, str] = os.environ,
    account: Path = tokens.ACCOUNT_TOKEN,
) -> Place:
    """The dashboard that is meant; `plain`: a token may go over http, too. Raises `NotConfigured`."""
    in_pod = "KUBERNETES_SERVICE_HOST" in environment
    beside = environment.get(HOST_VARIABLE, "") if in_pod else ""
    url = (url or environment.get(URL_VARIABLE) or _service(beside, environment, in_pod=in_pod)).rstrip("/")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise NotConfigured(f"the dashboard's address {url!r} is none: {error}") from None
    wrong = parts.query or parts.fragment or parts.username or not _URL.fullmatch(url)
    if parts.scheme not in ("http", "https") or not host or wrong:
        raise NotConfigured(f"the dashboard's address is to be like https://jobs.example.com, not {url!r}")
    safe = plain or parts.scheme == "https" or _loopback(host) or (in_pod and _inside(host, beside))
    if token is not None and not safe:
        raise NotConfigured(
            f"the token is not sent to {url}: anybody could read it on its way. Use https, or pass plain=True"
        )
    if token is not None:
        return Place(url, tokens.given(token))
    if not safe:
        return Place(url, None)
    if in_pod and account.is_file():
        return Place(url, tokens.FileToken(account))
    return Place(url, tokens.of_kubeconfig(environment))


def _service(beside: str, environment: Mapping[str, str], *, in_pod: bool) -> str:
    if beside:
        host = f"[{beside}]" if ":" in beside else beside
        return f"http://{host}:{environment.get(PORT_VARIABLE, '80')}"
    if in_pod:
        return SERVICE
    raise NotConfigured(f"no dashboard is known: set {URL_VARIABLE}, or pass url='https://…'")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _inside(host: str, beside: str) -> bool:
    """Whether it is a Service of the cluster: its traffic stays there."""
    return host == beside or "." not in host or host.endswith((".svc", ".svc.cluster.local"))


def tls_context(place: Place, ca: str | os.PathLike[str] | None) -> ssl.SSLContext:
    """What checks the dashboard's certificate: the system's or the given authorities, none where there is no TLS."""
    if not place.tls:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody, and costs nothing
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise NotConfigured(f"ca={ca}: no certificates can be read there ({error})") from None
