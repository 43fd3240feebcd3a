"""The krew plug-in's manifest, and who may build its archive."""

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def krew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    spec = importlib.util.spec_from_file_location("krew", ROOT / "scripts" / "krew.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    return module


def test_root_builds_nothing(krew: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(krew.subprocess, "run", lambda *_, **__: pytest.fail("it was started"))
    monkeypatch.setattr(krew.os, "geteuid", lambda: 0)
    with pytest.raises(SystemExit, match="not as root"):
        krew.build()


def test_the_manifest_lists_the_archives_that_are_there(krew: Any, tmp_path: Path) -> None:
    for target in ("linux_amd64", "darwin_arm64"):
        (tmp_path / f"kubectl-joblease_{target}.tar.gz").write_text(target)
    made = krew.manifest("https://joblease.example/v1/", "1.2.3")
    assert (made["metadata"]["name"], made["spec"]["version"]) == ("joblease", "v1.2.3")
    assert [each["selector"]["matchLabels"] for each in made["spec"]["platforms"]] == [
        {"os": "darwin", "arch": "arm64"},
        {"os": "linux", "arch": "amd64"},
    ]
    last = made["spec"]["platforms"][1]
    assert last["uri"] == "https://joblease.example/v1/kubectl-joblease_linux_amd64.tar.gz"
    assert last["sha256"] == hashlib.sha256(b"linux_amd64").hexdigest()
