"""Who reaches the programs, and whom they reach."""

from typing import Any

import pytest
from support.chart import DEV, SECRETS, Object, environment, need_helm, objects, one, pods

ON = "networkPolicy.enabled=true"
MONITORING = "networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.name=monitoring"
PEOPLE = "networkPolicy.dashboardFrom[0].namespaceSelector.matchLabels.name=ingress"


@pytest.fixture(autouse=True, scope="module")
def helm() -> None:
    need_helm()


def policies(*values: str) -> dict[str, Object]:
    found = [each for each in objects(*values, ON) if each["kind"] == "NetworkPolicy"]
    return {each["metadata"]["name"].removeprefix("joblease-"): each["spec"] for each in found}


def incoming(policy: Object) -> dict[str, Any]:
    return {port["port"]: rule.get("from") for rule in policy["ingress"] for port in rule["ports"]}


def outgoing(policy: Object) -> dict[int, Any]:
    return {port["port"]: rule.get("to") for rule in policy["egress"] for port in rule["ports"]}


def test_metrics_and_pages_are_each_for_those_who_are_named() -> None:
    found = policies(*SECRETS, MONITORING, PEOPLE)
    monitoring, people = (
        [{"namespaceSelector": {"matchLabels": {"name": name}}}] for name in ("monitoring", "ingress")
    )
    assert incoming(found["dashboard"]) == {"metrics": monitoring, "http": people}
    assert incoming(found["operator"]) == incoming(found["worker"]) == {"metrics": monitoring}
    assert all(each["policyTypes"] == ["Ingress", "Egress"] for each in found.values())


def test_each_program_reaches_what_it_needs() -> None:
    found = {name: outgoing(policy) for name, policy in policies(*SECRETS).items()}
    assert set(found["worker"]) == {53, 5671, 5672, 443}
    assert set(found["operator"]) == set(found["dashboard"]) == {53, 5671, 5672, 443, 6443}
    issuer = ("dashboard.access.oidc.issuer=https://x.org:8443", "dashboard.access.oidc.clientId=a")
    reached = policies(*SECRETS, *issuer, "networkPolicy.issuerPorts={8443}")
    assert set(outgoing(reached["dashboard"])) - set(found["dashboard"]) == {8443}
    assert outgoing(reached["operator"]) == found["operator"]


def test_where_broker_storage_and_api_server_are_can_be_said() -> None:
    block = "networkPolicy.{}To[0].ipBlock.cidr={}/32"
    networks = {"broker": "10.0.0.1", "storage": "10.0.0.2", "apiServer": "10.0.0.3", "dns": "10.0.0.4"}
    named = [block.format(name, address) for name, address in networks.items()]
    for name, policy in policies(*SECRETS, *named, "networkPolicy.handlersEgress[0].ports[0].port=5432").items():
        rules = [rule for rule in policy["egress"] if rule["ports"] != [{"port": 5432}]]
        assert all(rule["to"] for rule in rules), name
        assert (len(rules) < len(policy["egress"])) == (name == "worker")


def test_development_servers_are_reached_and_nothing_else() -> None:
    found = policies(*DEV)
    assert set(outgoing(found["worker"])) == {53, 5672, 10000, 10002}
    assert all(rule.get("to") for rule in found["worker"]["egress"][1:])


def test_programs_listen_on_both_families_and_the_service_has_the_families_that_are_named() -> None:
    found = objects(
        *DEV, "dashboard.service.ipFamilyPolicy=PreferDualStack", "dashboard.service.ipFamilies={IPv6,IPv4}"
    )
    service = next(
        each["spec"]
        for each in found
        if each["metadata"]["name"] == "joblease-dashboard" and "ports" in str(each) and each["kind"] == "Service"
    )
    assert (service["ipFamilyPolicy"], service["ipFamilies"]) == ("PreferDualStack", ["IPv6", "IPv4"])
    assert environment(pods(found)["joblease-dashboard"])["JOBLEASE_DASHBOARD_HOST"] == "::"
    assert "host=::" in str(pods(found)["joblease-azurite"]["containers"][0]["command"])
    assert not [each for each in objects(*SECRETS) if "0.0.0.0" in str(each)]


def test_all_hosts_lead_to_the_dashboard() -> None:
    found = objects(
        *DEV,
        "dashboard.ingress.enabled=true",
        "dashboard.ingress.host=a.org",
        "dashboard.ingress.extraHosts={b.org}",
        "dashboard.ingress.tlsSecret=tls",
        "dashboard.httpRoute.enabled=true",
        "dashboard.httpRoute.parentRefs[0].name=gateway",
        "dashboard.httpRoute.hostnames={c.org}",
        "dashboard.service.port=8000",
    )
    ingress, route = one(found, "Ingress")["spec"], one(found, "HTTPRoute")["spec"]
    assert [rule["host"] for rule in ingress["rules"]] == ingress["tls"][0]["hosts"] == ["a.org", "b.org"]
    assert {rule["http"]["paths"][0]["path"] for rule in ingress["rules"]} == {"/"}
    assert route["hostnames"] == ["c.org"]
    assert route["rules"][0]["matches"][0]["path"]["value"] == "/"
    assert route["rules"][0]["backendRefs"] == [{"name": "joblease-dashboard", "port": 8000}]
