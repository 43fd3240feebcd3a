"""Alerts, Grafana and the monitors of the chart: each installation for itself."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import joblease_worker.metrics  # noqa: F401 - it registers what a worker exports
import pytest
import yaml
from prometheus_client import REGISTRY
from support.chart import CHART, DEV, ROOT, Object, need_helm, objects, one

RULES = (*DEV, "metrics.prometheusRule.enabled=true")
BOARD = (*DEV, "metrics.grafanaDashboard.enabled=true")
MINE = 'namespace="jl",app_kubernetes_io_name="joblease",app_kubernetes_io_instance="joblease"'
NEIGHBOUR = MINE.replace('"jl"', '"other"')
CASES = Path(__file__).with_name("alerts.yaml")
ALERTS = CHART / "files" / "alerts.yaml"


@pytest.fixture(autouse=True, scope="module")
def helm() -> None:
    need_helm()


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_the_alerts_speak_when_they_should_and_of_their_installation_alone(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(json.dumps(one(objects(*RULES), "PrometheusRule")["spec"]))
    cases = CASES.read_text().replace("INSTALLATION", MINE).replace("NEIGHBOUR", NEIGHBOUR)
    (tmp_path / "cases.yaml").write_text(cases)
    for command in (["check", "rules", "rules.yaml"], ["test", "rules", "cases.yaml"]):
        done = subprocess.run(["promtool", *command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_case_and_a_section_in_the_runbook() -> None:
    runbook = (ROOT / "docs" / "runbook.md").read_text()
    alerts = [rule["alert"] for rule in yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]]
    assert re.findall(r"^## (JobLease\w+)$", runbook, re.MULTILINE) == alerts
    cases = yaml.safe_load(CASES.read_text())["tests"]
    assert all([case["alertname"] for case in each["alert_rule_test"]] == alerts for each in cases)
    linked = one(objects(*RULES, "metrics.prometheusRule.runbookUrl=https://x/runbook.md"), "PrometheusRule")
    link = linked["spec"]["groups"][0]["rules"][0]["annotations"]["runbook_url"]
    assert link == "https://x/runbook.md#jobleaseoperatorabsent"


def expressions(text: str) -> list[str]:
    return re.findall(r"joblease_[a-z_]+(?:\{[^}]*\})?", text)


def test_alerts_and_panels_ask_for_one_installation() -> None:
    board = json.loads(next(iter(one(objects(*BOARD), "ConfigMap")["data"].values())))
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    asked += [rule["expr"] for rule in one(objects(*RULES), "PrometheusRule")["spec"]["groups"][0]["rules"]]
    found = [each for expression in asked for each in expressions(expression)]
    assert found
    assert all(MINE in each for each in found)


def test_the_boards_of_two_installations_lie_side_by_side() -> None:
    maps = [one(objects(*BOARD, namespace=namespace), "ConfigMap") for namespace in ("jl", "other")]
    files = [name for each in maps for name in each["data"]]
    boards = [json.loads(text) for each in maps for text in each["data"].values()]
    assert len(set(files)) == len({each["uid"] for each in boards}) == len({each["title"] for each in boards}) == 2


@pytest.mark.parametrize("monitor", ["serviceMonitor", "podMonitor"])
def test_a_monitor_finds_each_program_once_and_names_its_installation(monitor: str) -> None:
    target = "metrics.{}.relabelings[0].targetLabel=cluster"
    found = objects(*DEV, f"metrics.{monitor}.enabled=true", target.format(monitor))
    spec = one(found, monitor[0].upper() + monitor[1:])["spec"]
    assert {"app.kubernetes.io/name", "app.kubernetes.io/instance"} <= set(spec["podTargetLabels"])
    endpoint = (spec.get("endpoints") or spec["podMetricsEndpoints"])[0]
    assert endpoint["relabelings"] == [{"targetLabel": "cluster"}]
    kind = "Service" if monitor == "serviceMonitor" else "Deployment"
    scraped = [each["metadata"]["name"] for each in found if each["kind"] == kind and selected(spec["selector"], each)]
    ends = ("operator", "worker", "dashboard-metrics") if kind == "Service" else ("operator", "default", "dashboard")
    assert sorted(name for name in scraped if name.endswith(ends)) == sorted(
        each["metadata"]["name"] for each in found if each["kind"] == kind and offers(each, endpoint["port"])
    )


def selected(selector: Object, each: Object) -> bool:
    labels = each["spec"].get("template", each)["metadata"]["labels"]
    parts = {part for rule in selector["matchExpressions"] for part in rule["values"]}
    return selector["matchLabels"].items() <= labels.items() and labels["app.kubernetes.io/component"] in parts


def offers(each: Object, port: str) -> bool:
    if each["kind"] == "Service":
        return any(other["name"] == port for other in each["spec"]["ports"])
    containers = each["spec"]["template"]["spec"]["containers"]
    return any(other["name"] == port for container in containers for other in container["ports"])


def test_the_metrics_are_not_where_people_come_in() -> None:
    found = objects(*DEV, "dashboard.service.type=LoadBalancer")
    public = next(each for each in found if each.get("spec", {}).get("type") == "LoadBalancer")
    assert [port["name"] for port in public["spec"]["ports"]] == ["http"]


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
