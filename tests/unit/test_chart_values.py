"""What the chart refuses, and what its schema and its README say about its values."""

import importlib.util
import json
import re
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from support.chart import CHART, DEV, ROOT, SECRETS, Object, need_helm, objects, template

README = (CHART / "README.md").read_text()
KUBERNETES = {"texts", "labels", "resources", "affinity", "podSecurityContext", "securityContext", "probes"}
"""What the schema shares between values and leaves to Kubernetes to define."""
POOLS = ("workers[0].name=a", "workers[1].name=a")
PROXY = (*DEV, "dashboard.access.mode=proxy", "dashboard.access.trustedProxies={10.0.0.0/8}")
INGRESS = ("dashboard.ingress.enabled=true", "dashboard.ingress.host=x.org")
TLS = "dashboard.ingress.tlsSecret=tls"
OPEN = "dashboard.access.mode=none"
DUAL = ("dashboard.service.ipFamilies={IPv6,IPv4}",)
ROUTE = ("dashboard.httpRoute.enabled=true", "dashboard.httpRoute.parentRefs[0].name=gateway")
OIDC = ("dashboard.access.oidc.issuer=https://x.org", "dashboard.access.oidc.clientId=a")
ACT = "dashboard.access.oidc.actWith=impersonation"
HPA, KEDA = "workerDefaults.autoscaling.mode=hpa", "workerDefaults.autoscaling.mode=keda"


WHOLE = (".resources", ".labels", "SecurityContext", "securityContext", "probes")
"""Values that the README shows as a whole."""


@pytest.fixture(autouse=True, scope="module")
def helm() -> None:
    need_helm()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([], "/broker/existingSecret"),
        (["broker.existingSecret=a"], "/storage/accountUrl"),
        ([*DEV, "operater.x=1"], "'operater' not allowed"),
        ([*DEV, "workers[0].name=a", "workers[0].replica=1"], "'replica' not allowed"),
        ([*DEV, "workers[0].queue=a"], "name"),
        ([*DEV, "workerDefaults.leaseSeconds=90"], "60"),
        ([*DEV, "workerDefaults.autoscaling.mode=x"], "hpa"),
        ([*DEV, "dashboard.replicas=2"], "/dashboard/access/sessionSecret"),
        ([*DEV, "dashboard.autoscaling.enabled=true"], "/dashboard/access/sessionSecret"),
        ([*DEV, "dashboard.autoscaling.enabled=true", "dashboard.autoscaling.minReplicas=6", OPEN], "maxReplicas"),
        ([*DEV, "broker.tls.clientCertificate=true"], "/broker/tls/existingSecret"),
        ([*DEV, "dashboard.access.mode=proxy"], "/dashboard/access/trustedProxies"),
        ([*PROXY], "/dashboard/access/proxySecret"),
        ([*DEV, OPEN, "dashboard.service.type=LoadBalancer"], "/dashboard/access/insecure"),
        ([*DEV, OPEN, *INGRESS, TLS], "/dashboard/access/insecure"),
        ([*DEV, OPEN, *ROUTE], "/dashboard/access/insecure"),
        ([*DEV, *INGRESS], "/dashboard/ingress/withoutTls"),
        ([*DEV, "dashboard.ingress.enabled=true", TLS], "/dashboard/ingress/host"),
        ([*DEV, "dashboard.httpRoute.enabled=true"], "/dashboard/httpRoute/parentRefs"),
        ([*DEV, "dashboard.access.oidc.issuer=https://x.org"], "/dashboard/access/oidc/clientId"),
        ([*DEV, "dashboard.access.oidc.issuer=http://x.org"], "/dashboard/access/oidc/issuer"),
        ([*DEV, OPEN, *OIDC], "/dashboard/access/mode"),
        ([*DEV, *OIDC, "dashboard.access.oidc.scopes=groups"], "/dashboard/access/oidc/scopes"),
        ([*DEV, *OIDC, "dashboard.access.oidc.userPrefix=oidc:"], "/dashboard/access/oidc/userPrefix"),
        ([*DEV, *OIDC, ACT, "dashboard.access.oidc.groupsPrefix=system:"], "/dashboard/access/oidc/groupsPrefix"),
        (
            [*DEV, "metrics.serviceMonitor.enabled=true", "metrics.podMonitor.enabled=true"],
            "/metrics/podMonitor/enabled",
        ),
        ([*DEV, "metrics.podMonitor.interval=often"], "/metrics/podMonitor/interval"),
        ([*DEV, "operator.resources.limit.memory=1Gi"], "'limit' not allowed"),
        ([*DEV, "operator.resources.limits.memory=1 GB"], "/operator/resources/limits/memory"),
        ([*DEV, "operator.tmpSizeLimit=much"], "/operator/tmpSizeLimit"),
        ([*DEV, "workerDefaults.tolerations[0].kee=gpu"], "'kee' not allowed"),
        ([*DEV, "workerDefaults.extraEnv[0].name=A", "workerDefaults.extraEnv[0].valu=b"], "'valu' not allowed"),
        ([*DEV, "workerDefaults.podLabels.azure\\.workload\\.identity/use=true"], "want string"),
        ([*DEV, "workerDefaults.podDisruptionBudget.maxUnavailable=half"], "/podDisruptionBudget/maxUnavailable"),
        ([*DEV, "workerDefaults.handlers={my-handlers}"], "/workerDefaults/handlers/0"),
        ([*DEV, *POOLS, "workers[0].replicas=1"], "two pools are named a"),
        ([*DEV, HPA, "workerDefaults.autoscaling.minReplicas=0"], "hpa needs at least 1"),
        ([*DEV, KEDA, "workerDefaults.autoscaling.minReplicas=11"], "maxReplicas"),
        ([*SECRETS, KEDA], "autoscaling.managementSecret"),
        ([*DEV, "operator.namespaces={a,a}"], "/operator/namespaces"),
        ([*DEV, "operator.namespaces={Team_A}"], "/operator/namespaces/0"),
        ([*DEV, "networkPolicy.metricsFrom[0].ipBlock.cidr=10.0.0.0/33"], "/networkPolicy/metricsFrom/0/ipBlock/cidr"),
        ([*DEV, "networkPolicy.brokerPorts={5671,5671}"], "/networkPolicy/brokerPorts"),
        ([*DEV, "image.tag=a b"], "/image/tag"),
        ([*DEV, "nameOverride=Job_Lease"], "/nameOverride"),
        ([*DEV, "commonLabels.team=a b"], "/commonLabels/team"),
        ([*DEV, "extraObjects[0].kind=ConfigMap"], "apiVersion"),
        # What the API server would refuse, or take for something else.
        ([*DEV, "probes.liveness.successThreshold=2"], "/probes/liveness"),
        ([*DEV, "dashboard.probes.startup.successThreshold=2"], "/dashboard/probes/startup"),
        ([*DEV, "operator.extraVolumes[0].name=tmp"], "/operator/extraVolumes/0/name"),
        ([*DEV, *INGRESS[:1], TLS, "dashboard.ingress.host=192.0.2.1"], "/dashboard/ingress/host"),
        ([*DEV, "dashboard.ingress.extraHosts={192.0.2.1}"], "/dashboard/ingress/extraHosts/0"),
        ([*DEV, *DUAL, "dashboard.service.ipFamilyPolicy=SingleStack"], "/dashboard/service/ipFamilyPolicy"),
    ],
)
def test_wrong_values_are_refused_with_their_name(values: list[str], said: str) -> None:
    assert said in template(*values, expect=1)


