"""Sign-in with a real OpenID Connect issuer: what is believed of it, how long, and what Kubernetes then allows."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from joblease.storage import SESSIONS_TABLE
from joblease_local.binaries import kubernetes_binaries
from joblease_local.control_plane import ControlPlane
from joblease_local.manifests import apply
from joblease_local.ports import free_ports
from support.accounts import program_kubeconfig
from support.certificates import certificate
from support.jobs import Jobs
from support.oidc import CLIENT, HTML, TestIssuer, at_the_issuers, sign_in
from support.parts import CACHE, need, say
from support.programs import program

ROOT = Path(__file__).parent.parent.parent
RBAC = "rbac.authorization.k8s.io"
SAME_SITE = {"Sec-Fetch-Site": "same-origin"}
KEY = {"JOBLEASE_DASHBOARD_SESSION_KEY": "k" * 32}
OFFLINE = {"JOBLEASE_DASHBOARD_OIDC_SCOPES": "openid profile email groups offline_access"}
Start = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture(scope="module")
def running_issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestIssuer]:
    issuer = TestIssuer(tmp_path_factory.mktemp("issuer"), free_ports(1)[0])
    try:
        issuer.start()
        yield issuer
    finally:
        issuer.stop()


@pytest.fixture
def issuer(running_issuer: TestIssuer, kube_namespace: str) -> TestIssuer:
    """Where anna is of the group that may read the test's namespace, and eve says that she is an administrator."""
    accounts = {
        "anna": {"groups": [f"{kube_namespace}-readers"], "preferred_username": "Anna Ä", "email": "anna@example.com"},
        "eve": {"groups": ["system:masters"], "email": "anna@example.com", "email_verified": False},
        "sly": {"groups": ["staff", " system:masters"]},
        "odd": {"groups": ["staff\nImpersonate-Group: system:masters"]},
        "one": {"groups": f"{kube_namespace}-readers"},
        "system:admin": {"groups": []},
    }
    running_issuer.set(accounts=accounts, idTokenSeconds=3600, forge=None, down=False, refresh=True)
    return running_issuer


@pytest.fixture(scope="module")
def dashboard_kubeconfig(api_server: ControlPlane, crd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dashboard's account may impersonate, as the chart's opt-in role has it."""
    account = {"kind": "ServiceAccount", "name": "joblease-dashboard", "namespace": "joblease-system"}
    rules = [{"apiGroups": [""], "resources": ["users", "groups"], "verbs": ["impersonate"]}]
    apply(crd, *bound("dashboard-impersonates", rules, account))
    return program_kubeconfig(api_server, "dashboard", tmp_path_factory.mktemp("dashboard"))


def bound(name: str, rules: list[Any], subject: dict[str, str], namespace: str = "") -> list[dict[str, Any]]:
    """A role with its binding, in a namespace or in all."""
    where, kind = ({"namespace": namespace}, "Role") if namespace else ({}, "ClusterRole")
    return [
        {"apiVersion": f"{RBAC}/v1", "kind": kind, "metadata": {"name": name, **where}, "rules": rules},
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": f"{kind}Binding",
            "metadata": {"name": name, **where},
            "roleRef": {"apiGroup": RBAC, "kind": kind, "name": name},
            "subjects": [subject],
        },
    ]


READ = [{"apiGroups": ["joblease.dev"], "resources": ["jobrequests"], "verbs": ["get", "list", "watch"]}]


@pytest.fixture
def readers(crd: Path, kube_namespace: str) -> None:
    """A group that may read jobs of the test's namespace."""
    group = {"apiGroup": RBAC, "kind": "Group", "name": f"{kube_namespace}-readers"}
    apply(crd, *bound("readers", READ, group, kube_namespace))


@pytest.fixture
def start(
    amqp_url: str, storage: str, dashboard_kubeconfig: Path, issuer: TestIssuer, readers: None, tmp_path: Path
) -> Start:
    @asynccontextmanager
    async def run(**environment: str) -> AsyncIterator[httpx.AsyncClient]:
        port = free_ports(1)[0]
        issuer.set(redirectUris=[f"http://127.0.0.1:{port}/login/callback"])
        variables = {
            "KUBECONFIG": str(dashboard_kubeconfig),
            "JOBLEASE_AMQP_URL": amqp_url,
            "JOBLEASE_STORAGE_CONNECTION_STRING": storage,
            "JOBLEASE_DASHBOARD_ACCESS": "kubernetes",
            "JOBLEASE_DASHBOARD_OIDC_ISSUER": issuer.address,
            "JOBLEASE_DASHBOARD_OIDC_ACT_WITH": "impersonation",
            **CLIENT,
            **environment,
        }
        async with (
            program("joblease-dashboard", variables, tmp_path / f"dashboard-{port}.log", port),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=15) as client,
        ):
            yield client

    return run


