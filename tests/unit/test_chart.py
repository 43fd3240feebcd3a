"""The chart as helm renders it. Skipped where helm is not installed, except in CI."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from support.chart import CHART, DEV, ROOT, SECRETS, environment, need_helm, objects, one, pods

IDENTITIES = ("operator.serviceAccount", "workerServiceAccount", "dashboard.serviceAccount")


@pytest.fixture(autouse=True, scope="module")
def helm() -> None:
    need_helm()


def test_the_versions_agree() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (version, version)
    assert f"ARG VERSION={version}" in (ROOT / "Dockerfile").read_text()


def test_the_manifests_are_what_the_chart_makes() -> None:
    script = [str(ROOT / "scripts" / "manifests.sh")]
    made = subprocess.run(script, capture_output=True, text=True, check=True).stdout
    assert made == (ROOT / "manifests" / "install.yaml").read_text(), "run `make manifests`"
    assert all(yaml.safe_load_all(made)), "a document is empty"


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


def test_workers_have_no_credentials_of_kubernetes_and_the_dashboard_no_right() -> None:
    found = objects(*SECRETS)
    for name, pod in pods(found).items():
        assert pod.get("automountServiceAccountToken", True) == name.endswith(("-operator", "-dashboard", "-test"))
    bound = {s["name"] for each in found if "RoleBinding" in each["kind"] for s in each["subjects"]}
    assert bound == {"joblease-operator", "joblease-test"}


def test_an_operator_of_some_namespaces_has_no_right_in_others() -> None:
    found = objects(*SECRETS, "operator.namespaces={team-a,team-b}")
    assert not [each for each in found if "ClusterRole" in each["kind"] and "operator" in each["metadata"]["name"]]
    namespaces = {
        each["metadata"]["namespace"] for each in found if each["kind"] == "Role" and "jobrequests/status" in str(each)
    }
    assert namespaces == {"team-a", "team-b"}
    open_to_all = objects(*SECRETS, "operator.namespaces={team-a,team-b}", "dashboard.access.mode=none")
    assert not [each for each in open_to_all if each["kind"] == "ClusterRole" and "dashboard" in str(each)]
    roles = [each for each in open_to_all if each["kind"] == "Role" and "dashboard" in each["metadata"]["name"]]
    assert {each["metadata"]["namespace"] for each in roles} == namespaces
    assert environment(pods(found)["joblease-operator"])["JOBLEASE_OPERATOR_NAMESPACES"] == '["team-a","team-b"]'


def test_operators_elect_their_leader_by_a_lease_of_the_installation() -> None:
    found = objects(*SECRETS, "operator.namespaces={team-a}", namespace="here")
    role = next(each for each in found if each["kind"] == "Role" and "election" in each["metadata"]["name"])
    variables = environment(pods(found)["joblease-operator"])
    assert role["metadata"]["namespace"] == variables["JOBLEASE_OPERATOR_LEASE_NAMESPACE"] == "here"
    lease = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"]}
    names = [variables["JOBLEASE_OPERATOR_LEASE_NAME"]]
    assert role["rules"] == [
        {**lease, "resourceNames": names, "verbs": ["get", "update"]},
        {**lease, "verbs": ["create"]},
    ]
    assert variables["JOBLEASE_OPERATOR_NAME"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert variables["JOBLEASE_OPERATOR_POD_UID"] == {"fieldRef": {"fieldPath": "metadata.uid"}}


def test_a_drain_leaves_one_of_two_operators() -> None:
    found = objects(*SECRETS)
    deployment = one(found, "Deployment", "operator")
    assert deployment["spec"]["replicas"] == 2
    assert deployment["spec"].get("strategy", {}).get("type") != "Recreate"
    budget = one(found, "PodDisruptionBudget", "operator")["spec"]
    assert budget == {"maxUnavailable": 1, "selector": deployment["spec"]["selector"]}
    alone = objects(*SECRETS, "operator.replicas=1")
    budgets = [each["metadata"]["name"] for each in alone if each["kind"] == "PodDisruptionBudget"]
    assert budgets == ["joblease-worker-default"]


def test_a_pool_takes_from_the_defaults_what_it_does_not_say() -> None:
    found = objects(
        *SECRETS,
        "workerDefaults.handlers={a.b,c}",
        "workers[1].commands=/handlers/commands.toml",
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
    assert [environment(pod).get("JOBLEASE_COMMANDS") for pod in (first, second)] == [None, "/handlers/commands.toml"]
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
        *SECRETS,
        "dashboard.access.mode=none",
        "dashboard.access.insecure=true",
        "dashboard.ingress.enabled=true",
        "dashboard.ingress.withoutTls=true",
        "dashboard.ingress.host=x.org",
    )
    assert "https://x.org" in said
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


def test_the_values_of_make_kind_are_accepted() -> None:
    assert objects(files=[CHART / "ci" / "kind-values.yaml"])
