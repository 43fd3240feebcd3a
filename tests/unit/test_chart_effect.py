"""Each value of the chart changes what is rendered: what is forgotten in a template is no setting."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml
from support.chart import CHART, KUBERNETES, need_helm

DEV = """
dev: {rabbitmq: {enabled: true}, azurite: {enabled: true}}
"""
EVERYTHING = """
broker: {existingSecret: amqp, tls: {existingSecret: tls}}
storage: {accountUrl: "https://a.blob.core.windows.net"}
dashboard:
  replicas: 2
  access: {sessionSecret: key, oidc: {issuer: "https://issuer.org", clientId: joblease, actWith: impersonation}}
  httpRoute: {enabled: true, parentRefs: [{name: gateway}]}
  ingress: {enabled: true, host: a.org, tlsSecret: tls}
networkPolicy: {enabled: true}
metrics: {serviceMonitor: {enabled: true}, prometheusRule: {enabled: true}, grafanaDashboard: {enabled: true}}
"""
KEDA = """
broker: {existingSecret: amqp}
storage: {existingSecret: account}
workerDefaults: {autoscaling: {mode: keda, managementSecret: rabbitmq}}
metrics: {podMonitor: {enabled: true}}
dashboard: {autoscaling: {enabled: true}, access: {sessionSecret: key}, service: {type: NodePort}}
"""
PROXY = """
dev: {rabbitmq: {enabled: true}, azurite: {enabled: true}}
workerDefaults: {autoscaling: {mode: hpa}}
dashboard:
  access:
    mode: proxy
    proxySecret: proof
    trustedProxies: [10.0.0.0/8]
    impersonation: {create: true, users: [a], groups: [b]}
"""
INSECURE = """
dev: {rabbitmq: {enabled: true}, azurite: {enabled: true}}
dashboard: {access: {mode: none}, service: {type: LoadBalancer}}
"""
WITHOUT_TLS = """
dev: {rabbitmq: {enabled: true}, azurite: {enabled: true}}
dashboard: {ingress: {enabled: true, host: a.org}}
"""
INSTALLATIONS = [yaml.safe_load(text) for text in (EVERYTHING, KEDA, DEV, PROXY)]
"""Those first in which most values have an effect: helm takes a while each time."""
REFUSED = {
    "dashboard.access.insecure": yaml.safe_load(INSECURE),
    "dashboard.ingress.withoutTls": yaml.safe_load(WITHOUT_TLS),
}
"""What the chart refuses without that value."""
PEERS: Any = [{"podSelector": {}}]
OTHERS: Mapping[str, Any] = {
    "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "more"}}],
    "registry": "other/", "pullPolicy": "Always", "logFormat": "console", "openshift": "always",
    "accountUrl": "https://b.blob.core.windows.net",
    "type": "NodePort", "seccompProfile.type": "Unconfined", "cpu": "7m", "memory": "7Gi", "tmpSizeLimit": "7Mi",
    "storage": "7Gi", "interval": "7s", "mode": "none", "workerDefaults.autoscaling.mode": "hpa", "leaseSeconds": 59,
    "maxUnavailable": "50%", "workers": [{"name": "other"}], "trustedProxies": ["10.1.0.0/16"], "nodePort": 30_007,
    "ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv4"],
    "tolerations": [{"key": "other", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}}, "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
    ],
    "extraEnv": [{"name": "OTHER", "value": "x"}], "extraVolumes": [{"name": "other", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "other", "mountPath": "/other"}], "handlers": ["other.handlers"],
    "commands": "/other.toml",
    "podSecurityContext": {"runAsUser": 7}, "securityContext": {"privileged": True},
    "probes": {"startup": {"periodSeconds": 7}},
    "env": {"JOBLEASE_LOG_LEVEL": "DEBUG"}, "parentRefs": [{"name": "other"}], "runbookUrl": "https://other.org",
    "relabelings": [{"targetLabel": "other"}], "metricRelabelings": [{"targetLabel": "other"}],
    "dashboardFrom": PEERS, "metricsFrom": PEERS, "dnsTo": PEERS, "brokerTo": PEERS, "storageTo": PEERS,
    "apiServerTo": PEERS,
    "brokerPorts": [7], "storagePorts": [7], "apiServerPorts": [7], "extraEgress": [{"ports": [{"port": 7}]}],
    "handlersEgress": [{"ports": [{"port": 7}]}],
    "pullSecrets": [{"name": "other"}], "basePath": "/other", "issuer": "https://other.org", "actWith": "id-token",
    "scopes": "openid other",
    "issuerTo": PEERS, "issuerPorts": [7], "hostnames": ["other.org"], "extraHosts": ["other.org"],
}  # fmt: skip
"""Another value, where no text, number or switch will do; by the end of the value's name."""


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, part in value.items():
            yield from leaves(part, f"{name}.{key}".lstrip("."))
    else:
        yield name, value


def other(name: str, value: Any) -> Any:
    parts = name.split(".")
    for at in range(len(parts)):
        if (end := ".".join(parts[at:])) in OTHERS:
            return OTHERS[end]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return "other"
    return {"other": "x"} if isinstance(value, dict) else ["other"]


def changed(installation: Any, name: str, default: Any, path: str = "") -> Any:
    """A copy with another value than it has there."""
    first, _, rest = (path or name).partition(".")
    if rest:
        return {**installation, first: changed(installation.get(first, {}), name, default, rest)}
    return {**installation, first: other(name, installation.get(first, default))}


def rendered(values: Any) -> str:
    """What helm makes of them, or nothing: it refuses them."""
    command = ["helm", "template", "x", str(CHART), "--kube-version", KUBERNETES, "--values", "-"]
    return subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=False).stdout


@pytest.mark.timeout(600)  # some hundred runs of helm
def test_each_value_changes_what_is_rendered() -> None:
    need_helm()
    before = [rendered(installation) for installation in INSTALLATIONS]
    assert all(before)
    assert not any(map(rendered, REFUSED.values()))

    def has_effect(leaf: tuple[str, Any]) -> bool:
        """In one of the installations; what this one refuses, the next may take."""
        name, value = leaf
        if name in REFUSED:
            return bool(rendered(changed(REFUSED[name], name, value)))
        found = (rendered(changed(installation, name, value)) for installation in INSTALLATIONS)
        return any(now and now != then for now, then in zip(found, before, strict=True))

    values = list(leaves(yaml.safe_load((CHART / "values.yaml").read_text())))
    with ThreadPoolExecutor(2) as helms:
        assert [name for (name, _), has in zip(values, helms.map(has_effect, values), strict=True) if not has] == []