async def sessions(jobs: Jobs) -> dict[str, Any]:
    """All sessions in the table, by their names."""
    return {row["PartitionKey"]: dict(row) async for row in jobs.storage.table(SESSIONS_TABLE).list_entities()}


@pytest.mark.parametrize("name", ["anna", "one"])
async def test_a_group_of_the_issuer_decides_what_somebody_sees(
    start: Start, kube_namespace: str, name: str, jobs: Jobs
) -> None:
    """As a list of names, and as one name."""
    async with start() as http:
        page = await http.get("/login?next=/events", headers=HTML)
        assert 'href="/login/oidc?next=%2Fevents"' in page.text
        answer = await sign_in(http, name, "/login/oidc?next=%2Fevents")
        assert (answer.status_code, answer.headers["location"]) == (303, "/events"), answer.text
        assert "HttpOnly" in str(answer.headers.get_list("set-cookie"))
        assert "joblease-oidc" not in http.cookies
        here = await http.get(f"/jobs?namespace={kube_namespace}", headers=HTML)
        assert (here.status_code, f'title="{name}"' in here.text) == (200, True)
        assert (await http.get("/api/jobs")).status_code == 403
        assert (await http.get("/api/jobs?namespace=another")).status_code == 403
        form = {"handler": "demo", "namespace": kube_namespace}
        refused = await http.post("/submit", headers=SAME_SITE, data=form)
        assert (refused.status_code, "may not create" in refused.text) == (403, True)
        stolen = {"Cookie": f"joblease-session={http.cookies['joblease-session']}"}
        assert (await http.post("/logout", headers=SAME_SITE)).status_code == 303
        assert (await http.get(f"/api/jobs?namespace={kube_namespace}", headers=stolen)).status_code == 401


async def test_prefixes_and_the_claim_of_the_name(start: Start, kube_namespace: str) -> None:
    """With a prefix nobody is `system:masters`, and a group's plain name gives nothing."""
    prefixes = {
        "JOBLEASE_DASHBOARD_OIDC_USER_CLAIM": "preferred_username",
        "JOBLEASE_DASHBOARD_OIDC_USER_PREFIX": "oidc:",
        "JOBLEASE_DASHBOARD_OIDC_GROUPS_PREFIX": "oidc:",
    }
    async with start(**prefixes) as http:
        assert (await sign_in(http, "anna")).status_code == 303
        refused = await http.get(f"/api/jobs?namespace={kube_namespace}")
        assert (refused.status_code, "oidc:Anna Ä may not list" in refused.text) == (403, True)


async def test_nobody_becomes_one_of_kubernetes_own_names(start: Start, jobs: Jobs) -> None:
    before = await sessions(jobs)
    async with start() as http:
        for name in ("eve", "sly", "odd", "system:admin"):
            http.cookies.clear()
            answer = await sign_in(http, name)
            assert (answer.status_code, "Sign-in failed" in answer.text) == (403, True), name
            assert "joblease-session" not in http.cookies
    claim = {"JOBLEASE_DASHBOARD_OIDC_USER_CLAIM": "email", "JOBLEASE_DASHBOARD_OIDC_GROUPS_CLAIM": "none", **OFFLINE}
    async with start(**claim) as http:
        answer = await sign_in(http, "eve")
        assert (answer.status_code, "has not verified" in answer.text) == (403, True)
    assert await sessions(jobs) == before


async def test_the_answer_belongs_to_the_browser_that_has_asked(start: Start) -> None:
    """No code that was given to somebody else signs anybody in, and none does it twice."""
    async with start() as http:
        back = await at_the_issuers(http, "anna")
        own = http.cookies["joblease-oidc"]
        code = httpx.URL(back).params["code"]
        for cookie, address, said in (
            ("", back, "has begun no sign-in"),
            ("nonsense", back, "has begun no sign-in"),
            (own, str(httpx.URL(back).copy_set_param("state", "other")), "another sign-in"),
            (own, str(httpx.URL(back).copy_remove_param("state")), "another sign-in"),
            (own, str(httpx.URL(back).copy_set_param("iss", "http://other")), "another issuer"),
            (own, str(httpx.URL(back).copy_remove_param("code")), "the issuer says"),
        ):
            http.cookies.clear()
            answer = await http.get(address, headers={**HTML, "Cookie": f"joblease-oidc={cookie}"})
            assert (answer.status_code, said in answer.text) == (403, True), (said, answer.text)
            assert "joblease-session" not in http.cookies
        kept = {**HTML, "Cookie": f"joblease-oidc={own}"}
        assert (await http.get(back, headers=kept)).status_code == 303
        http.cookies.clear()
        again = await http.get(back, headers=kept)
        assert (again.status_code, code in again.text) == (403, False)
        assert "joblease-session" not in http.cookies


