"""Settings and names as the chart writes them: each once, and as the text that was meant."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.chart import DEV, SECRETS, environment, need_helm, objects, one, pods, template

WORKER = "joblease-worker-default"
NUMBERS = ("123", "007", "1e5", "on", "0x1f", "12e3")
"""What YAML takes for numbers and booleans."""


@pytest.fixture(autouse=True, scope="module")
def helm() -> None:
    need_helm()


def rendered(folder: Path, *flags: str, **values: Any) -> list[dict[str, Any]]:
    (folder / "values.yaml").write_text(json.dumps(values))
    return objects(*flags, files=[folder / "values.yaml"])


def test_a_setting_is_there_once_and_the_nearest_word_counts(tmp_path: Path) -> None:
    extra = {"extraEnv": [{"name": "JOBLEASE_WORKER_CONCURRENCY", "value": "8"}, {"name": "OWN", "value": "x"}]}
    env = {"JOBLEASE_WORKER_CONCURRENCY": 4, "JOBLEASE_LOG_FORMAT": "auto"}
    pools = [{"name": "default"}, {"name": "big", **extra}]
    found = pods(rendered(tmp_path, *SECRETS, env=env, workers=pools))
    assert environment(found[WORKER])["JOBLEASE_WORKER_CONCURRENCY"] == "4"
    big = environment(found["joblease-worker-big"])
    assert (big["JOBLEASE_WORKER_CONCURRENCY"], big["OWN"], big["JOBLEASE_LOG_FORMAT"]) == ("8", "x", "auto")


def test_what_is_derived_from_a_setting_follows_it() -> None:
    """Grace and autoscaling with the values in force: a pod that is killed while it drains loses its jobs' time."""
    found = objects(
        *DEV,
        "env.JOBLEASE_DRAIN_GRACE_SECONDS=300",
        "env.JOBLEASE_WORKER_CONCURRENCY=4",
        "workerDefaults.autoscaling.mode=keda",
    )
    assert pods(found)[WORKER]["terminationGracePeriodSeconds"] > 310
    assert one(found, "ScaledObject")["spec"]["triggers"][0]["metadata"]["value"] == "4"


@pytest.mark.parametrize(
    "value", ["env.JOBLEASE_METRICS_PORT=1", "dashboard.extraEnv[0].name=JOBLEASE_DASHBOARD_ACCESS"]
)
def test_a_setting_that_other_objects_depend_on_is_refused_with_what_to_do(value: str) -> None:
    said = template(*DEV, value, expect=1)
    assert "it stays 9090" in said or "set dashboard.access.mode" in said


@pytest.mark.parametrize(
    "values",
    [
        {"env": {"JOBLEASE_WORKER_IDENTITY": "production"}},
        {"env": {"JOBLEASE_WORKER_IDENTITY": 7}},
        {"workerDefaults": {"extraEnv": [{"name": "JOBLEASE_WORKER_IDENTITY", "value": "production"}]}},
    ],
)
def test_one_identity_for_all_workers_is_refused(tmp_path: Path, values: dict[str, Any]) -> None:
    """Each that starts would close the sessions of the others, whose jobs go on."""
    (tmp_path / "values.yaml").write_text(json.dumps(values))
    assert "take the others for dead" in template(*DEV, files=[tmp_path / "values.yaml"], expect=1)


def test_a_pods_identity_is_its_uid_unless_there_is_to_be_none(tmp_path: Path) -> None:
    name = "JOBLEASE_WORKER_IDENTITY"
    uid = {"name": name, "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}
    assert uid in pods(objects(*DEV))[WORKER]["containers"][0]["env"]
    for text in ("", "of-$(POD_UID)"):
        own = pods(rendered(tmp_path, *SECRETS, env={name: text}))[WORKER]["containers"][0]["env"]
        assert {"name": name, "value": text} in own


def test_numbers_are_written_in_full(tmp_path: Path) -> None:
    env = {"A": 4194304, "B": 12345678901, "C": 0.25, "D": 1234567.5, "E": True, "F": "1e5"}
    found = rendered(
        tmp_path, *SECRETS, env=env, workerDefaults={"jobsPerProcess": 3000000, "drainGraceSeconds": 1000000}
    )
    wanted = {"A": "4194304", "B": "12345678901", "C": "0.25", "D": "1234567.5", "E": "true", "F": "1e5"}
    variables = environment(pods(found)[WORKER])
    assert {name: variables[name] for name in wanted} == wanted
    assert variables["JOBLEASE_JOBS_PER_PROCESS"] == "3000000"
    assert pods(found)[WORKER]["terminationGracePeriodSeconds"] == 1000030


@pytest.mark.parametrize("name", NUMBERS)
def test_a_name_that_looks_like_a_number_stays_a_name(name: str) -> None:
    def texts(value: Any, path: str) -> None:
        """Keys and values of labels, names and selectors are text."""
        if isinstance(value, dict):
            for key, part in value.items():
                assert isinstance(key, str), f"{path}.{key}"
                named = key in ("name", "namespace", "serviceAccountName", "value", "serviceName", "secretName")
                if named or path.endswith((".labels", ".matchLabels")):
                    assert isinstance(part, str), f"{path}.{key}: {part!r}"
                texts(part, f"{path}.{key}")
        elif isinstance(value, list):
            for part in value:
                texts(part, path)

    switches = ("networkPolicy.enabled", "metrics.serviceMonitor.enabled", "metrics.grafanaDashboard.enabled")
    found = objects(
        *DEV,
        *(f"{switch}=true" for switch in switches),
        "workerDefaults.autoscaling.mode=keda",
        text=[
            f"workers[0].name={name}",
            f"commonLabels.team={name}",
            f"operator.podLabels.cost={name}",
            f"operator.namespaces={{{name}}}",
        ],
        release=name,
        namespace=name,
    )
    for each in found:
        if each["kind"] != "CustomResourceDefinition":
            texts(each, each["kind"])
    assert {each["metadata"].get("namespace", name) for each in found} == {name}
    operator = one(found, "Deployment", "operator")
    assert operator["metadata"]["labels"]["team"] == operator["spec"]["template"]["metadata"]["labels"]["cost"] == name
    services = [each["metadata"]["name"] for each in found if each["kind"] == "Service"]
    assert all(each[0].isalpha() for each in services), "a Service's name begins with a letter"
