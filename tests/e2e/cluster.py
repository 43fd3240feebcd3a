"""The cluster of `make kind`, as its users see it: kubectl, helm, and the dashboard's port."""

import json
import re
import subprocess
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import httpx
import pytest

CONTEXT = "kind-joblease"
NAMESPACE = "joblease"
DASHBOARD = "http://127.0.0.1:8088"
LEASE_SECONDS = 60

T = TypeVar("T")


def run(*command: str, text: str | None = None, timeout: float = 300, check: bool = True) -> str:
    """A command's standard output; its errors fail the test."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=timeout, check=False)
    if check and done.returncode:
        pytest.fail(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
    return done.stdout.strip()


def kubectl(*arguments: str, **options: Any) -> str:
    return run("kubectl", "--context", CONTEXT, *arguments, **options)


def system(*arguments: str, **options: Any) -> str:
    """kubectl in JobLease's own namespace."""
    return kubectl("--namespace", NAMESPACE, *arguments, **options)


def helm(*arguments: str, **options: Any) -> str:
    return run("helm", *arguments, "--kube-context", CONTEXT, "--namespace", NAMESPACE, **options)


def until(read: Callable[[], T], what: str, timeout: float = 120) -> T:
    """Wait until `read` returns something true, and return that."""
    deadline = time.monotonic() + timeout
    while True:
        if found := read():
            return found
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout:.0f} s: {what}")
        time.sleep(0.5)


def submit(**spec: Any) -> str:
    """Apply a JobRequest for the demo handler; its name."""
    name = f"e2e-{uuid4().hex[:8]}"
    manifest = {
        "apiVersion": "joblease.dev/v1alpha1",
        "kind": "JobRequest",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"handler": "demo", **spec},
    }
    kubectl("apply", "--filename", "-", text=json.dumps(manifest))
    return name


def job(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(kubectl("get", "jr", name, "--output", "json"))
    return found


def running(name: str) -> str:
    """Wait until the job runs; the name of its worker's pod."""

    def worker() -> str | None:
        status = job(name).get("status", {})
        return status.get("worker") if status.get("progress") else None

    return until(worker, f"{name} runs", LEASE_SECONDS * 3) or ""


def completed(name: str, timeout: float = LEASE_SECONDS * 4) -> list[dict[str, Any]]:
    """Wait until the job has completed; its history from the audit API."""

    def reason() -> str | None:
        conditions = job(name).get("status", {}).get("conditions", [])
        found = next((each for each in conditions if each["type"] == "Succeeded"), None)
        return found["reason"] if found and found["status"] != "Unknown" else None

    assert until(reason, f"{name} ends", timeout) == "Completed"
    return history(job(name)["metadata"]["uid"])


@cache
def token() -> str:
    """The developer's, whom `make kind` has made."""
    return system("create", "token", "developer", "--duration", "3h")


def ask(path: str, bearer: str | None = None) -> httpx.Response:
    """What the dashboard answers to somebody: the developer, if no token is given."""
    headers = {"Authorization": f"Bearer {bearer or token()}"}
    return httpx.get(f"{DASHBOARD}{path}", headers=headers, timeout=10)


def history(job_id: str) -> list[dict[str, Any]]:
    """The job's events; waits while the dashboard restarts."""

    def read() -> list[dict[str, Any]] | None:
        try:
            answer = ask(f"/api/jobs/{job_id}")
        except httpx.TransportError:
            return None
        return answer.json()["events"] if answer.status_code == 200 else None

    return until(read, f"the audit API knows {job_id}") or []


def audited(name: str) -> list[dict[str, Any]]:
    """Who changed a JobRequest: what the API server's audit log says."""
    log = run("docker", "exec", "joblease-control-plane", "cat", "/var/log/kubernetes/audit.log")
    return [each for each in map(json.loads, log.splitlines()) if each["objectRef"].get("name") == name]


def words(events: list[dict[str, Any]]) -> list[str]:
    return [event["status"] for event in events]


def block(language: str, mark: str, document: str = "docs/install.md") -> str:
    """The code block of a document that is in that language and contains the mark."""
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", Path(document).read_text(), re.DOTALL)
    return next(each for each in blocks if mark in each)


def rights(account: str) -> dict[str, set[str]]:
    """What an account of JobLease's namespace may do, beyond what every account may: resource and verbs."""

    def may(who: str) -> dict[str, set[str]]:
        lines = system("auth", "can-i", "--list", "--as", f"system:serviceaccount:joblease:{who}").splitlines()[1:]
        granted = re.finditer(r"^(\S+) +\[\] +\[\] +\[(.*)\]$", "\n".join(lines), re.MULTILINE)
        return {each[1]: set(each[2].split()) for each in granted}

    everybody = may("somebody-else")
    return {resource: verbs for resource, verbs in may(account).items() if verbs != everybody.get(resource)}


def chart_values() -> dict[str, Any]:
    """The values that the release has now."""
    values: dict[str, Any] = json.loads(helm("get", "values", "joblease", "--output", "json"))
    return values


def rolled_out() -> None:
    """Wait until everything of the release is ready."""
    for what in ("statefulset/joblease-rabbitmq", "statefulset/joblease-azurite", "deployment/joblease-operator"):
        system("rollout", "status", "--timeout", "240s", what)
    for what in ("deployment/joblease-dashboard", "deployment/joblease-worker-default"):
        system("rollout", "status", "--timeout", "240s", what)
