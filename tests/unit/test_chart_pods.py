"""What people change about pods and objects, beside the programs' settings."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.chart import CHART, DEV, SECRETS, Object, environment, need_helm, need_helm3, objects, one, pods

PROGRAMS = ("joblease-operator", "joblease-worker-default", "joblease-dashboard")
OPENSHIFT = "security.openshift.io/v1"
IDS = ("runAsUser", "runAsGroup", "fsGroup")


@pytest.fixture(autouse=True, scope="module")
def helm() -> None:
    need_helm()


@pytest.fixture(params=["helm", "Helm 3"])
def either_helm(request: pytest.FixtureRequest) -> str:
    return need_helm3() if request.param == "Helm 3" else "helm"


def ids(found: list[Object]) -> dict[str, set[str]]:
    return {name: set(IDS) & set(pod["securityContext"]) for name, pod in pods(found).items()}


def test_openshift_gives_users_and_groups_itself() -> None:
    assert all(ids(objects(*DEV)).values())
    for found in (objects(*DEV, api=OPENSHIFT), objects(*DEV, "openshift=always")):
        assert not any(ids(found).values())
        assert all(pod["securityContext"]["runAsNonRoot"] for pod in pods(found).values())
    assert all(ids(objects(*DEV, "openshift=never", api=OPENSHIFT)).values())


def test_security_contexts_are_the_users() -> None:
    found = pods(
        objects(
            *SECRETS,
            "podSecurityContext.runAsUser=1000650000",
            "workerDefaults.podSecurityContext.runAsUser=7",
            "workerDefaults.podSecurityContext.fsGroup=null",
            "workers[0].name=default",
            "workers[0].securityContext.readOnlyRootFilesystem=false",
        )
    )
    operator, worker, _ = (found[name] for name in PROGRAMS)
    assert operator["securityContext"]["runAsUser"] == 1000650000
    assert (worker["securityContext"]["runAsUser"], worker["securityContext"]["runAsGroup"]) == (7, 10001)
    assert "fsGroup" not in worker["securityContext"]
    assert worker["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is False
    assert operator["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True


def test_temporary_files_have_a_limit() -> None:
    found = pods(objects(*DEV, "workers[0].name=default", "workers[0].tmpSizeLimit=5Gi"))
    limits = {
        name: volume["emptyDir"] for name, pod in found.items() for volume in pod["volumes"] if "emptyDir" in volume
    }
    assert set(limits) == set(found)
    assert all("sizeLimit" in each for each in limits.values()), limits
    assert limits["joblease-worker-default"] == {"sizeLimit": "5Gi"}
    unlimited = pods(objects(*SECRETS, "workerDefaults.tmpSizeLimit="))["joblease-worker-default"]
    assert unlimited["volumes"][0]["emptyDir"] == {}


def test_probes_are_tuned_key_by_key() -> None:
    found = pods(
        objects(*SECRETS, "probes.liveness.failureThreshold=9", "workerDefaults.probes.startup.failureThreshold=600")
    )
    for name in PROGRAMS:
        container = found[name]["containers"][0]
        assert container["livenessProbe"]["failureThreshold"] == 9
        assert container["startupProbe"]["failureThreshold"] == (600 if "worker" in name else 60)
        assert container["startupProbe"]["periodSeconds"] == 2
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert container[probe]["httpGet"]["port"] == "metrics"
        assert {"name": "metrics", "containerPort": 9090} in container["ports"]
    assert environment(found["joblease-dashboard"])["JOBLEASE_METRICS_PORT"] == "9090"


@pytest.mark.parametrize("release", ["v1.2", "a.b.c", "1.2", f"{'a' * 39}.b"])
def test_a_releases_dots_are_in_no_name(release: str) -> None:
    """Helm takes them; a Service's name has none."""
    services = [each["metadata"]["name"] for each in objects(*DEV, release=release) if each["kind"] == "Service"]
    assert len(services) > 3
    assert all(re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", name) for name in services), services


def test_names_can_be_chosen() -> None:
    named = objects(*SECRETS, "nameOverride=jobs", release="x")
    assert one(named, "Deployment", "operator")["metadata"]["name"] == "x-jobs-operator"
    assert one(named, "Deployment", "operator")["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"] == "jobs"
    full = objects(*SECRETS, "fullnameOverride=jobs", release="x")
    deployments = {each["metadata"]["name"] for each in full if each["kind"] == "Deployment"}
    assert deployments == {"jobs-operator", "jobs-worker-default", "jobs-dashboard"}


def test_common_labels_are_on_everything_and_change_no_selector() -> None:
    found = objects(*DEV, "commonLabels.team=a", "commonLabels.app\\.kubernetes\\.io/name=stolen")
    for each in found:
        if each["kind"] != "CustomResourceDefinition" and "AdmissionPolicy" not in each["kind"]:
            assert each["metadata"]["labels"]["team"] == "a", each["metadata"]
            assert each["metadata"]["labels"]["app.kubernetes.io/name"] == "joblease"
        if each["kind"] in ("Deployment", "StatefulSet"):
            assert each["spec"]["template"]["metadata"]["labels"]["team"] == "a"
            assert "team" not in each["spec"]["selector"]["matchLabels"]


def test_deployments_have_annotations_and_extra_objects_are_rendered(tmp_path: Path) -> None:
    values = {
        part: {"deploymentAnnotations": {"reloader.stakater.com/auto": "true"}}
        for part in ("operator", "workerDefaults", "dashboard")
    }
    extra: list[Any] = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-a"}, "data": {"n": "007"}},
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ include \"joblease.name\" . }}-b'}",
    ]
    (tmp_path / "values.yaml").write_text(json.dumps({**values, "extraObjects": extra}))
    found = objects(*SECRETS, files=[tmp_path / "values.yaml"])
    annotated = [each for each in found if each["kind"] == "Deployment"]
    assert all(each["metadata"]["annotations"] == {"reloader.stakater.com/auto": "true"} for each in annotated)
    assert one(found, "ConfigMap", "joblease-a")["data"] == {"n": "007"}
    assert one(found, "ConfigMap", "joblease-b")


