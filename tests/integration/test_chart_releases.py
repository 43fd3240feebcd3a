"""Install, upgrade, roll back and uninstall with Helm 3 and Helm 4, on a real API server."""

import os
import subprocess
from pathlib import Path

import pytest
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from support.chart import CHART, DEV, Object, need_helm, need_helm3

KIND = ("joblease.dev", "v1alpha1")
NAME = "jobrequests.joblease.dev"
FIRST = (*DEV, "networkPolicy.enabled=true", "commonLabels.team=a", "workerDefaults.replicas=2")
SECOND = (*FIRST, "env.JOBLEASE_WORKER_CONCURRENCY=4194304", "workers[0].name=other", "dashboard.service.type=NodePort")
JOB = {"apiVersion": "joblease.dev/v1alpha1", "kind": "JobRequest", "spec": {"handler": "demo", "parameters": {"a": 1}}}


class Release:
    """One release, by one Helm."""

    def __init__(self, helm: str, kubeconfig: Path, namespace: str) -> None:
        self._helm, self._environment, self._namespace = helm, {**os.environ, "KUBECONFIG": str(kubeconfig)}, namespace

    def __call__(self, verb: str, *arguments: str) -> str:
        command = [self._helm, verb, "r1", *arguments, "--namespace", self._namespace]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def set_to(self, verb: str, *values: str) -> str:
        """Install or upgrade."""
        flags = [flag for value in values for flag in ("--set", value)]
        return self(verb, str(CHART), "--take-ownership", *flags)


@pytest.fixture(params=["helm", "Helm 3"])
def release(request: pytest.FixtureRequest, crd: Path, kube_namespace: str) -> Release:
    need_helm()
    return Release(need_helm3() if request.param == "Helm 3" else "helm", crd, kube_namespace)


@pytest.mark.timeout(300)
def test_a_release_lives_and_what_outlives_it_is_protected(release: Release, crd: Path, kube_namespace: str) -> None:
    release.set_to("install", *FIRST)
    release.set_to("upgrade", *SECOND)
    assert deployments(crd, kube_namespace) == {
        "r1-joblease-operator": 2, "r1-joblease-worker-other": 2, "r1-joblease-dashboard": 1,
    }  # fmt: skip
    release("rollback", "1")
    assert "r1-joblease-worker-default" in deployments(crd, kube_namespace)
    with config.new_client_from_config(str(crd)) as api:
        jobs = client.CustomObjectsApi(api)
        job: Object = jobs.create_namespaced_custom_object(
            *KIND, kube_namespace, "jobrequests", {**JOB, "metadata": {"name": "kept"}}
        )
        release("uninstall")
        assert not deployments(crd, kube_namespace)
        # The objects themselves: for about a second, the API server obeys a policy that is gone.
        policies = client.AdmissionregistrationV1Api(api)
        assert not policies.read_validating_admission_policy(NAME).metadata.deletion_timestamp
        assert not policies.read_validating_admission_policy_binding(NAME).metadata.deletion_timestamp
        job["spec"]["parameters"] = {"a": 2}
        with pytest.raises(ApiException, match="parameters is immutable"):
            jobs.replace_namespaced_custom_object(*KIND, kube_namespace, "jobrequests", "kept", job)
    release.set_to("install", *FIRST)  # what was kept is taken up again
    release("uninstall")


def deployments(kubeconfig: Path, namespace: str) -> dict[str, int]:
    with config.new_client_from_config(str(kubeconfig)) as api:
        found = client.AppsV1Api(api).list_namespaced_deployment(namespace).items
        return {each.metadata.name: each.spec.replicas for each in found}
