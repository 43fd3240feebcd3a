"""Signing in with an OpenID Connect issuer, in a browser."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from joblease_local.control_plane import ControlPlane
from joblease_local.manifests import apply
from joblease_local.ports import free_ports
from playwright.async_api import Browser, expect
from support.browser import check, look, open_page
from support.oidc import CLIENT, TestIssuer
from support.programs import program

RBAC = "rbac.authorization.k8s.io"


@pytest.fixture
def issuer(tmp_path: Path) -> Iterator[TestIssuer]:
    running = TestIssuer(tmp_path, free_ports(1)[0])
    try:
        running.start()
        yield running
    finally:
        running.stop()


async def test_signing_in_with_an_issuer_and_out(
    browser: Browser,
    issuer: TestIssuer,
    api_server: ControlPlane,
    crd: Path,
    amqp_url: str,
    storage: str,
    tmp_path: Path,
) -> None:
    name = "oidc-readers"
    port = free_ports(1)[0]
    issuer.set(redirectUris=[f"http://127.0.0.1:{port}/login/callback"], accounts={"anna": {"groups": [name]}})
    rules = [{"apiGroups": ["joblease.dev"], "resources": ["jobrequests"], "verbs": ["get", "list", "watch"]}]
    role = {"apiGroup": RBAC, "kind": "ClusterRole", "name": name}
    group = {"apiGroup": RBAC, "kind": "Group", "name": name}
    apply(
        crd,
        {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules},
        {
            "apiVersion": f"{RBAC}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name}, "roleRef": role,
            "subjects": [group],
        },
    )  # fmt: skip
    variables = {
        "KUBECONFIG": str(api_server.kubeconfig),  # an administrator's: it may impersonate
        "JOBLEASE_AMQP_URL": amqp_url,
        "JOBLEASE_STORAGE_CONNECTION_STRING": storage,
        "JOBLEASE_DASHBOARD_ACCESS": "kubernetes",
        "JOBLEASE_DASHBOARD_OIDC_ISSUER": issuer.address,
        "JOBLEASE_DASHBOARD_OIDC_ACT_WITH": "impersonation",
        **CLIENT,
    }
    async with (
        program("joblease-dashboard", variables, tmp_path / "dashboard.log", port),
        open_page(browser, port, width=390, errors=("403 (Forbidden)", "404 (Not Found)")) as page,
    ):
        # The issuer's own pages ask for fonts of somebody else.
        await page.route(re.compile(r"^https?://(?!127\.0\.0\.1)"), lambda route: route.fulfill(body=""))
        await look(page, "/events", "sign-in")
        await page.get_by_role("link", name="Sign in with OIDC").click()
        await page.locator("input[name=login]").fill("anna")
        await page.locator("input[name=password]").fill("any")
        await page.locator("[type=submit]").click()
        await page.locator("[type=submit]").click()  # what the dashboard may know
        await expect(page).to_have_url(re.compile(rf":{port}/events$"))
        await expect(page.locator(".who")).to_contain_text("anna")
        await expect(page.locator("#live")).to_have_text("live")
        await page.get_by_role("button", name="Sign out").click()
        await expect(page).to_have_url(re.compile(r"/login$"))
        await page.goto("/login/callback?code=a&state=b")
        await expect(page.get_by_role("heading")).to_have_text("Sign-in failed")
        await check(page, "sign-in-failed")
        await page.goto("/events")
        await expect(page).to_have_url(re.compile(r"/login\?next="))
