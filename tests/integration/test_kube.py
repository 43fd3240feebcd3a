"""Every client means the same API server, as kubectl does: our own, kopf's and the command line's."""

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from joblease import kube
from joblease_cli import connection
from joblease_operator.watch import _login
from kopf._cogs.clients.auth import APIContext
from kubernetes.aio import client
from kubernetes.aio.config import ConfigException

NOWHERE = {
    "current-context": "joblease",
    "clusters": [{"name": "joblease", "cluster": {"server": "https://127.0.0.1:1"}}],
    "contexts": [{"name": "joblease", "context": {"cluster": "joblease", "user": "admin"}}],
    "users": [{"name": "admin", "user": {"token": "another"}}],
}


@pytest.fixture
def relative(control_plane: Path, tmp_path: Path) -> dict[str, Any]:
    """The administrator's kubeconfig, with a certificate that lies beside it."""
    config: dict[str, Any] = yaml.safe_load(control_plane.read_text())
    cluster = config["clusters"][0]["cluster"]
    (tmp_path / "here").mkdir()
    shutil.copy(cluster["certificate-authority"], tmp_path / "here" / "ca.pem")
    cluster["certificate-authority"] = "ca.pem"
    return config


def write(path: Path, config: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(config))
    return path


async def answers() -> tuple[str, str]:
    """The servers that our client and kopf's have asked; both must have been let in."""
    api = await kube.connect()
    try:
        await client.CoreV1Api(api).list_namespace(limit=1, _request_timeout=10)
        ours = api.configuration.host
    finally:
        await api.close()
    info = await _login()
    context = APIContext(info)
    try:
        async with context.session.get(f"{info.server}/api/v1/namespaces?limit=1") as answer:
            assert answer.status == 200, await answer.text()
    finally:
        await context.close()
    return ours, info.server


async def test_the_first_file_with_a_context_names_the_cluster(
    relative: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = write(tmp_path / "here" / "a", relative), write(tmp_path / "b", NOWHERE)
    missing = tmp_path / "missing"
    second.write_text(yaml.safe_dump({**NOWHERE, "current-context": "other"}))
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(map(str, (missing, first, second))))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    server = relative["clusters"][0]["cluster"]["server"]
    assert await answers() == (server, server)
    monkeypatch.chdir(tmp_path)
    assert connection.connect(None, None, None, 5).server == server


async def test_credentials_of_an_exec_plug_in_are_used_and_kept_fresh(
    relative: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, lifetime = tmp_path / "calls", tmp_path / "lifetime"
    lifetime.write_text("3600")
    plugin = tmp_path / "plugin.py"
    plugin.write_text(
        f"""
import json, pathlib, datetime
with open({str(calls)!r}, "a") as log: log.write("x")
end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=int(pathlib.Path({str(lifetime)!r}).read_text()))
status = {{"token": {relative["users"][0]["user"]["token"]!r}, "expirationTimestamp": f"{{end:%Y-%m-%dT%H:%M:%SZ}}"}}
print(json.dumps({{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}}))
"""
    )
    run = {"apiVersion": "client.authentication.k8s.io/v1", "command": sys.executable, "args": [str(plugin)]}
    relative["users"][0]["user"] = {"exec": {**run, "interactiveMode": "Never"}}
    monkeypatch.setenv("KUBECONFIG", str(write(tmp_path / "here" / "config", relative)))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    await answers()
    info = await _login()
    assert info.expiration is not None
    assert abs(info.expiration - datetime.now(UTC) - timedelta(seconds=3600)) < timedelta(minutes=1)

    before = len(calls.read_text())
    lifetime.write_text("100")  # less than the time for which the library takes a token as good
    api = await kube.connect()
    try:
        for _ in range(2):
            await client.CoreV1Api(api).list_namespace(limit=1, _request_timeout=10)
    finally:
        await api.close()
    assert len(calls.read_text()) == before + 3  # the connection, and a fresh token for each request

    plugin.write_text("raise SystemExit('not signed in')")
    with pytest.raises(ConfigException, match="exec plug-in of user admin"):
        await kube.connect()


class ConnectProxy:
    """An HTTP proxy that knows CONNECT alone, and remembers where to."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        self.asked.append(target)
        host, port = target.rsplit(":", 1)
        from_target, to_target = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            await asyncio.gather(_pump(reader, to_target), _pump(from_target, writer))
        finally:
            writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while block := await reader.read(65_536):
            writer.write(block)
            await writer.drain()
    writer.close()


@pytest.fixture
async def proxy() -> AsyncIterator[tuple[ConnectProxy, str]]:
    connect = ConnectProxy()
    server = await asyncio.start_server(connect.serve, "127.0.0.1", 0)
    try:
        yield connect, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def test_the_kubeconfigs_proxy_is_used_by_both_clients(
    relative: dict[str, Any], proxy: tuple[ConnectProxy, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, url = proxy
    relative["clusters"][0]["cluster"]["proxy-url"] = url
    monkeypatch.setenv("KUBECONFIG", str(write(tmp_path / "here" / "config", relative)))
    monkeypatch.setenv("NO_PROXY", "*")  # that is for the environment's proxies
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    server = relative["clusters"][0]["cluster"]["server"]
    await answers()
    assert connect.asked == [server.removeprefix("https://")] * 2


async def test_the_environments_proxy_and_its_exceptions_are_the_same_for_all_clients(
    relative: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    relative["clusters"][0]["cluster"]["server"] = "https://10.96.0.1"
    monkeypatch.setenv("KUBECONFIG", str(write(tmp_path / "here" / "config", relative)))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    for no_proxy, expected in (("10.0.0.0/8", None), ("10.97.0.0/16", "http://proxy.example:3128")):
        monkeypatch.setenv("NO_PROXY", no_proxy)
        configuration, _ = await kube.configure()
        ours = configuration.proxy
        theirs = (await _login()).proxy_url
        cli = connection.connect(None, None, None, 5)._custom.api_client.configuration.proxy
        assert (ours, theirs, cli) == (expected, expected, expected)
    monkeypatch.setenv("HTTPS_PROXY", "socks5://proxy.example:1080")
    with pytest.raises(ConfigException, match="socks5"):
        await kube.connect()


def test_the_time_that_the_library_keeps_is_the_one_that_we_count_with() -> None:
    from kubernetes.aio.config import kube_config

    assert kube_config.EXPIRY_SKEW_PREVENTION_DELAY.total_seconds() == kube.EARLY_SECONDS
