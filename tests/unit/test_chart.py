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

import joblease_worker.metrics  # noqa: F401 - it registers what a worker exports
import pytest
import yaml
from prometheus_client import REGISTRY

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "joblease"
DEV = ("dev.rabbitmq.enabled=true", "dev.azurite.enabled=true")
README = (CHART / "README.md").read_text()
IDENTITIES = ("operator.serviceAccount", "workerServiceAccount", "dashboard.serviceAccount")
SECRETS = ("broker.existingSecret=amqp", "storage.existingSecret=account")

KUBERNETES = {"texts", "resources", "affinity"}
"""What the schema shares between values and leaves to Kubernetes to define."""

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
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"create", "get", "patch"}


def test_an_operator_of_some_namespaces_has_no_right_in_others() -> None:
    found = objects(*SECRETS, "operator.namespaces={team-a,team-b}")
    assert not [each for each in found if "ClusterRole" in each["kind"] and "operator" in each["metadata"]["name"]]
    namespaces = {
        each["metadata"]["namespace"] for each in found if each["kind"] == "Role" and "jobrequests/status" in str(each)
    }
    assert namespaces == {"team-a", "team-b"}
    asks = {resource for rule in one(found, "ClusterRole", "dashboard")["rules"] for resource in rule["resources"]}
    assert asks == {"tokenreviews", "subjectaccessreviews"}
    assert {
        each["metadata"]["namespace"] for each in found if each["kind"] == "Role" and "patch" in str(each)
    } == namespaces
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
        ([*DEV, "dashboard.access.mode=proxy"], "dashboard.access.trustedProxies"),
        ([*DEV, "dashboard.ingress.enabled=true"], "dashboard.ingress.host"),
        ([*DEV, "operator.resources.limit.memory=1Gi"], "'limit' not allowed"),
        ([*DEV, "workerDefaults.tolerations[0].kee=gpu"], "'kee' not allowed"),
        ([*DEV, "workerDefaults.extraEnv[0].name=A", "workerDefaults.extraEnv[0].valu=b"], "'valu' not allowed"),
        ([*DEV, "workerDefaults.podLabels.azure\\.workload\\.identity/use=true"], "want string"),
        ([*DEV, "workers[0].name=a", "workers[1].name=a"], "two pools are named a"),
        (
            [*DEV, "workerDefaults.autoscaling.mode=hpa", "workerDefaults.autoscaling.minReplicas=0"],
            "hpa needs at least 1",
        ),
        ([*DEV, "workerDefaults.autoscaling.mode=keda", "workerDefaults.autoscaling.minReplicas=11"], "maxReplicas"),
    ],
)
def test_wrong_values_are_refused_with_their_name(values: list[str], said: str) -> None:
    assert said in template(*values, expect=1)


def test_the_schema_knows_every_value_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())

    def compare(part: Object, value: Any, where: str) -> None:
        shared = part.get("$ref", "").removeprefix("#/$defs/")
        if shared in KUBERNETES:
            return
        part = schema["$defs"][shared] if shared else part
        if part["type"] != "object" or where == ".env":
            return
        assert part["additionalProperties"] is False, where
        assert set(part["properties"]) - {"global"} == set(value), where
        for name in value:
            compare(part["properties"][name], value[name], f"{where}.{name}")

    compare(schema, yaml.safe_load((CHART / "values.yaml").read_text()), "")
    pool = schema["properties"]["workers"]["items"]["properties"]
    shared = {name: pool[name] for name in pool if name not in ("name", "queue")}
    assert shared == {
        name: {"$ref": f"#/properties/workerDefaults/properties/{name}"}
        for name in schema["properties"]["workerDefaults"]["properties"]
    }