async def test_a_code_is_bound_to_its_verifier(start: Start) -> None:
    """PKCE: the issuer gives nothing for the code of another sign-in, though state and cookie fit."""
    async with start() as http:
        stolen = httpx.URL(await at_the_issuers(http, "anna")).params["code"]
        http.cookies.clear()
        own = httpx.URL(await at_the_issuers(http, "one"))
        answer = await http.get(str(own.copy_set_param("code", stolen)), headers=HTML)
        assert (answer.status_code, "the issuer says: " in answer.text) == (403, True)


NOW = int(time.time())


FORGED: tuple[tuple[dict[str, Any], str], ...] = (
    ({"claims": {"nonce": "other"}}, "nonce"),
    ({"claims": {"nonce": None}}, "nonce"),
    ({"claims": {"aud": "another-client"}}, "aud"),
    ({"claims": {"aud": ["joblease", "other"], "azp": "other"}}, "azp"),
    ({"claims": {"iss": "http://other.example"}}, "iss"),
    ({"claims": {"exp": NOW - 3_600}}, "expired"),
    ({"claims": {"exp": None}}, "exp"),
    ({"claims": {"at_hash": "AAAA"}}, "at_hash"),
    ({"claims": {"sub": None}}, "sub"),
    ({"claims": {"sub": " "}}, "no names"),
    ({"claims": {"groups": {"a": 1}}}, "no names"),
    ({"claims": {"groups": [1]}}, "no names"),
    ({"by": "other"}, "not signed"),
    ({"by": "other", "header": {"kid": "another"}}, "not signed"),
    ({"by": "public", "header": {"alg": "HS256"}}, "not signed"),
    ({"by": "none", "header": {"alg": "none"}}, "not signed"),
    ({"by": "none"}, "not signed"),
)
MEASURED = {"JOBLEASE_DASHBOARD_TRUSTED_PROXIES": '["127.0.0.0/8"]'}
"""With it, each address has a measure of sign-ins of its own."""


async def test_a_token_counts_when_all_of_it_fits(start: Start, issuer: TestIssuer) -> None:
    async with start(**MEASURED) as http:
        for number, (forge, said) in enumerate(FORGED):
            issuer.set(forge=forge)
            http.cookies.clear()
            http.headers["X-Forwarded-For"] = f"10.0.0.{number}"
            answer = await sign_in(http, "anna")
            assert (answer.status_code, said in answer.text) == (403, True), (forge, answer.text)
            assert "joblease-session" not in http.cookies
        issuer.set(forge={"claims": {"nothing": "else"}})
        assert (await sign_in(http, "anna")).status_code == 303


async def test_nobody_is_sent_elsewhere_and_sign_ins_are_counted(start: Start) -> None:
    async with start(**MEASURED) as http:
        for number, target in enumerate(("//evil.example", "https://evil.example", "/\\evil.example", "evil")):
            http.cookies.clear()
            http.headers["X-Forwarded-For"] = f"10.1.0.{number}"
            begin = str(httpx.URL("/login/oidc", params={"next": target}))
            answer = await sign_in(http, "anna", begin)
            assert (answer.status_code, answer.headers["location"]) == (303, "/"), target
        for path in ("/login/oidc", "/login/callback"):
            for _ in range(11):
                late = await http.get(path)
            assert (late.status_code, int(late.headers["retry-after"]) > 0) == (429, True)


async def test_behind_https_cookies_are_bound_to_the_host(start: Start) -> None:
    async with start() as http:
        answer = await http.get("/login/oidc", headers={**HTML, "X-Forwarded-Proto": "https"})
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-joblease-oidc=")
        assert all(part in cookie for part in ("; Secure", "; HttpOnly", "SameSite=lax", "Path=/"))
        query = httpx.URL(answer.headers["location"]).params
        assert query["redirect_uri"] == f"https://127.0.0.1:{http.base_url.port}/login/callback"
        assert (query["code_challenge_method"], len(query["code_challenge"])) == ("S256", 43)
        assert len(query["nonce"]) == len(query["state"]) == 43


