"""The dashboard as the chart installs it by default: a Kubernetes token for everybody, and RBAC decides."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from e2e.cluster import (
    CONTEXT,
    DASHBOARD,
    NAMESPACE,
    ask,
    audited,
    completed,
    job,
    kubectl,
    rights,
    submit,
    system,
    token,
    until,
)  # fmt: skip
from joblease_cli.failures import Exit
from support.programs import BIN

pytestmark = pytest.mark.timeout(600)
ACCOUNTS: dict[str, tuple[str, ...]] = {
    "e2e-viewer": ("get", "list", "watch"),
    "e2e-submitter": ("create",),
    "e2e-nobody": (),
}


@pytest.fixture(scope="module")
def tokens() -> Iterator[dict[str, str]]:
    """A token for each account, by name; they have their rights in the namespace `default` alone."""
    remove_accounts()
    for name, verbs in ACCOUNTS.items():
        kubectl("create", "serviceaccount", name)
        if verbs:
            kubectl("create", "role", name, f"--verb={','.join(verbs)}", "--resource=jobrequests.joblease.dev")
            kubectl("create", "rolebinding", name, f"--role={name}", f"--serviceaccount=default:{name}")
    yield {name: kubectl("create", "token", name) for name in ACCOUNTS}
    remove_accounts()


def remove_accounts() -> None:
    for kind in ("rolebinding", "role", "serviceaccount"):
        kubectl("delete", kind, *ACCOUNTS, "--ignore-not-found")


def jobs_for(token: str) -> httpx.Response:
    return ask("/api/jobs?namespace=default", token)


def test_nobody_comes_in_without_a_token() -> None:
    assert httpx.get(f"{DASHBOARD}/api/jobs", timeout=10).status_code == 401
    assert ask("/api/jobs", "made-up").status_code == 401
    page = httpx.get(DASHBOARD, headers={"Accept": "text/html"}, timeout=10)
    assert page.headers["location"].startswith("/login")
    assert all(httpx.get(f"{DASHBOARD}{path}", timeout=10).status_code == 401 for path in ("/metrics", "/readyz"))


def test_rbac_decides_who_sees_which_namespace(tokens: dict[str, str]) -> None:
    name = submit(parameters={"steps": 1, "seconds": 0})
    kubectl("wait", "--for=condition=Succeeded", f"jr/{name}", "--timeout=120s")
    assert jobs_for(tokens["e2e-viewer"]).status_code == 200
    until(lambda: name in jobs_for(tokens["e2e-viewer"]).text, "the job is in the read model")
    assert ask("/api/jobs", tokens["e2e-viewer"]).status_code == 403
    assert jobs_for(tokens["e2e-nobody"]).status_code == 403


def test_rbac_decides_who_submits_jobs(tokens: dict[str, str]) -> None:
    """With the rights that the chart gives the dashboard's own account."""
    form = {
        "namespace": "default",
        "handler": "demo",
        "name": "e2e-by-form",
        "parameters": '{"steps": 1, "seconds": 0}',
    }
    kubectl("delete", "jr", form["name"], "--ignore-not-found")

    def post(token: str) -> httpx.Response:
        return httpx.post(f"{DASHBOARD}/submit", data=form, headers={"Authorization": f"Bearer {token}"}, timeout=10)

    assert post(tokens["e2e-viewer"]).status_code == 403
    answer = post(tokens["e2e-submitter"])
    assert answer.status_code in (200, 303), answer.text
    kubectl("wait", "--for=condition=Succeeded", f"jr/{form['name']}", "--timeout=120s")
    by = kubectl("get", "jr", form["name"], "--output", r"jsonpath={.metadata.annotations.joblease\.dev/requested-by}")
    assert by == "system:serviceaccount:default:e2e-submitter"
    uid = kubectl("get", "jr", form["name"], "--output", "jsonpath={.metadata.uid}")
    assert uid in answer.text + answer.headers.get("location", "")


def cli(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / "joblease", *arguments], env={**os.environ, **variables}, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip


def test_the_cli_reaches_the_dashboard_through_the_api_server(tokens: dict[str, str], tmp_path: Path) -> None:
    name = submit(parameters={"steps": 1, "seconds": 0})
    completed(name)
    admin = ("--context", CONTEXT, "-n", "default", "--dashboard-token", tokens["e2e-viewer"])
    done = cli("describe", name, "--trail", *admin)
    where = f"dashboard: {NAMESPACE}/joblease-dashboard, through the API server https://"
    assert (done.returncode, done.stderr.startswith(where), "Completed" in done.stdout) == (0, True, True), done
    assert "403" in cli("workers", *admin).stderr  # of the dashboard: this account may see one namespace
    # The account alone, which may neither look for Services nor use them yet.
    config = yaml.safe_load(kubectl("config", "view", "--minify", "--raw", "--output", "yaml"))
    config["users"][0]["user"] = {"token": tokens["e2e-viewer"]}
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    viewer = {"KUBECONFIG": str(tmp_path / "config")}
    refused = cli("history", "-n", "default", **viewer)
    assert (refused.returncode, "services/proxy" in refused.stderr) == (Exit.UNAVAILABLE, True), refused
    system("create", "rolebinding", "cli", "--role=joblease-cli", "--serviceaccount=default:e2e-viewer")
    try:
        done = cli("history", "-n", "default", **viewer)
        assert (done.returncode, name in done.stdout) == (0, True), done
    finally:
        system("delete", "rolebinding", "cli")


def test_the_account_has_no_right_of_its_own() -> None:
    assert rights("joblease-dashboard") == {}


def test_the_audit_log_of_the_api_server_names_the_person(tokens: dict[str, str]) -> None:
    """For each change, and never the dashboard."""
    name = submit(suspend=True)
    job_id = job(name)["metadata"]["uid"]
    until(lambda: ask(f"/api/jobs/{job_id}").status_code == 200, "the job is in the trail")
    headers = {"Authorization": f"Bearer {token()}"}
    for action in ("resume", "cancel"):
        answer = httpx.post(f"{DASHBOARD}/jobs/{job_id}/{action}", headers=headers, timeout=10)
        assert answer.status_code in (200, 303), answer.text
    changes = [each["user"]["username"] for each in audited(name) if each["verb"] == "patch"]
    assert changes.count("system:serviceaccount:joblease:developer") == 2, changes
    assert "system:serviceaccount:joblease:joblease-dashboard" not in changes
