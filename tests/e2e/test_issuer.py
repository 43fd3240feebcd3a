"""Sign-in with an OpenID Connect issuer outside the cluster; the API server sees the person."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from e2e.cluster import DASHBOARD, audited, helm, kubectl, rolled_out, run, system
from joblease_local.ports import free_ports
from support.certificates import certificate
from support.oidc import CLIENT, TestIssuer, sign_in

pytestmark = pytest.mark.timeout(600)
ISSUER = "dashboard.access.oidc"
EDITORS = "oidc:e2e-editors"
SECRET, AUTHORITY = "joblease-oidc", "joblease-authority"
TRUST = ("extraEnv", "extraVolumes", "extraVolumeMounts")


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestIssuer]:
    """An issuer on this machine, where pods reach it; `anna` is of a group that may edit jobs in `default`."""
    networks = json.loads(run("docker", "network", "inspect", "kind"))[0]["IPAM"]["Config"]
    gateway = next(each["Gateway"] for each in networks if "." in each.get("Gateway", ""))
    files = certificate(tmp_path_factory.mktemp("authority"), gateway)
    issuer = TestIssuer(tmp_path_factory.mktemp("issuer"), free_ports(1)[0], files, gateway)
    try:
        issuer.start()
        issuer.set(redirectUris=[f"{DASHBOARD}/login/callback"], accounts={"anna": {"groups": ["e2e-editors"]}})
        yield issuer
    finally:
        issuer.stop()


@pytest.fixture(scope="module")
def by_issuer(issuer: TestIssuer) -> Iterator[None]:
    remove()
    kubectl("create", "rolebinding", "e2e-oidc", "--clusterrole=joblease-joblease-editor", f"--group={EDITORS}")
    system("create", "secret", "generic", AUTHORITY, f"--from-file=ca.crt={issuer.authority}")
    secret = CLIENT["JOBLEASE_DASHBOARD_OIDC_CLIENT_SECRET"]
    system("create", "secret", "generic", SECRET, f"--from-literal=client-secret={secret}")
    port = issuer.address.rsplit(":", 1)[1]
    values = (
        f"{ISSUER}.issuer={issuer.address}", f"{ISSUER}.clientId=joblease", f"{ISSUER}.clientSecret={SECRET}",
        f"{ISSUER}.actWith=impersonation", f"{ISSUER}.userPrefix=oidc:", f"{ISSUER}.groupsPrefix=oidc:",
        "dashboard.access.mode=kubernetes", "dashboard.access.impersonation.create=true",
        f"networkPolicy.issuerPorts={{{port}}}",
    )  # fmt: skip
    change(*values, trust={
        "extraEnv": [{"name": "SSL_CERT_FILE", "value": "/authority/ca.crt"}],
        "extraVolumes": [{"name": "authority", "secret": {"secretName": AUTHORITY}}],
        "extraVolumeMounts": [{"name": "authority", "mountPath": "/authority", "readOnly": True}],
    })  # fmt: skip
    yield
    change(f"{ISSUER}.issuer=", "dashboard.access.impersonation.create=false", trust=dict.fromkeys(TRUST))
    remove()


def change(*values: str, trust: dict[str, Any]) -> None:
    """Change the dashboard, and wait until nobody is answered as before.

    A pod that ends answers for some seconds more, until every node's proxy knows that its Service leads elsewhere; a
    finished roll-out does not wait for that.
    """
    before = system("get", "pods", "--selector", "app.kubernetes.io/component=dashboard", "--output", "name").split()
    flags = [flag for value in values for flag in ("--set", value)]
    for name, each in trust.items():
        flags += ["--set-json", f"dashboard.{name}={json.dumps(each or [])}"]
    helm("upgrade", "joblease", "charts/joblease", "--reuse-values", *flags)
    rolled_out()
    system("wait", "--for=delete", "--timeout=120s", *before)


def remove() -> None:
    kubectl("delete", "rolebinding", "e2e-oidc", "--ignore-not-found")
    system("delete", "secret", SECRET, AUTHORITY, "--ignore-not-found")


async def test_somebody_of_the_issuers_submits_a_job_in_their_own_name(by_issuer: None, issuer: TestIssuer) -> None:
    kubectl("delete", "jr", "e2e-by-anna", "--ignore-not-found")
    async with httpx.AsyncClient(base_url=DASHBOARD, timeout=20, verify=issuer.trust) as http:
        answer = await sign_in(http, "anna")
        assert answer.status_code == 303, answer.text
        assert (await http.get("/api/jobs?namespace=default")).status_code == 200
        assert (await http.get("/api/jobs")).status_code == 403
        form = {"namespace": "default", "handler": "demo", "name": "e2e-by-anna", "parameters": '{"steps": 1}'}
        done = await http.post("/submit", data=form, headers={"Sec-Fetch-Site": "same-origin"})
        assert done.status_code in (200, 303), done.text
        kubectl("wait", "--for=condition=Succeeded", "jr/e2e-by-anna", "--timeout=120s")
        assert (await http.post("/logout", headers={"Sec-Fetch-Site": "same-origin"})).status_code == 303
        assert (await http.get("/api/jobs?namespace=default")).status_code == 401
    made = [each for each in audited("e2e-by-anna") if each["verb"] == "create"]
    assert [each["impersonatedUser"]["username"] for each in made] == ["oidc:anna"]
    assert EDITORS in made[0]["impersonatedUser"]["groups"]