def test_what_uninstall_keeps_stays_protected() -> None:
    """The CRD stays with its JobRequests, so the policy that keeps their parameters as they are stays, too."""
    kept = [each for each in objects(*SECRETS) if each["metadata"]["name"] == "jobrequests.joblease.dev"]
    assert len(kept) == 3
    assert all(each["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep" for each in kept)


def umbrella(folder: Path, values: dict[str, Any], *names: str) -> Path:
    """A chart with this one in it, under each of the names."""
    common = {"name": "joblease", "version": "0.1.0"}
    dependencies = [{**common, "alias": name, "condition": f"{name}.enabled"} for name in names]
    chart = {"apiVersion": "v2", "name": "platform", "version": "1.0.0", "dependencies": dependencies}
    (folder / "charts").mkdir()
    shutil.copytree(CHART, folder / "charts" / "joblease")
    (folder / "Chart.yaml").write_text(json.dumps(chart))
    (folder / "values.yaml").write_text(json.dumps({"global": {"domain": "x.org"}, **values}))
    return folder


SUB = {"broker": {"existingSecret": "a"}, "storage": {"existingSecret": "b"}}


def test_an_umbrella_chart_switches_it_on_and_off(tmp_path: Path, either_helm: str) -> None:
    chart = umbrella(tmp_path, {"joblease": {"enabled": True, **SUB}}, "joblease")
    on = objects(chart=chart, helm=either_helm, release="platform")
    assert one(on, "Deployment")["metadata"]["name"].startswith("platform-joblease-")
    less = objects("joblease.podSecurityContext.fsGroup=null", chart=chart, helm=either_helm, release="platform")
    assert not any("fsGroup" in pod["securityContext"] for pod in pods(less).values())
    assert not objects("joblease.enabled=false", chart=chart, helm=either_helm, release="platform")


def test_an_umbrella_chart_has_two_of_it_under_two_names(tmp_path: Path, either_helm: str) -> None:
    values = {"first": {"enabled": True, **SUB}, "second": {"enabled": True, **SUB, "crd": {"install": False}}}
    chart = umbrella(tmp_path, values, "first", "second")
    found = objects(chart=chart, helm=either_helm, release="platform")
    names = [(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in found]
    assert len(names) == len(set(names))
    selectors = [json.dumps(each["spec"]["selector"]) for each in found if each["kind"] == "Deployment"]
    assert len(selectors) == len(set(selectors)) == 6
