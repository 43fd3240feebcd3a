"""What the chart renders, with everything switched on, as a real API server judges it.

For the objects of KEDA, the Prometheus operator and the Gateway API it takes their definitions, which their Go modules
contain.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from joblease_local.manifests import apply_file
from kubernetes import client, config
from kubernetes.dynamic import DynamicClient

CHART = Path(__file__).parents[2] / "charts" / "joblease"
EVERYTHING = """
workers:
  - {name: default, autoscaling: {mode: hpa}}
  - {name: images, replicas: 2, handlers: [a.b], extraVolumes: [{name: h, configMap: {name: h}}],
     extraVolumeMounts: [{name: h, mountPath: /handlers}], nodeSelector: {disk: fast},
     tolerations: [{key: gpu, operator: Exists}], extraEnv: [{name: A, value: b}],
     affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: []}}}
operator: {namespaces: [default], podAnnotations: {a: b}, priorityClassName: system-cluster-critical}
userRoles: {aggregate: true}
dashboard:
  replicas: 2
  autoscaling: {enabled: true}
  access:
    sessionSecret: session
    impersonation: {create: true, users: [ann], groups: [team-a]}
    oidc: {issuer: https://id.example.com, clientId: joblease, clientSecret: oidc, actWith: impersonation}
  service: {type: NodePort, nodePort: 30088, ipFamilyPolicy: PreferDualStack, ipFamilies: [IPv4]}
  ingress:
    {enabled: true, className: nginx, host: jobs.example.com, extraHosts: [b.org], tlsSecret: tls, annotations: {a: b}}
  probes: {liveness: {failureThreshold: 9}}
  tmpSizeLimit: 1Gi
  deploymentAnnotations: {a: b}
env: {BIG: 4194304, JOBLEASE_WORKER_CONCURRENCY: 4}
commonLabels: {team: "007"}
podSecurityContext: {runAsUser: 1000650000, fsGroupChangePolicy: OnRootMismatch}
workerDefaults: {securityContext: {appArmorProfile: {type: RuntimeDefault}}, podSecurityContext: {fsGroup: null}}
extraObjects:
  - {apiVersion: v1, kind: ConfigMap, metadata: {name: extra, namespace: "{{ .Release.Namespace }}"}, data: {n: "007"}}
image: {pullSecrets: [{name: pull}]}
broker: {tls: {existingSecret: tls, clientCertificate: true}}
networkPolicy:
  enabled: true
  dashboardFrom: [{namespaceSelector: {}}]
  metricsFrom: [{podSelector: {}}]
  apiServerTo: [{ipBlock: {cidr: "fd00::/8", except: ["fd00::1/128"]}}]
  handlersEgress: [{to: [{podSelector: {}}], ports: [{port: 5432, protocol: TCP}]}]
metrics: {grafanaDashboard: {enabled: true}}
dev: {volumePermissions: true, rabbitmq: {enabled: true}, azurite: {enabled: true}}
"""
WITH_OPERATORS = """
workers: [{name: default, autoscaling: {mode: keda, minReplicas: 0}}]
dashboard:
  httpRoute:
    enabled: true
    parentRefs: [{name: gateway, namespace: gateways, sectionName: https}]
    hostnames: [jobs.example.com]
metrics:
  MONITOR: {enabled: true, labels: {release: prometheus}, relabelings: [{targetLabel: cluster, replacement: a}]}
  prometheusRule: {enabled: true, labels: {release: prometheus}, runbookUrl: https://example.com/runbook.md}
dev: {rabbitmq: {enabled: true}, azurite: {enabled: true}}
"""
DEFINITIONS = {
    "github.com/kedacore/keda/v2@v2.21.0": (
        "config/crd/bases/keda.sh_scaledobjects.yaml",
        "config/crd/bases/keda.sh_triggerauthentications.yaml",
    ),
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": (
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    ),
    "sigs.k8s.io/gateway-api@v1.3.0": ("config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",),
}

pytestmark = pytest.mark.skipif(
    not shutil.which("helm") and not os.environ.get("JOBLEASE_HELM_REQUIRED"), reason="helm is not installed"
)


def rendered(values: str, namespace: str, folder: Path) -> list[dict[str, Any]]:
    (folder / "values.yaml").write_text(values)
    command = ["helm", "template", "joblease", str(CHART), "--namespace", namespace]
    command += ["--values", str(folder / "values.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def accepted(kubeconfig: Path, documents: list[dict[str, Any]]) -> set[str]:
    """Have the API server judge them strictly, without keeping them; their kinds."""
    with config.new_client_from_config(str(kubeconfig)) as api:
        dynamic = DynamicClient(api)
        for document in documents:
            resource = dynamic.resources.get(api_version=document["apiVersion"], kind=document["kind"])
            query = [("fieldValidation", "Strict"), ("dryRun", "All")]
            resource.server_side_apply(body=document, field_manager="test", force_conflicts=True, query_params=query)
    return {document["kind"] for document in documents}


def test_the_api_server_accepts_everything_without_an_unknown_field(
    crd: Path, kube_namespace: str, tmp_path: Path
) -> None:
    kinds = accepted(crd, rendered(EVERYTHING, kube_namespace, tmp_path))
    assert kinds >= {
        "HorizontalPodAutoscaler",
        "PodDisruptionBudget",
        "NetworkPolicy",
        "Ingress",
        "StatefulSet",
        "Role",
    }


@pytest.fixture
def foreign_definitions(crd: Path) -> Iterator[Path]:
    """KEDA's and the Prometheus operator's resources, established."""
    if not shutil.which("go"):
        pytest.skip("go is not installed: it fetches the definitions")
    names = []
    for module, paths in DEFINITIONS.items():
        done = subprocess.run(["go", "mod", "download", "-json", module], capture_output=True, text=True, check=True)
        for path in paths:
            file = Path(json.loads(done.stdout)["Dir"]) / path
            apply_file(crd, file)
            names.append(yaml.safe_load(file.read_text())["metadata"]["name"])
    with config.new_client_from_config(str(crd)) as api:
        definitions = client.ApiextensionsV1Api(api)
        for name in names:
            while not established(definitions.read_custom_resource_definition(name)):
                time.sleep(0.1)
        yield crd
        for name in names:
            definitions.delete_custom_resource_definition(name)


def established(definition: Any) -> bool:
    return any(each.type == "Established" and each.status == "True" for each in definition.status.conditions or [])


@pytest.mark.timeout(300)
def test_keda_the_prometheus_operator_and_gateways_accept_theirs(
    foreign_definitions: Path, kube_namespace: str, tmp_path: Path
) -> None:
    kinds = set()
    for monitor in ("serviceMonitor", "podMonitor"):
        values = WITH_OPERATORS.replace("MONITOR", monitor)
        kinds |= accepted(foreign_definitions, rendered(values, kube_namespace, tmp_path))
    operators = {"ScaledObject", "TriggerAuthentication", "ServiceMonitor", "PodMonitor", "PrometheusRule"}
    assert kinds >= {*operators, "HTTPRoute"}
