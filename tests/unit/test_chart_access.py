"""The dashboard's access: its settings, and the rights of its account."""

import pytest
from support.chart import DEV, SECRETS, Object, environment, need_helm, objects, one, pods

PROXY = (*DEV, "dashboard.access.mode=proxy", "dashboard.access.trustedProxies={10.0.0.0/8}")
OIDC = {"issuer": "https://id.example.com", "clientId": "joblease", "clientSecret": "oidc", "scopes": "openid groups"}


@pytest.fixture(autouse=True, scope="module")
def helm() -> None:
    need_helm()


def rules(found: list[Object]) -> list[Object]:
    """Of the roles that are bound to the dashboard's account."""
    return [
        rule
        for each in found
        if each["kind"] in ("ClusterRole", "Role") and "-dashboard" in each["metadata"]["name"]
        for rule in each["rules"]
    ]


def test_the_dashboard_is_for_people_with_a_token_unless_somebody_says_otherwise() -> None:
    """It acts with their tokens, so its own account needs no right."""
    found = objects(*SECRETS)
    variables = environment(pods(found)["joblease-dashboard"])
    assert variables["JOBLEASE_DASHBOARD_ACCESS"] == "kubernetes"
    assert "JOBLEASE_DASHBOARD_INSECURE" not in variables
    assert not rules(found)


def test_without_access_control_it_acts_as_itself() -> None:
    found = objects(*DEV, "dashboard.access.mode=none")
    assert [(rule["resources"], rule["verbs"]) for rule in rules(found)] == [
        (["jobrequests"], ["get", "create", "patch"])
    ]
    assert environment(pods(found)["joblease-dashboard"])["JOBLEASE_DASHBOARD_INSECURE"] == "true"
    read_only = objects(*DEV, "dashboard.access.mode=none", "dashboard.actions=false")
    assert rules(read_only)[0]["verbs"] == ["get"]


def test_acting_as_others_is_a_role_of_its_own() -> None:
    create = "dashboard.access.impersonation.create=true"
    proof = (*PROXY, "dashboard.access.proxySecret=proof")
    assert not rules(objects(*proof))
    anybody = rules(objects(*proof, create))
    assert [(rule["resources"], rule["verbs"]) for rule in anybody] == [
        (["users"], ["impersonate"]),
        (["groups"], ["impersonate"]),
    ]
    people = "dashboard.access.impersonation.users={ann,bob@example.com}"
    some = rules(objects(*proof, create, people, "dashboard.access.impersonation.groups={team-a}"))
    assert [rule["resourceNames"] for rule in some] == [["ann", "bob@example.com"], ["team-a"]]


def test_the_proxys_proof_and_headers_reach_the_dashboard() -> None:
    found = objects(*PROXY, "dashboard.access.proxySecret=proof", "dashboard.access.userHeader=X-User")
    variables = environment(pods(found)["joblease-dashboard"])
    assert variables["JOBLEASE_DASHBOARD_PROXY_SECRET"] == {"secretKeyRef": {"name": "proof", "key": "proxy-secret"}}
    assert variables["JOBLEASE_DASHBOARD_TRUSTED_PROXIES"] == '["10.0.0.0/8"]'
    assert variables["JOBLEASE_DASHBOARD_USER_HEADER"] == "X-User"


def test_oidc_is_set_up_by_its_values() -> None:
    values = [f"dashboard.access.oidc.{name}={value}" for name, value in OIDC.items()]
    more = {"userClaim": "email", "groupsClaim": "roles", "userPrefix": "oidc:", "groupsPrefix": "oidc:"}
    values += [f"dashboard.access.oidc.{name}={value}" for name, value in more.items()]
    found = objects(*DEV, *values, "dashboard.access.oidc.actWith=impersonation")
    variables = environment(pods(found)["joblease-dashboard"])
    prefix = "JOBLEASE_DASHBOARD_OIDC_"
    assert {name.removeprefix(prefix): value for name, value in variables.items() if name.startswith(prefix)} == {
        "ISSUER": "https://id.example.com",
        "CLIENT_ID": "joblease",
        "CLIENT_SECRET": {"secretKeyRef": {"name": "oidc", "key": "client-secret"}},
        "SCOPES": "openid groups",
        "USER_CLAIM": "email",
        "GROUPS_CLAIM": "roles",
        "USER_PREFIX": "oidc:",
        "GROUPS_PREFIX": "oidc:",
        "ACT_WITH": "impersonation",
    }
    assert not [name for name in environment(pods(objects(*DEV))["joblease-dashboard"]) if name.startswith(prefix)]


def test_the_dashboard_scales_by_its_cpu() -> None:
    found = objects(*DEV, "dashboard.autoscaling.enabled=true", "dashboard.access.sessionSecret=session")
    scaler = next(each["spec"] for each in found if each["kind"] == "HorizontalPodAutoscaler")
    assert (scaler["scaleTargetRef"]["name"], scaler["minReplicas"]) == ("joblease-dashboard", 2)
    assert "replicas" not in one(found, "Deployment", "dashboard")["spec"]
    assert one(found, "PodDisruptionBudget", "dashboard")