async def test_the_issuers_new_keys_are_fetched_now_and_then(start: Start, issuer: TestIssuer) -> None:
    async with start(**MEASURED) as http:
        assert (await sign_in(http, "anna")).status_code == 303
        fetched = issuer.set(rotate=True)["/jwks"]
        async with asyncio.timeout(40):  # not sooner than 10 s after the last time
            for number in range(60):
                http.cookies.clear()
                http.headers["X-Forwarded-For"] = f"10.2.0.{number}"
                if (await sign_in(http, "anna")).status_code == 303:
                    break
                await asyncio.sleep(1)
        assert issuer.set()["/jwks"] == fetched + 1


async def test_an_issuer_that_does_not_answer_is_said_to(start: Start, issuer: TestIssuer) -> None:
    async with start() as http:
        issuer.set(down=True)
        answer = await http.get("/login/oidc", headers=HTML)
        assert (answer.status_code, "cannot be reached" in answer.text) == (503, True)
        assert issuer.address in answer.text
        assert (await http.get("/login", headers=HTML)).status_code == 200
        issuer.set(down=False)
        back = await at_the_issuers(http, "anna")
        issuer.set(down=True)
        assert (await http.get(back, headers=HTML)).status_code == 503
        issuer.set(down=False)
        assert (await http.get(back, headers=HTML)).status_code == 303
    async with start(JOBLEASE_DASHBOARD_OIDC_ISSUER=f"{issuer.address}/") as http:
        answer = await http.get("/login/oidc", headers=HTML)
        assert (answer.status_code, "calls itself" in answer.text) == (503, True)


async def test_a_session_ends_with_its_token(start: Start, issuer: TestIssuer, kube_namespace: str, jobs: Jobs) -> None:
    """So does a live stream; nothing of it stays in the table."""
    issuer.set(idTokenSeconds=8)
    path = f"?namespace={kube_namespace}"
    before = await sessions(jobs)
    async with start(JOBLEASE_DASHBOARD_HEARTBEAT_SECONDS="1") as http:
        assert (await sign_in(http, "anna")).status_code == 303
        assert (await http.get(f"/api/jobs{path}")).status_code == 200
        assert len(await sessions(jobs)) == len(before) + 1
        async with asyncio.timeout(30), http.stream("GET", f"/api/stream{path}") as stream:
            assert stream.status_code == 200
            async for _ in stream.aiter_bytes():
                pass
        assert (await http.get(f"/api/jobs{path}")).status_code == 401
        assert await sessions(jobs) == before


@pytest.mark.parametrize("client", ["joblease", "joblease-public"])
async def test_tokens_are_renewed_by_one_replica_at_a_time(
    start: Start, issuer: TestIssuer, kube_namespace: str, jobs: Jobs, client: str
) -> None:
    """With a secret, and as a public client, whose refresh tokens are good only once. Groups: the last token's."""
    issuer.set(idTokenSeconds=6)
    path = f"/api/jobs?namespace={kube_namespace}"
    settings = {**KEY, **OFFLINE, "JOBLEASE_DASHBOARD_OIDC_CLIENT_ID": client}
    if client == "joblease-public":
        settings["JOBLEASE_DASHBOARD_OIDC_CLIENT_SECRET"] = ""
    async with start(**settings) as one, start(**settings) as other:
        uris = [f"http://127.0.0.1:{http.base_url.port}/login/callback" for http in (one, other)]
        issuer.set(redirectUris=uris)
        assert (await sign_in(one, "anna")).status_code == 303
        cookie = {"Cookie": f"joblease-session={one.cookies['joblease-session']}"}
        until, asked = time.monotonic() + 20, issuer.set()["/token"]
        while time.monotonic() < until:
            answers = await asyncio.gather(*(http.get(path, headers=cookie) for http in (one, other) for _ in range(4)))
            assert {answer.status_code for answer in answers} == {200}, [answer.text for answer in answers]
            await asyncio.sleep(0.2)
        assert 2 <= issuer.set()["/token"] - asked <= 7
        kept = str(await sessions(jobs))
        assert one.cookies["joblease-session"] not in kept

        issuer.set(accounts={"anna": {"groups": ["nothing"]}})
        async with asyncio.timeout(60):
            while (await other.get(path, headers=cookie)).status_code != 403:
                await asyncio.sleep(0.5)
        issuer.set(refresh=False)
        async with asyncio.timeout(60):
            for http in (one, other):
                while (await http.get(path, headers=cookie)).status_code != 401:
                    await asyncio.sleep(0.5)


