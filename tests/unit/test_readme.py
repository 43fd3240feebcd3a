"""What the README says is so."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from joblease import JobContext, PermanentError
from joblease.jobrequest import JobRequestSpec
from joblease.parameters import fit
from joblease.settings import variables
from joblease_dashboard.api.openapi import DOCUMENT
from joblease_dashboard.api.routes import ROUTES
from joblease_dashboard.settings import DashboardSettings
from joblease_operator.settings import OperatorSettings
from joblease_worker.settings import WorkerSettings

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()
PROGRAMS = (OperatorSettings, WorkerSettings, DashboardSettings)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_example_handler_runs() -> None:
    names: dict[str, Any] = {}
    exec(compile(blocks("python")[0], "README.md", "exec"), names)
    said: list[Any] = []
    job = JobContext("1", parameters={"paths": ["a", "b"], "width": "640"}, report=said.append)
    assert names["resize"](job, **fit("resize-images", names["resize"], job.parameters)) == {"resized": 2}
    assert [(step["message"], step["progress"]) for step in said] == [
        ("resized a to 640", 0.5),
        ("resized b to 640", 1.0),
    ]
    with pytest.raises(PermanentError):
        names["resize"](JobContext("1"))


def test_the_example_job_is_one() -> None:
    for text in blocks("yaml"):
        document = yaml.safe_load(text)
        assert document["kind"] == "JobRequest"
        JobRequestSpec.model_validate(document["spec"])


def test_every_setting_exists() -> None:
    known = {each.variable for settings in PROGRAMS for each in variables(settings)}
    templates = (ROOT / "charts/joblease/templates").rglob("*")
    chart = "".join(path.read_text() for path in templates if path.is_file())
    for text in (README, chart, (ROOT / "manifests/install.yaml").read_text()):
        assert set(re.findall(r"(JOBLEASE_[A-Z_]+[A-Z])", text)) - {"JOBLEASE_LOCAL"} <= known


def test_the_page_of_settings_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("settings_docs", ROOT / "scripts/settings_docs.py")
    assert spec
    assert spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert (ROOT / "docs/settings.md").read_text() == script.document(), "run `make settings-docs`"


def test_the_defaults_are_those_that_are_told() -> None:
    known = {each.variable: each.default for settings in PROGRAMS for each in variables(settings)}
    told = re.findall(r"^\| `(JOBLEASE_[A-Z_]+)` \| .* \| (.+) \|$", README, re.MULTILINE)
    assert len(told) > 10
    for variable, default in told:
        assert default.split(":")[0].strip("`") == (known[variable].split(":")[0] or "unset"), variable


def test_every_address_of_the_api_exists() -> None:
    told = set(re.findall(r"`([A-Z]+) (/api[^`?]*)`", README))
    described = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    served = {(method, path.replace("{job_id}", "{jobId}")) for path, methods in ROUTES.items() for method in methods}
    assert told == described == served


def test_every_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE))
    for text in (README, (ROOT / "CONTRIBUTING.md").read_text()):
        named = set(re.findall(r"(?:^|`)make ([a-z0-9-]+)", text, re.MULTILINE))
        assert named <= targets
    assert blocks("sh")[0].count("make ") == 2


def test_every_file_exists() -> None:
    for text in (README, (ROOT / "CONTRIBUTING.md").read_text()):
        for path in re.findall(r"`((?:core|operator|worker|manifests|tests|local)/[\w./-]+)`", text):
            assert (ROOT / path).exists(), path


def test_changelog_and_version_agree() -> None:
    from joblease import __version__

    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert f'version = "{__version__}"' in (ROOT / "pyproject.toml").read_text()
