"""Which API server is meant, and by way of which proxy: as kubectl sees it, for every client that JobLease uses.

The libraries differ from kubectl and from each other: of several files, Kubernetes' own takes the current context from
the last instead of the first; kopf takes no proxy; aiohttp knows no networks in `NO_PROXY`. So both questions are
answered here, once, and each client is told the answer.
"""

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import yaml

DEFAULT = "~/.kube/config"


class Unusable(ValueError):
    """What the kubeconfig or the environment asks for cannot be done, and why."""


class Merged(NamedTuple):
    """What a `KUBECONFIG` comes to."""

    files: str
    """Those that there are, as a `KUBECONFIG`."""
    context: str | None
    """The one that is asked for, or else the current context of the first file that sets one."""
    namespace: str
    """The context's."""
    contexts: tuple[str, ...]
    """All that there are."""


def merged(paths: str | None, context: str | None = None) -> Merged:
    """Read the files of a `KUBECONFIG`. Raises `Unusable`, or `OSError` for a file that cannot be read.

    Of clusters, users and contexts the first definition of a name counts, and relative paths are relative to their
    file; the libraries do that as kubectl does.
    """
    found: list[str] = []
    namespaces: dict[str, str] = {}
    for each in (paths or DEFAULT).split(os.pathsep):
        path = Path(each).expanduser()
        if not each or not path.exists():
            continue
        content = _read(path)
        if content:  # the libraries do not take an empty file
            found.append(str(path))
            context = context or content.get("current-context") or None
            for name, namespace in _contexts(path, content):
                namespaces.setdefault(name, namespace)
    if not found:
        raise Unusable(f"there is no kubeconfig at {paths or DEFAULT}")
    return Merged(os.pathsep.join(found), context, namespaces.get(context or "", "default"), tuple(namespaces))


def _contexts(path: Path, content: dict[str, Any]) -> list[tuple[str, str]]:
    try:
        return [
            (str(each["name"]), str((each.get("context") or {}).get("namespace") or "default"))
            for each in content.get("contexts") or []
        ]
    except (AttributeError, KeyError, TypeError):
        raise Unusable(f"{path} is not a kubeconfig: its contexts cannot be read") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Unusable(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict | None):
        raise Unusable(f"{path} is not a kubeconfig")
    return content or {}


def proxy_for(server: str, configured: str | None, environment: Mapping[str, str] = os.environ) -> str | None:
    """The proxy to reach a server by: `configured` by its kubeconfig, or as the environment has it; None for none.

    `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` are read as Go programs do
    (https://pkg.go.dev/golang.org/x/net/http/httpproxy#Config): hosts, domains, addresses and networks (CIDR), with or
    without a port, and never a proxy for this machine. Raises `Unusable` for a kind of proxy that is not supported.
    """
    parts = urlsplit(server)
    proxy = configured or _variable(environment, f"{parts.scheme}_proxy")
    if not proxy or (not configured and _direct(parts.hostname or "", parts.port, environment)):
        return None
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    if urlsplit(proxy).scheme not in ("http", "https"):
        raise Unusable(
            f"the API server {server} is to be reached by the proxy {proxy.partition('://')[0]}://…; JobLease can use "
            "proxies of the kinds http and https. Set another one, or NO_PROXY"
        )
    return proxy


def _variable(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name.upper()) or environment.get(name.lower()) or ""


def _direct(host: str, port: int | None, environment: Mapping[str, str]) -> bool:
    address = _address(host)
    if host == "localhost" or (address and address.is_loopback):
        return True
    return any(_matches(each.strip(), host, address, port) for each in _variable(environment, "no_proxy").split(","))


def _matches(
    rule: str, host: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None, port: int | None
) -> bool:
    if rule == "*":
        return True
    if address and "/" in rule:
        try:
            return address in ipaddress.ip_network(rule, strict=False)
        except ValueError:
            return False
    name, colon, number = rule.rpartition(":")
    if colon and number.isdigit() and (name.endswith("]") or ":" not in name):
        if int(number) != (port or 443):
            return False
        rule = name
    rule = rule.strip("[]").lower()
    if not rule:
        return False
    if address:
        return _address(rule) == address
    domain = rule.removeprefix("*")
    return host.endswith(domain) if domain.startswith(".") else host == domain or host.endswith(f".{domain}")


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def user_of(found: Merged) -> dict[str, Any]:
    """The credentials of the context, as they are written; its `tokenFile` is an absolute path. Raises `Unusable`."""
    parts: dict[str, dict[str, dict[str, Any]]] = {"contexts": {}, "users": {}}
    for path in map(Path, found.files.split(os.pathsep)):
        content = _read(path)
        for kind, named in parts.items():
            for each in content.get(kind) or []:
                value = dict(each.get(kind[:-1]) or {})
                if "tokenFile" in value:
                    value["tokenFile"] = str(path.parent / value["tokenFile"])
                named.setdefault(str(each.get("name")), value)
    context = parts["contexts"].get(found.context or "", {})
    return parts["users"].get(str(context.get("user")), {})
