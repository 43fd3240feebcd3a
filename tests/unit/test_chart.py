"""The chart as helm renders it. Skipped where helm is not installed, except in CI."""

import json
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "joblease"
DEV = ("dev.rabbitmq.enabled=true", "dev.azurite.enabled=true")
SECRETS = ("broker.existingSecret=amqp", "storage.existingSecret=account")

Object = dict[str, Any]


@pytest.fixture(autouse=True, scope="module")
def helm() -> None:
    if not shutil.which("helm"):
        if os.environ.get("JOBLEASE_HELM_REQUIRED"):
            pytest.fail("helm is not installed")
        pytest.skip("helm is not installed")


def template(*values: str, expect: int = 0, files: Sequence[Path] = ()) -> str:
    flags = [flag for value in values for flag in ("--set", value)]
    flags += [flag for path in files for flag in ("--values", str(path))]
    command = ["helm", "template", "joblease", str(CHART), "--namespace", "jl", *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == expect, done.stderr
    return done.stdout if not expect else done.stderr


def objects(*values: str, files: Sequence[Path] = ()) -> list[Object]:
    return [each for each in yaml.safe_load_all(template(*values, files=files)) if each]


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
    return next(each for each in found if each["kind"] == kind and name in each["metadata"]["name"])


def environment(pod: Object) -> dict[str, Any]:
    variables = pod["containers"][0]["env"]
    return {each["name"]: each.get("value") or each["valueFrom"] for each in variables if each.get("value") != ""}


def test_the_versions_agree() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (version, version)
    for program in ("operator", "worker", "dashboard"):
        assert f"ARG VERSION={version}" in (ROOT / program / "Dockerfile").read_text()


def test_the_manifests_are_what_the_chart_makes() -> None:
    script = [str(ROOT / "scripts" / "manifests.sh")]
    made = subprocess.run(script, capture_output=True, text=True, check=True).stdout
    assert made == (ROOT / "manifests" / "install.yaml").read_text(), "run `make manifests`"


@pytest.mark.parametrize("document", ["docs/install.md", "charts/joblease/README.md"])
def test_the_values_in_the_documents_are_accepted(document: str, tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
    values = [block for block in blocks if "kind:" not in block]
    assert values
    for block in values:
        (tmp_path / "values.yaml").write_text(block)
        needed = () if "broker:" in block else SECRETS
        assert objects(*needed, files=[tmp_path / "values.yaml"])


@pytest.mark.parametrize("document", ["README.md", "docs/install.md", "charts/joblease/README.md"])
def test_the_commands_in_the_documents_are_accepted(document: str, tmp_path: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
    commands = [
        each for block in blocks for each in re.findall(r"helm install (.*?[^\\])$", block, re.MULTILINE | re.DOTALL)
    ]
    assert commands
    (tmp_path / "values.yaml").write_text("broker: {existingSecret: a}\nstorage: {existingSecret: b}\n")
    (tmp_path / "charts").symlink_to(ROOT / "charts")
    for command in commands:
        words = [word for word in command.replace("\\\n", " ").split() if word != "--create-namespace"]
        subprocess.run(["helm", "template", *words], cwd=tmp_path, capture_output=True, check=True)


def test_each_image_installs_what_the_tests_ran_with() -> None:
    def pins(path: Path) -> set[str]:
        return {line.split(" ")[0] for line in path.read_text().splitlines() if "==" in line}

    everything = pins(ROOT / "requirements.txt")
    for program in ("operator", "worker", "dashboard"):
        assert pins(ROOT / program / "requirements.txt") < everything
    assert pins(ROOT / "requirements-build.txt") < everything


def test_helm_lint_is_content() -> None:
    flags = [flag for value in DEV for flag in ("--set", value)]
    done = subprocess.run(["helm", "lint", "--strict", str(CHART), *flags], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_pod_is_restricted() -> None:
    for name, pod in pods(objects(*DEV)).items():
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not pod.get("hostNetwork"), name
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert context.get("readOnlyRootFilesystem") or "-rabbitmq" in name or "-azurite" in name


def test_workers_have_no_credentials_of_kubernetes_and_the_dashboard_few() -> None:
    found = objects(*SECRETS)
    for name, pod in pods(found).items():
        assert pod.get("automountServiceAccountToken", True) == name.endswith(("-operator", "-dashboard", "-test"))
    bound = {s["name"] for each in found if "RoleBinding" in each["kind"] for s in each["subjects"]}
    assert bound == {"joblease-operator", "joblease-dashboard", "joblease-test"}
    role = next(each for each in found if each["kind"] == "ClusterRole" and "dashboard" in each["metadata"]["name"])
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"create", "patch"}


def test_an_operator_of_some_namespaces_has_no_right_in_others() -> None:
    found = objects(*SECRETS, "operator.namespaces={team-a,team-b}")
    role = one(found, "ClusterRole", "operator")
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"get", "list", "watch"}
    assert not [rule for rule in role["rules"] if "jobrequests" in rule["resources"]]
    namespaces = {
        each["metadata"]["namespace"] for each in found if each["kind"] == "Role" and "jobrequests/status" in str(each)
    }
    assert namespaces == {"team-a", "team-b"}
    assert environment(pods(found)["joblease-operator"])["JOBLEASE_OPERATOR_NAMESPACES"] == '["team-a","team-b"]'


def test_a_pool_takes_from_the_defaults_what_it_does_not_say() -> None:
    found = objects(
        *SECRETS,
        "workerDefaults.handlers={a.b,c}",
        "workers[0].name=default",
        "workers[1].name=images",
        "workers[1].queue=pictures",
        "workers[1].replicas=7",
        "workers[1].image.repository=own",
        "workers[1].drainGraceSeconds=100",
        "workers[1].nodeSelector.disk=fast",
    )
    names = pods(found)
    first, second = names["joblease-worker-default"], names["joblease-worker-images"]
    assert environment(first)["JOBLEASE_WORKER_QUEUE"] == "default"
    assert environment(second)["JOBLEASE_WORKER_QUEUE"] == "pictures"
    assert environment(second)["JOBLEASE_HANDLERS"] == "a.b,c"
    assert (first["containers"][0]["image"], second["containers"][0]["image"]) == ("joblease-worker:0.1.0", "own:0.1.0")
    assert (first["terminationGracePeriodSeconds"], second["terminationGracePeriodSeconds"]) == (60, 130)
    assert "nodeSelector" not in first
    assert one(found, "Deployment", "images")["spec"]["replicas"] == 7


def test_keda_counts_running_jobs_as_well() -> None:
    found = objects(*DEV, "workerDefaults.autoscaling.mode=keda", "workerDefaults.autoscaling.minReplicas=0")
    trigger = one(found, "ScaledObject")["spec"]["triggers"][0]["metadata"]
    assert (trigger["protocol"], trigger["excludeUnacknowledged"]) == ("http", "false")
    assert trigger["queueName"] == "joblease.jobs.default"
    assert "replicas" not in one(found, "Deployment", "worker")["spec"]


def test_credentials_come_from_secrets_or_an_identity() -> None:
    variables = environment(pods(objects(*SECRETS))["joblease-worker-default"])
    assert variables["JOBLEASE_AMQP_URL"] == {"secretKeyRef": {"name": "amqp", "key": "amqp-url"}}
    account = "storage.accountUrl=https://x.blob.core.windows.net"
    variables = environment(pods(objects(SECRETS[0], account))["joblease-worker-default"])
    assert variables["JOBLEASE_STORAGE_ACCOUNT_URL"] == "https://x.blob.core.windows.net"
    assert "JOBLEASE_STORAGE_CONNECTION_STRING" not in variables


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([], "broker.existingSecret"),
        (["broker.existingSecret=a"], "storage: set accountUrl"),
        ([*DEV, "operater.x=1"], "'operater' not allowed"),
        ([*DEV, "workers[0].name=a", "workers[0].replica=1"], "'replica' not allowed"),
        ([*DEV, "workers[0].queue=a"], "name"),
        ([*DEV, "workerDefaults.leaseSeconds=90"], "60"),
        ([*DEV, "workerDefaults.autoscaling.mode=x"], "hpa"),
        ([*DEV, "dashboard.replicas=2"], "dashboard.access.sessionSecret"),
    ],
)
def test_wrong_values_are_refused_with_their_name(values: list[str], said: str) -> None:
    assert said in template(*values, expect=1)


