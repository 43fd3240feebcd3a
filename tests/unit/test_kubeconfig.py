"""Which API server is meant, and by way of which proxy: as kubectl has it."""

from pathlib import Path

import pytest
from joblease.kubeconfig import Unusable, merged, proxy_for

PROXY = "http://proxy.example:3128"


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_the_first_file_that_sets_a_context_wins(tmp_path: Path) -> None:
    none = write(tmp_path, "none", "clusters: []\n")
    unset = write(tmp_path, "unset", "current-context: ''\n")
    contexts = [f"{{name: {name}, context: {{namespace: of-{name}}}}}" for name in ("a", "b")]
    a = write(tmp_path, "a", f"current-context: a\ncontexts: [{contexts[0]}]\n")
    b = write(tmp_path, "b", f"current-context: b\ncontexts: [{contexts[1]}, {{name: a}}]\n")
    missing = str(tmp_path / "missing")
    empty = write(tmp_path, "empty", "")
    paths = f"{none}:{missing}:{unset}:{empty}::{a}:{b}"
    assert merged(paths) == (f"{none}:{unset}:{a}:{b}", "a", "of-a", ("a", "b"))
    assert merged(paths, "b")[1:3] == ("b", "of-b")
    assert merged(f"{b}:{a}")[1:3] == ("b", "of-b")
    assert merged(f"{b}:{a}", "a")[1:3] == ("a", "default")  # the first definition counts
    assert merged(none)[1:] == (None, "default", ())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "there is no kubeconfig"),
        ("", "there is no kubeconfig"),
        ("a: [", "not YAML"),
        ("[]", "no"),
        ("contexts: [1]", "contexts"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(tmp_path: Path, content: str | None, reason: str) -> None:
    path = tmp_path / "config"
    if content is not None:
        path.write_text(content)
    with pytest.raises(Unusable, match=reason):
        merged(str(path))


@pytest.mark.parametrize(
    ("no_proxy", "server", "direct"),
    [
        ("10.0.0.0/8", "https://10.96.0.1", True),
        ("10.0.0.0/8", "https://11.96.0.1", False),
        ("fd00::/8", "https://[fd00::1]:6443", True),
        ("10.96.0.1", "https://10.96.0.1:6443", True),
        ("10.96.0.1:443", "https://10.96.0.1:6443", False),
        ("10.96.0.1:6443", "https://10.96.0.1:6443", True),
        ("[fd00::1]:6443", "https://[fd00::1]:6443", True),
        ("example.com", "https://example.com", True),
        ("example.com", "https://api.Example.com", True),
        ("example.com", "https://anexample.com", False),
        (".example.com", "https://api.example.com", True),
        (".example.com", "https://example.com", False),
        ("*.example.com", "https://api.example.com", True),
        ("svc, example.org ,10.0.0.0/8", "https://api.example.org", True),
        ("*", "https://api.example.com", True),
        ("", "https://api.example.com", False),
        ("", "https://localhost:6443", True),
        ("", "https://127.0.0.1:6443", True),
        ("10.0.0.0/99", "https://10.96.0.1", False),
    ],
)
def test_no_proxy_is_read_as_go_reads_it(*, no_proxy: str, server: str, direct: bool) -> None:
    environment = {"HTTPS_PROXY": PROXY, "NO_PROXY": no_proxy}
    assert proxy_for(server, None, environment) == (None if direct else PROXY)


def test_where_a_proxy_comes_from() -> None:
    server = "https://api.example.com"
    assert proxy_for(server, None, {}) is None
    assert proxy_for(server, None, {"https_proxy": "proxy.example:3128"}) == PROXY
    assert proxy_for(server, None, {"HTTP_PROXY": PROXY, "ALL_PROXY": PROXY}) is None
    assert proxy_for("http://api.example.com", None, {"HTTP_PROXY": PROXY}) == PROXY
    # the kubeconfig's own proxy counts whatever the environment says
    assert proxy_for(server, PROXY, {"HTTPS_PROXY": "http://other:1", "NO_PROXY": "*"}) == PROXY
    with pytest.raises(Unusable, match="socks5"):
        proxy_for(server, None, {"HTTPS_PROXY": "socks5://proxy.example:1080"})