async def test_a_session_outlives_an_issuer_that_is_away(start: Start, issuer: TestIssuer, kube_namespace: str) -> None:
    """Its token counts until it expires; afterwards the answer says who is missing, and the session goes on with it."""
    issuer.set(idTokenSeconds=6)
    path = f"/api/jobs?namespace={kube_namespace}"
    async with start(**OFFLINE) as http:
        assert (await sign_in(http, "anna")).status_code == 303
        issuer.set(down=True)
        seen = set()
        async with asyncio.timeout(30):
            while 503 not in seen:
                answer = await http.get(path)
                seen.add(answer.status_code)
                await asyncio.sleep(0.2)
        assert seen == {200, 503}
        issuer.set(down=False)
        async with asyncio.timeout(40):
            while (await http.get(path)).status_code != 200:
                await asyncio.sleep(0.5)


async def test_without_an_issuer_there_is_no_such_way_in(start: Start) -> None:
    none = dict.fromkeys((*CLIENT, "JOBLEASE_DASHBOARD_OIDC_ISSUER"), "")
    async with start(**none) as http:
        assert "oidc" not in (await http.get("/login", headers=HTML)).text.lower()
        for path in ("/login/oidc", "/login/callback?code=a&state=b"):
            answer = await http.get(path, headers=HTML)
            assert (answer.status_code, "no OIDC issuer" in answer.text) == (404, True)


async def test_acting_with_the_id_token_where_the_api_server_trusts_the_issuer(
    amqp_url: str, storage: str, tmp_path: Path
) -> None:
    """Names are as the API server makes them, the dashboard's own account has no right, and a private CA is trusted."""
    files = certificate(tmp_path)
    port, *ports = free_ports(5)
    issuer = TestIssuer(tmp_path, ports[0], files)
    oidc = {
        "issuer-url": issuer.address, "client-id": "joblease", "ca-file": files[0], "username-prefix": "oidc:",
        "groups-claim": "groups", "groups-prefix": "oidc:",
    }  # fmt: skip
    options = [f"--oidc-{name}={value}" for name, value in oidc.items()]
    binaries = need(lambda: kubernetes_binaries(CACHE / "bin", say))
    plane = ControlPlane(binaries, tmp_path, (ports[1], ports[2], ports[3]), durable=False, options=options)
    own = tmp_path / "powerless.kubeconfig"
    try:
        issuer.start()
        issuer.set(
            redirectUris=[f"http://127.0.0.1:{port}/login/callback"],
            accounts={"anna": {"groups": ["readers"]}, "eve": {"groups": ["system:masters"]}},
        )
        await asyncio.to_thread(plane.start)
        await asyncio.to_thread(plane.ready)
        group = {"apiGroup": RBAC, "kind": "Group", "name": "oidc:readers"}
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "none", "namespace": "default"}}
        apply(plane.kubeconfig, account, *bound("readers", READ, group, "default"))
        plane.service_account_kubeconfig("default", "none", own)
        variables = {
            "KUBECONFIG": str(own),
            "JOBLEASE_AMQP_URL": amqp_url,
            "JOBLEASE_STORAGE_CONNECTION_STRING": storage,
            "JOBLEASE_DASHBOARD_ACCESS": "kubernetes",
            "JOBLEASE_DASHBOARD_OIDC_ISSUER": issuer.address,
            "SSL_CERT_FILE": str(files[0]),
            **CLIENT,
        }
        trust = ssl.create_default_context(cafile=files[0])
        async with (
            program("joblease-dashboard", variables, tmp_path / "dashboard.log", port),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=15, verify=trust) as http,
        ):
            async with asyncio.timeout(60):  # the API server asks the issuer for its keys at first
                while (answer := await sign_in(http, "anna")).status_code != 303:
                    assert "API server does not accept" in answer.text
                    await asyncio.sleep(7)
            page = await http.get("/jobs?namespace=default", headers=HTML)
            assert (page.status_code, 'title="oidc:anna"' in page.text) == (200, True)
            assert (await http.get("/api/jobs")).status_code == 403
            http.cookies.clear()
            assert (await sign_in(http, "eve")).status_code == 303  # `oidc:system:masters` is nobody special
            assert (await http.get("/api/jobs?namespace=default")).status_code == 403
            issuer.set(idTokenSeconds=4)
            http.cookies.clear()
            assert (await sign_in(http, "anna")).status_code == 303
            async with asyncio.timeout(30):
                while (await http.get("/api/jobs?namespace=default")).status_code != 401:
                    await asyncio.sleep(0.5)
    finally:
        plane.stop()
        issuer.stop()
