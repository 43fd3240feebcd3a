"""The dashboard as the chart installs it by default: a Kubernetes token for everybody, and RBAC decides."""

from collections.abc import Iterator

import httpx
import pytest
from e2e.cluster import DASHBOARD, helm, kubectl, rights, rolled_out, submit, system, until

pytestmark = pytest.mark.timeout(600)
ACCOUNTS: dict[str, tuple[str, ...]] = {
    "e2e-viewer": ("get", "list", "watch"),
    "e2e-submitter": ("create",),
    "e2e-nobody": (),
}


@pytest.fixture(scope="module", autouse=True)
def by_token() -> Iterator[None]:
    access("kubernetes")
    yield
    access("none")


def access(mode: str) -> None:
    """Change who is let in, and wait until nobody is answered as before.

    A pod that ends answers for some seconds more, until every node's proxy knows that its Service leads elsewhere; a
    finished roll-out does not wait for that.
    """
    rolled_out()
    before = system("get", "pods", "--selector", "app.kubernetes.io/component=dashboard", "--output", "name").split()
    helm("upgrade", "joblease", "charts/joblease", "--reuse-values", "--set", f"dashboard.access.mode={mode}")
    rolled_out()
    system("wait", "--for=delete", "--timeout=120s", *before)


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


def ask(token: str, path: str = "/api/jobs?namespace=default") -> httpx.Response:
    return httpx.get(f"{DASHBOARD}{path}", headers={"Authorization": f"Bearer {token}"}, timeout=10)


def test_nobody_comes_in_without_a_token() -> None:
    assert httpx.get(f"{DASHBOARD}/api/jobs", timeout=10).status_code == 401
    assert ask("made-up").status_code == 401
    page = httpx.get(DASHBOARD, headers={"Accept": "text/html"}, timeout=10)
    assert page.headers["location"].startswith("/login")
    assert all(httpx.get(f"{DASHBOARD}{path}", timeout=10).status_code == 401 for path in ("/metrics", "/readyz"))


def test_rbac_decides_who_sees_which_namespace(tokens: dict[str, str]) -> None:
    name = submit(parameters={"steps": 1, "seconds": 0})
    kubectl("wait", "--for=condition=Succeeded", f"jr/{name}", "--timeout=120s")
    assert ask(tokens["e2e-viewer"]).status_code == 200
    until(lambda: name in ask(tokens["e2e-viewer"]).text, "the job is in the read model")
    assert ask(tokens["e2e-viewer"], "/api/jobs").status_code == 403
    assert ask(tokens["e2e-nobody"]).status_code == 403


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


def test_the_account_has_no_right_of_its_own() -> None:
    assert rights("joblease-dashboard") == {}
