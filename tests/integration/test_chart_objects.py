"""What the chart renders, with everything switched on, as a real API server judges it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from kubernetes import config
from kubernetes.dynamic import DynamicClient

CHART = Path(__file__).parents[2] / "charts" / "joblease"
EVERYTHING = """
workers:
  - {name: default, autoscaling: {mode: hpa}}
  - {name: images, replicas: 2, handlers: [a.b], extraVolumes: [{name: h, configMap: {name: h}}],
     extraVolumeMounts: [{name: h, mountPath: /handlers}], nodeSelector: {disk: fast},
     tolerations: [{key: gpu, operator: Exists}], extraEnv: [{name: A, value: b}]}
operator: {namespaces: [default], podAnnotations: {a: b}, priorityClassName: system-cluster-critical}
dashboard:
  replicas: 2
  access: {sessionSecret: session}
  service: {type: NodePort, nodePort: 30088}
  ingress: {enabled: true, className: nginx, host: jobs.example.com, tlsSecret: tls, annotations: {a: b}}
image: {pullSecrets: [{name: pull}]}
broker: {tls: {existingSecret: tls, clientCertificate: true}}
networkPolicy: {enabled: true, dashboardFrom: [{namespaceSelector: {}}], metricsFrom: [{podSelector: {}}]}
metrics: {grafanaDashboard: {enabled: true}}
dev: {volumePermissions: true, rabbitmq: {enabled: true}, azurite: {enabled: true}}
"""


@pytest.mark.skipif(
    not shutil.which("helm") and not os.environ.get("JOBLEASE_HELM_REQUIRED"), reason="helm is not installed"
)
def test_the_api_server_accepts_everything_without_an_unknown_field(
    crd: Path, kube_namespace: str, tmp_path: Path
) -> None:
    (tmp_path / "values.yaml").write_text(EVERYTHING)
    command = ["helm", "template", "joblease", str(CHART), "--namespace", kube_namespace]
    done = subprocess.run(
        [*command, "--values", str(tmp_path / "values.yaml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    kinds = set()
    with config.new_client_from_config(str(crd)) as api:
        dynamic = DynamicClient(api)
        for document in filter(None, yaml.safe_load_all(done.stdout)):
            kinds.add(document["kind"])
            dynamic.resources.get(api_version=document["apiVersion"], kind=document["kind"]).server_side_apply(
                body=document,
                field_manager="test",
                force_conflicts=True,
                query_params=[("fieldValidation", "Strict"), ("dryRun", "All")],
            )
    assert kinds >= {
        "HorizontalPodAutoscaler",
        "PodDisruptionBudget",
        "NetworkPolicy",
        "Ingress",
        "StatefulSet",
        "Role",
    }
