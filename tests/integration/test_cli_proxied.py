"""The way to the dashboard through the API server, as far as it goes without a network of pods; the rest is in e2e."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from joblease_cli.failures import Exit
from joblease_cli.proxied import LABEL, Service
from kubernetes import client, config
from support.cli import Cli

HASTY = ("--request-timeout", "2s")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("joblease/joblease-dashboard", "/api/v1/namespaces/joblease/services/joblease-dashboard:http/proxy"),
        ("a/b:8080/jobs/", "/api/v1/namespaces/a/services/b:8080/proxy/jobs"),
        ("a/b/x/y", "/api/v1/namespaces/a/services/b:http/proxy/x/y"),
        ("127.0.0.1:8080", None),
        ("joblease-dashboard", None),
        ("a/b:", None),
        ("a/b?x", None),
        ("a/b/../../../../secrets", None),
    ],
)
def test_a_service_is_named(text: str, path: str | None) -> None:
    service = Service.named(text)
    assert (service.path if service else None) == path


@pytest.fixture
def services(crd: Path, cli: Cli) -> Iterator[Any]:
    """Makes labelled Services in the test's namespace, which end with it."""
    core = client.CoreV1Api(config.new_client_from_config(str(crd)))
    label, value = LABEL.split("=")

    def make(name: str) -> None:
        metadata = {"name": name, "labels": {label: value}, "annotations": {"joblease.dev/base-path": "/jobs"}}
        spec = {"ports": [{"name": "http", "port": 80}]}
        core.create_namespaced_service(cli.namespace, {"metadata": metadata, "spec": spec})
        core.create_namespaced_endpoints(cli.namespace, {"metadata": {"name": name}})  # of no pod; no controller runs

    yield make
    for each in core.list_namespaced_service(cli.namespace, label_selector=LABEL).items:
        core.delete_namespaced_service(each.metadata.name, cli.namespace)


def said(cli: Cli, code: int, *arguments: str) -> str:
    done = cli(*arguments, *HASTY)
    assert (done.returncode, done.stdout) == (code, ""), done
    return done.stderr


def test_the_only_dashboard_of_the_cluster_is_found(cli: Cli, services: Any) -> None:
    text = said(cli, Exit.REFUSED, "history")
    assert ("none that the chart made" in text, "--dashboard NAMESPACE/SERVICE" in text) == (True, True)
    services("jobs-dashboard")
    text = said(cli, Exit.UNAVAILABLE, "history")
    where = f"{cli.namespace}/jobs-dashboard, through the API server https://"
    assert text.splitlines()[0].startswith(f"dashboard: {where}")
    assert "no endpoints available" in text
    services("another")
    text = said(cli, Exit.REFUSED, "workers")
    assert f"the cluster has several: {cli.namespace}/another, {cli.namespace}/jobs-dashboard" in text


def test_what_the_api_server_refuses_is_said_in_its_words(cli: Cli, services: Any, tmp_path: Path) -> None:
    text = said(cli, Exit.UNAVAILABLE, "history", "--dashboard", f"{cli.namespace}/nobody")
    assert ("not found" in text, "is it the right namespace and name?" in text, text.count("\n")) == (True, True, 1)
    text = said(cli, Exit.REFUSED, "history", "--dashboard", "nobody")
    assert "neither an address (https://…) nor a Service" in text
    services("jobs-dashboard")
    access = yaml.safe_load(Path(cli.environment["KUBECONFIG"]).read_text())
    access["users"][0]["user"] = {"token": "made-up"}
    (tmp_path / "kubeconfig").write_text(json.dumps(access))
    cli.environment["KUBECONFIG"] = str(tmp_path / "kubeconfig")
    text = said(cli, Exit.UNAVAILABLE, "queues")
    assert text.startswith("dashboard: joblease/joblease-dashboard, ")  # it may not look, and takes the usual one
    assert "does not accept these credentials" in text
