"""The chart as helm renders it: the one on PATH, or the one that `make helm3` builds."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "joblease"
DEV = ("dev.rabbitmq.enabled=true", "dev.azurite.enabled=true")
SECRETS = ("broker.existingSecret=amqp", "storage.existingSecret=account")
KUBERNETES = "1.34.0"
"""A Helm that was built from its module takes itself for one of Kubernetes 1.20."""
HELM3 = ROOT / ".local" / "helm3" / "helm"

Object = dict[str, Any]


def need_helm() -> None:
    """Skip where helm is not installed; fail where it has to be."""
    if not shutil.which("helm"):
        if os.environ.get("JOBLEASE_HELM_REQUIRED"):
            pytest.fail("helm is not installed")
        pytest.skip("helm is not installed")


def need_helm3() -> str:
    """Helm 3, or skip."""
    if not HELM3.exists():
        pytest.skip("Helm 3 is not here; `make helm3` builds it")
    return str(HELM3)


def template(
    *values: str,
    expect: int = 0,
    files: Sequence[Path] = (),
    release: str = "joblease",
    namespace: str = "jl",
    chart: Path = CHART,
    helm: str = "helm",
    api: str = "",
    text: Sequence[str] = (),
) -> str:
    """What helm writes; with `expect=1`, what it complains about. `text`: values that are no numbers."""
    flags = [flag for value in values for flag in ("--set", value)]
    flags += [flag for value in text for flag in ("--set-string", value)]
    flags += [flag for path in files for flag in ("--values", str(path))]
    flags += ["--api-versions", api] if api else []
    command = [helm, "template", release, str(chart), "--namespace", namespace, "--kube-version", KUBERNETES, *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == expect, done.stderr
    return done.stdout if not expect else done.stderr


def objects(*values: str, **options: Any) -> list[Object]:
    """What is rendered. Each key is there once, as server-side apply and Helm 4 want it."""
    return [each for each in yaml.load_all(template(*values, **options), Strict) if each]


class Strict(yaml.SafeLoader):
    """Refuses a map that has a key twice."""

    def construct_mapping(self, node: yaml.MappingNode, *options: Any, **named: Any) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"{node.start_mark}: a key is there twice in {keys}"
        return super().construct_mapping(node, *options, **named)


# As Helm and the API server read it: 1e5 is a number.
Strict.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def pods(found: list[Object]) -> dict[str, Object]:
    """Pod templates, and the test's pod, by name."""
    by_name = {}
    for each in found:
        if each["kind"] in ("Deployment", "StatefulSet"):
            by_name[each["metadata"]["name"]] = each["spec"]["template"]["spec"]
        elif each["kind"] == "Pod":
            by_name[each["metadata"]["name"]] = each["spec"]
    return by_name


def one(found: list[Object], kind: str, name: str = "") -> Object:
    """The first of that kind whose name has `name` in it."""
    return next(each for each in found if each["kind"] == kind and name in each["metadata"]["name"])


def environment(pod: Object) -> dict[str, Any]:
    """The variables of a pod's program; none is there twice."""
    variables = pod["containers"][0]["env"]
    assert len({each["name"] for each in variables}) == len(variables), variables
    return {each["name"]: each.get("value") or each["valueFrom"] for each in variables if each.get("value") != ""}
