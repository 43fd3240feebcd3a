"""Sign-in with an OpenID Connect issuer outside the cluster; the API server sees the person."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from e2e.cluster import DASHBOARD, audited, helm, kubectl, rolled_out, run, system
from joblease_local.ports import free_ports
from support.oidc import CLIENT, TestIssuer, sign_in

pytestmark = pytest.mark.timeout(600)
ISSUER = "dashboard.access.oidc"
EDITORS = "oidc:e2e-editors"
SECRET = "joblease-oidc"


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestIssuer]:
    """An issuer on this machine, where pods reach it; `anna` is of a group that may edit jobs in `default`."""
    networks = json.loads(run("docker", "network", "inspect", "kind"))[0]["IPAM"]["Config"]
    gateway = next(each["Gateway"] for each in networks if "." in each.get("Gateway", ""))
    issuer = TestIssuer(tmp_path_factory.mktemp("issuer"), free_ports(1)[0], host=gateway)
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
    secret = CLIENT["JOBLEASE_DASHBOARD_OIDC_CLIENT_SECRET"]
    system("create", "secret", "generic", SECRET, f"--from-literal=client-secret={secret}")
    port = issuer.address.rsplit(":", 1)[1]
    values = (
        f"{ISSUER}.issuer={issuer.address}", f"{ISSUER}.clientId=joblease", f"{ISSUER}.clientSecret={SECRET}",
        f"{ISSUER}.actWith=impersonation", f"{ISSUER}.userPrefix=oidc:", f"{ISSUER}.groupsPrefix=oidc:",
        "dashboard.access.mode=kubernetes", "dashboard.access.impersonation.create=true",
        f"networkPolicy.issuerPorts={{{port}}}",
    )  # fmt: skip
    before = Path("charts/joblease")
    helm("upgrade", "joblease", str(before), "--reuse-values", *(flag for each in values for flag in ("--set", each)))
    rolled_out()
    yield
    off = ("--set", f"{ISSUER}.issuer=,dashboard.access.impersonation.create=false")
    helm("upgrade", "joblease", str(before), "--reuse-values", *off)
    rolled_out()
    remove()


def remove() -> None:
    kubectl("delete", "rolebinding", "e2e-oidc", "--ignore-not-found")
    system("delete", "secret", SECRET, "--ignore-not-found")


async def test_somebody_of_the_issuers_submits_a_job_in_their_own_name(by_issuer: None) -> None:
    kubectl("delete", "jr", "e2e-by-anna", "--ignore-not-found")
    async with httpx.AsyncClient(base_url=DASHBOARD, timeout=20) as http:
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
