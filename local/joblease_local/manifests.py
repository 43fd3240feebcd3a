"""Applies manifests to the API server, as `kubectl apply --server-side` does, on machines without kubectl."""

import time
from pathlib import Path
from typing import Any

import yaml
from kubernetes import config, dynamic
from kubernetes.dynamic.exceptions import NotFoundError

from joblease_local.processes import PartFailed

MANAGER = "joblease-local"
ESTABLISHED_SECONDS = 30
TIMEOUT_SECONDS = 30


def _connect(kubeconfig: Path) -> dynamic.DynamicClient:
    return dynamic.DynamicClient(config.new_client_from_config(str(kubeconfig)))


def apply(kubeconfig: Path, *documents: dict[str, Any]) -> None:
    """Create or update the objects."""
    api = _connect(kubeconfig)
    for document in documents:
        resource = api.resources.get(api_version=document["apiVersion"], kind=document["kind"])
        metadata = document["metadata"]
        resource.server_side_apply(
            body=document,
            name=metadata["name"],
            namespace=metadata.get("namespace"),
            field_manager=MANAGER,
            force_conflicts=True,
            _request_timeout=TIMEOUT_SECONDS,
        )


def apply_file(kubeconfig: Path, path: Path, kinds: frozenset[str] | None = None) -> None:
    """Apply a file's documents, or only those of the given kinds."""
    documents = [each for each in yaml.safe_load_all(path.read_text()) if each]
    apply(kubeconfig, *(each for each in documents if kinds is None or each["kind"] in kinds))


def wait_for_crd(kubeconfig: Path) -> None:
    """Wait until the API server serves `JobRequest`s."""
    deadline = time.monotonic() + ESTABLISHED_SECONDS
    api = _connect(kubeconfig)
    definitions = api.resources.get(api_version="apiextensions.k8s.io/v1", kind="CustomResourceDefinition")
    while time.monotonic() < deadline:
        try:
            found = definitions.get(name="jobrequests.joblease.dev").to_dict()
        except NotFoundError:
            found = {}
        conditions = found.get("status", {}).get("conditions") or []
        if any(each["type"] == "Established" and each["status"] == "True" for each in conditions):
            return
        time.sleep(0.1)
    raise PartFailed(f"the API server did not establish the JobRequest resource within {ESTABLISHED_SECONDS} s")