@pytest.mark.parametrize(
    "values",
    [
        [*PROXY, "dashboard.access.proxySecret=proof"],
        [*OIDC],
        [*OIDC, ACT, "dashboard.access.oidc.groupsPrefix=oidc:", "dashboard.access.oidc.scopes=openid groups"],
        [OPEN, "dashboard.access.insecure=true", "dashboard.service.type=LoadBalancer"],
        [OPEN, "dashboard.access.insecure=true", *INGRESS, TLS],
        [*INGRESS, "dashboard.ingress.withoutTls=true"],
        ["dashboard.enabled=false", *INGRESS, "dashboard.replicas=2"],
        ["dashboard.replicas=2", OPEN],
        [*DUAL, "dashboard.service.ipFamilyPolicy=PreferDualStack"],
        ["probes.readiness.successThreshold=2", "probes.liveness.successThreshold=null"],
    ],
)
def test_what_is_meant_is_accepted(values: list[str]) -> None:
    assert objects(*DEV, *values)


PROOF = (*DEV, "dashboard.access.mode=proxy", "dashboard.access.proxySecret=proof")


@pytest.mark.parametrize("network", ["0.0.0.0/0", "10.1.2.0/24", "::/0", "fd00:10::/32", "2001:db8::1/128"])
def test_networks_of_both_families_are_accepted(network: str) -> None:
    assert objects(*PROOF, f"dashboard.access.trustedProxies={{{network}}}")


@pytest.mark.parametrize(
    "network",
    [
        "10.0.0.0",
        "10.0.0.0/33",
        "256.0.0.0/8",
        "10.0.0/8",
        "fd00::/129",
        "::g/8",
        "a/8",
        "1:2:3:4:5:6:7:8:9/64",
        "1::2::/64",
        "",
    ],
)
def test_what_is_no_network_is_refused(network: str) -> None:
    assert "/dashboard/access/trustedProxies" in template(
        *PROOF, f"dashboard.access.trustedProxies={{{network}}}", expect=1
    )


def test_the_schema_knows_every_value_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())

    def compare(part: Object, value: Any, where: str) -> None:
        shared = part.get("$ref", "").removeprefix("#/$defs/")
        assert isinstance(value, dict) or "description" in part, where
        if shared in KUBERNETES:
            return
        part = schema["$defs"][shared] if shared else part
        if part["type"] != "object" or where == ".env":
            return
        assert part["additionalProperties"] is False, where
        assert set(part["properties"]) - {"enabled" if not where else "", "global"} == set(value), where
        for name in value:
            compare(part["properties"][name], value[name], f"{where}.{name}")

    Draft202012Validator.check_schema(schema)
    compare(schema, yaml.safe_load((CHART / "values.yaml").read_text()), "")
    pool = schema["properties"]["workers"]["items"]["properties"]
    shared = {name: pool[name] for name in pool if name not in ("name", "queue")}
    assert shared == {
        name: {"$ref": f"#/properties/workerDefaults/properties/{name}"}
        for name in schema["properties"]["workerDefaults"]["properties"]
    }


def test_the_schema_describes_each_value_as_its_comment_does() -> None:
    spec = importlib.util.spec_from_file_location("chart_schema", ROOT / "scripts" / "chart_schema.py")
    assert spec
    assert spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    schema, values = ((CHART / name).read_text() for name in ("values.schema.json", "values.yaml"))
    assert script.document(schema, values) == schema, "run `make chart-docs`"


def test_the_readme_shows_every_value_as_it_is() -> None:
    """As `make chart-docs` makes it: key, default and the comment above it."""

    def values(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
        if not isinstance(value, dict) or not value or prefix.endswith(WHOLE):
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