def test_the_readme_shows_every_value_as_it_is() -> None:
    """As `make chart-docs` makes it: key, default and the comment above it."""

    def values(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
        if not isinstance(value, dict) or not value or prefix.endswith((".resources", ".labels")):
            return [(prefix, value)]
        return [each for name, part in value.items() for each in values(part, f"{prefix}.{name}".lstrip("."))]

    text = (CHART / "values.yaml").read_text()
    comments = [" ".join(re.split(r"\n *# ", each)) for each in re.findall(r"# -- (.*(?:\n *# .*)*)", text)]
    rows = {row[1]: row for row in re.findall(r"^(\| (\S+) \| \w+ \| `(.*)` \| (.*) \|)$", README, re.MULTILINE)}
    known = values(yaml.safe_load(text))
    assert set(rows) == {key for key, _ in known}, "run `make chart-docs`"
    for key, value in known:
        _, _, shown, description = rows[key]
        assert json.loads(shown) == value, f"{key}: run `make chart-docs`"
        assert description in comments, f"{key}: run `make chart-docs`"


def notes(*values: str) -> str:
    flags = [flag for value in values for flag in ("--set", value)]
    command = ["helm", "install", "joblease", str(CHART), "--namespace", "jl", "--dry-run=client", *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.partition("NOTES:")[2]


def test_the_notes_say_how_to_go_on() -> None:
    said = notes(*SECRETS)
    assert "helm test joblease --namespace jl" in said
    assert "port-forward --namespace jl service/joblease-dashboard 8080:80" in said
    assert "--clusterrole=jl-joblease-viewer" in said
    said = notes(
        *SECRETS, "dashboard.access.mode=none", "dashboard.ingress.enabled=true", "dashboard.ingress.host=x.org"
    )
    assert "http://x.org" in said
    assert "WARNING: dashboard.access.mode is none" in said


def test_a_sessions_key_and_each_other_credential_come_from_secrets() -> None:
    found = objects(
        *SECRETS,
        "dashboard.replicas=2",
        "dashboard.access.sessionSecret=session",
        "broker.tls.existingSecret=tls",
        "broker.tls.clientCertificate=true",
        "image.pullSecrets[0].name=pull",
        "workerDefaults.autoscaling.mode=keda",
        "workerDefaults.autoscaling.managementSecret=management",
    )
    assert not [each for each in found if each["kind"] == "Secret"]
    dashboard = pods(found)["joblease-dashboard"]
    key = environment(dashboard)["JOBLEASE_DASHBOARD_SESSION_KEY"]
    assert key == {"secretKeyRef": {"name": "session", "key": "session-key"}}
    assert environment(dashboard)["JOBLEASE_AMQP_KEY_FILE"] == "/etc/joblease/amqp/tls.key"
    assert {"name": "amqp-tls", "secret": {"secretName": "tls"}} in dashboard["volumes"]
    assert dashboard["imagePullSecrets"] == [{"name": "pull"}]
    target = one(found, "TriggerAuthentication")["spec"]["secretTargetRef"][0]
    assert (target["name"], target["key"]) == ("management", "host")


def test_an_identity_reaches_account_and_pod_of_each_program() -> None:
    label, annotation = "azure\\.workload\\.identity/use", "azure\\.workload\\.identity/client-id"
    found = objects(
        SECRETS[0],
        "storage.accountUrl=https://x.blob.core.windows.net",
        *(f"{account}.annotations.{annotation}=abc" for account in IDENTITIES),
        *(f"{pods}.podLabels.{label}=yes" for pods in ("operator", "workerDefaults", "dashboard")),
    )
    for program in ("operator", "worker", "dashboard"):
        account = one(found, "ServiceAccount", program)
        assert account["metadata"]["annotations"] == {"azure.workload.identity/client-id": "abc"}
        template = one(found, "Deployment", program)["spec"]["template"]
        assert template["metadata"]["labels"]["azure.workload.identity/use"] == "yes"
        assert template["spec"]["serviceAccountName"] == account["metadata"]["name"]


def test_the_dashboard_is_for_people_with_a_token_unless_somebody_says_otherwise() -> None:
    found = objects(*SECRETS)
    variables = environment(pods(found)["joblease-dashboard"])
    assert variables["JOBLEASE_DASHBOARD_ACCESS"] == "kubernetes"
    assert "JOBLEASE_DASHBOARD_INSECURE" not in variables
    asks = {resource for rule in one(found, "ClusterRole", "dashboard")["rules"] for resource in rule["resources"]}
    assert asks == {"tokenreviews", "subjectaccessreviews", "jobrequests"}


def test_a_pool_outlives_its_grace_and_is_spread_over_nodes() -> None:
    found = objects(*SECRETS, "workerDefaults.drainGraceSeconds=300", "workerDefaults.cancelGraceSeconds=20")
    worker = pods(found)["joblease-worker-default"]
    assert worker["terminationGracePeriodSeconds"] > 320
    assert worker["topologySpreadConstraints"][0]["topologyKey"] == "kubernetes.io/hostname"
    selector = worker["topologySpreadConstraints"][0]["labelSelector"]
    assert selector == one(found, "Deployment", "worker")["spec"]["selector"]
    assert selector == one(found, "PodDisruptionBudget", "worker")["spec"]["selector"]


def test_the_previous_releases_values_are_accepted() -> None:
    assert objects(files=[ROOT / "tests" / "e2e" / "values-0.1.0.yaml"])


def test_the_alerts_are_valid_and_have_a_section_in_the_runbook() -> None:
    rules = CHART / "files" / "alerts.yaml"
    if shutil.which("promtool"):
        done = subprocess.run(["promtool", "check", "rules", str(rules)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        tests = str(Path(__file__).with_name("alerts.yaml"))
        done = subprocess.run(["promtool", "test", "rules", tests], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    runbook = (ROOT / "docs" / "runbook.md").read_text()
    alerts = [rule["alert"] for rule in yaml.safe_load(rules.read_text())["groups"][0]["rules"]]
    assert re.findall(r"^## (JobLease\w+)$", runbook, re.MULTILINE) == alerts
    cases = yaml.safe_load(Path(__file__).with_name("alerts.yaml").read_text())["tests"]
    assert all([case["alertname"] for case in each["alert_rule_test"]] == alerts for each in cases)
    on = (*DEV, "metrics.prometheusRule.enabled=true")
    assert one(objects(*on), "PrometheusRule")["spec"] == yaml.safe_load(rules.read_text())
    linked = one(objects(*on, "metrics.prometheusRule.runbookUrl=https://x/runbook.md"), "PrometheusRule")
    link = linked["spec"]["groups"][0]["rules"][0]["annotations"]["runbook_url"]
    assert link == "https://x/runbook.md#jobleaseoperatorabsent"


def test_alerts_and_panels_ask_for_metrics_that_exist() -> None:
    sources = "".join(path.read_text() for path in ROOT.glob("*/joblease*/metrics.py"))
    texts = [(CHART / "files" / name).read_text() for name in ("alerts.yaml", "grafana-dashboard.json")]
    for name in set(re.findall(r"joblease_[a-z_]+", "".join(texts))):
        base = name.removesuffix("_bucket")
        assert f'"{base}"' in sources, name


def test_counters_that_alerts_ask_for_begin_at_zero() -> None:
    consumer = (ROOT / "worker" / "joblease_worker" / "consumer.py").read_text()
    reasons = set(re.findall(r'Parked\("([a-z ]+)"', consumer))
    labels = {"joblease_dead_letters": {"reason": reasons}, "joblease_lease_renewals": {"result": {"unknown"}}}
    labels["joblease_audit_writes"] = {"result": {"failed"}}
    for name, wanted in labels.items():
        family = next(each for each in REGISTRY.collect() if each.name == name)
        for label, values in wanted.items():
            assert values
            assert values <= {sample.labels[label] for sample in family.samples}


def test_a_network_policy_lets_in_only_what_is_needed() -> None:
    policies = [each for each in objects(*DEV, "networkPolicy.enabled=true") if each["kind"] == "NetworkPolicy"]
    found = [each for each in policies if not each["metadata"]["name"].endswith("-dev")]
    ports = {each["metadata"]["name"]: each["spec"]["ingress"][0]["ports"][0]["port"] for each in found}
    assert ports == {"joblease-operator": "metrics", "joblease-worker": "metrics", "joblease-dashboard": "http"}
    assert all(each["spec"]["policyTypes"] == ["Ingress", "Egress"] for each in found)