def test_the_schema_knows_every_value_and_no_other() -> None:
    def compare(schema: Object, value: Any, where: str) -> None:
        if schema.get("type") != "object" or schema.get("additionalProperties") is not False:
            return
        assert set(schema["properties"]) - {"global"} == set(value), where
        for name in value:
            compare(schema["properties"][name], value[name], f"{where}.{name}")

    schema = json.loads((CHART / "values.schema.json").read_text())
    compare(schema, yaml.safe_load((CHART / "values.yaml").read_text()), "")
    pool = schema["properties"]["workers"]["items"]["properties"]
    assert {name: pool[name] for name in pool if name not in ("name", "queue")} == schema["properties"][
        "workerDefaults"
    ]["properties"]


def test_every_value_is_in_the_readme() -> None:
    def keys(value: Any, prefix: str = "") -> list[str]:
        if not isinstance(value, dict) or not value or prefix.endswith((".resources", ".labels")):
            return [prefix]
        return [key for name, each in value.items() for key in keys(each, f"{prefix}.{name}".lstrip("."))]

    rows = {line.split(" | ")[0].lstrip("| "): line for line in (CHART / "README.md").read_text().splitlines()}
    for key in keys(yaml.safe_load((CHART / "values.yaml").read_text())):
        assert key in rows, "run `make chart-docs`"
        assert not rows[key].endswith("|  |"), f"{key} is not described"


def test_the_alerts_are_valid_and_have_a_section_in_the_runbook() -> None:
    rules = CHART / "files" / "alerts.yaml"
    if shutil.which("promtool"):
        done = subprocess.run(["promtool", "check", "rules", str(rules)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    runbook = (ROOT / "docs" / "runbook.md").read_text()
    for rule in yaml.safe_load(rules.read_text())["groups"][0]["rules"]:
        assert f"## {rule['alert']}\n" in runbook
    rendered = one(objects(*DEV, "metrics.prometheusRule.enabled=true"), "PrometheusRule")
    assert rendered["spec"] == yaml.safe_load(rules.read_text())


def test_alerts_and_panels_ask_for_metrics_that_exist() -> None:
    sources = "".join(path.read_text() for path in ROOT.glob("*/joblease*/metrics.py"))
    texts = [(CHART / "files" / name).read_text() for name in ("alerts.yaml", "grafana-dashboard.json")]
    for name in set(re.findall(r"joblease_[a-z_]+", "".join(texts))):
        base = name.removesuffix("_bucket")
        assert f'"{base}"' in sources, name


def test_a_network_policy_lets_in_only_what_is_needed() -> None:
    found = [each for each in objects(*DEV, "networkPolicy.enabled=true") if each["kind"] == "NetworkPolicy"]
    ports = {each["metadata"]["name"]: each["spec"]["ingress"][0]["ports"][0]["port"] for each in found}
    assert ports == {"joblease-operator": "metrics", "joblease-worker": "metrics", "joblease-dashboard": "http"}
    assert all(each["spec"]["policyTypes"] == ["Ingress", "Egress"] for each in found)
