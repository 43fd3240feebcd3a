"""Who gets into the dashboard, and how far: against a real API server's tokens and RBAC."""

import asyncio
import hashlib
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
import yaml
from joblease.head import Head
from joblease.messages import now
from joblease.states import State
from joblease.storage import ACTION_FEED_TABLE, SESSIONS_TABLE
from joblease.trail import NewEvent
from joblease_dashboard.access.guard import OPEN
from joblease_dashboard.actions.kinds import ACTIONS
from joblease_dashboard.app import application
from joblease_dashboard.problems import API_PAGE
from joblease_local.control_plane import ControlPlane
from joblease_local.manifests import apply
from kubernetes import client, config
from support.accounts import program_kubeconfig
from support.cluster import Cluster
from support.jobs import Jobs
from support.pages import OF_A_NAMESPACE, OF_ALL_NAMESPACES
from support.programs import BIN, program

ROOT = Path(__file__).parent.parent.parent
RBAC = "rbac.authorization.k8s.io"
HTML = {"Accept": "text/html"}
SAME_SITE = {"Sec-Fetch-Site": "same-origin"}
Start = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture(scope="module")
def dashboard_kubeconfig(api_server: ControlPlane, crd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dashboard runs with the rights of its manifest."""
    return program_kubeconfig(api_server, "dashboard", tmp_path_factory.mktemp("dashboard"))


@pytest.fixture
def token(api_server: ControlPlane, crd: Path, kube_namespace: str, tmp_path: Path) -> Callable[..., str]:
    """Makes an account with these verbs on jobrequests of its namespace; its token."""

    def make(name: str, *verbs: str, everywhere: bool = False) -> str:
        kind = "ClusterRole" if everywhere else "Role"
        where = {} if everywhere else {"namespace": kube_namespace}
        subject = {"kind": "ServiceAccount", "name": name, "namespace": kube_namespace}
        unique = f"{kube_namespace}-{name}"
        rules = [{"apiGroups": ["joblease.dev"], "resources": ["jobrequests"], "verbs": list(verbs)}]
        account = {
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": kube_namespace}
        }  # fmt: skip
        apply(crd, account)
        if verbs:
            role = {"apiVersion": f"{RBAC}/v1", "kind": kind, "metadata": {"name": unique, **where}, "rules": rules}
            binding = {
                "apiVersion": f"{RBAC}/v1",
                "kind": f"{kind}Binding",
                "metadata": {"name": unique, **where},
                "roleRef": {"apiGroup": RBAC, "kind": kind, "name": unique},
                "subjects": [subject],
            }
            apply(crd, role, binding)
        api_server.service_account_kubeconfig(kube_namespace, name, tmp_path / name)
        return str(yaml.safe_load((tmp_path / name).read_text())["users"][0]["user"]["token"])

    return make


@pytest.fixture
def start(amqp_url: str, storage: str, dashboard_kubeconfig: Path, tmp_path: Path) -> Start:
    @asynccontextmanager
    async def run(**environment: str) -> AsyncIterator[httpx.AsyncClient]:
        variables = {
            "KUBECONFIG": str(dashboard_kubeconfig),
            "JOBLEASE_AMQP_URL": amqp_url,
            "JOBLEASE_STORAGE_CONNECTION_STRING": storage,
            "JOBLEASE_DASHBOARD_ACCESS": "kubernetes",
            **environment,
        }
        async with (
            program("joblease-dashboard", variables, tmp_path / "dashboard.log") as running,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{running.port}", timeout=10) as client,
        ):
            yield client

    return run


@pytest.fixture
def readers(crd: Path, kube_namespace: str) -> None:
    """The user `anna-ä` and the group `staff` may read jobs of the namespace, the group `everywhere` all."""
    rules = [{"apiGroups": ["joblease.dev"], "resources": ["jobrequests"], "verbs": ["get", "list", "watch"]}]
    role: dict[str, Any] = {
        "apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": f"{kube_namespace}-r"}, "rules": rules
    }  # fmt: skip
    reference = {"apiGroup": RBAC, "kind": "ClusterRole", "name": f"{kube_namespace}-r"}
    people = [
        {"apiGroup": RBAC, "kind": "User", "name": "anna-ä"},
        {"apiGroup": RBAC, "kind": "Group", "name": "staff"},
    ]
    here = {
        "apiVersion": f"{RBAC}/v1", "kind": "RoleBinding", "metadata": {"name": "readers", "namespace": kube_namespace},
        "roleRef": reference, "subjects": people,
    }  # fmt: skip
    everywhere = {
        "apiVersion": f"{RBAC}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": f"{kube_namespace}-r"},
        "roleRef": reference, "subjects": [{"apiGroup": RBAC, "kind": "Group", "name": "everywhere"}],
    }  # fmt: skip
    impersonator = {
        "apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": "dashboard-impersonates"},
        "rules": [{"apiGroups": [""], "resources": ["users", "groups"], "verbs": ["impersonate"]}],
    }  # fmt: skip
    may = {
        "apiVersion": f"{RBAC}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "dashboard-impersonates"},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "dashboard-impersonates"},
        "subjects": [{"kind": "ServiceAccount", "name": "joblease-dashboard", "namespace": "joblease-system"}],
    }  # fmt: skip
    apply(crd, role, here, everywhere, impersonator, may)


async def a_job(jobs: Jobs, namespace: str) -> str:
    """A job of that namespace in the trail; its id."""
    job_id = str(uuid4())
    head = Head(job_id, namespace, "private", "noop", "default", "default", now())
    await jobs.trail.append(head, [NewEvent("Submitted", state=State.SUBMITTED, data={"handler": "noop"})])
    return job_id


METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")


def every_route(job_id: str) -> list[str]:
    """Each path that the dashboard serves, as its own routing table has it: a new one cannot be forgotten here."""
    none: Any = Mock()
    paths: set[str] = set()
    for route in application(none).routes:
        path = route.path.replace("{job_id}", job_id)  # type: ignore[attr-defined]
        paths |= {path.replace("{action}", action) for action in (*ACTIONS, "nonsense")}
    return sorted(paths - {"/static"})


def what_is_open(method: str, path: str) -> bool:
    """What everybody may ask for: the way in and out."""
    methods = {"/login": ("GET", "HEAD", "POST"), "/logout": ("POST",)}
    return method in methods.get(path, ("GET", "HEAD"))


async def nothing_was_done(jobs: Jobs) -> bool:
    """Whether the record of actions is empty."""
    return not [row async for row in jobs.storage.table(ACTION_FEED_TABLE).list_entities()]


SECRET = "the-proxy-is-the-proxy-and-nobody-else"
EVERYWHERE = {"JOBLEASE_DASHBOARD_HOST": "::"}
"""As on a cluster: a socket for both families, to which 127.0.0.1 is ::ffff:127.0.0.1."""
PROXY = {
    **EVERYWHERE,
    "JOBLEASE_DASHBOARD_ACCESS": "proxy",
    "JOBLEASE_DASHBOARD_TRUSTED_PROXIES": '["127.0.0.0/8"]',
    "JOBLEASE_DASHBOARD_PROXY_SECRET": SECRET,
}
PROVEN = {"X-Joblease-Proxy-Secret": SECRET}


@pytest.mark.parametrize("mode", [{}, PROXY], ids=["kubernetes", "proxy"])
async def test_nobody_comes_in_without_an_identity(
    jobs: Jobs, start: Start, kube_namespace: str, mode: dict[str, str]
) -> None:
    job_id = await a_job(jobs, kube_namespace)
    async with start(**mode) as http:
        for path in every_route(job_id):
            for method in METHODS:
                answer = await http.request(method, path, headers=SAME_SITE)
                if path in OPEN:  # whatever else is tried there leads nowhere
                    assert (answer.status_code != 405) is what_is_open(method, path), (method, path, answer)
                    continue
                assert answer.status_code == 401, (method, path, answer)
                assert answer.headers["content-type"] == "application/problem+json"
                assert job_id not in answer.text.replace(path, "")
    assert await nothing_was_done(jobs)


async def test_a_page_asks_to_sign_in_and_a_forged_session_is_none(start: Start) -> None:
    async with start() as http:
        page = await http.get("/jobs?state=Failed", headers=HTML)
        assert (page.status_code, page.headers["location"]) == (303, "/login?next=%2Fjobs%3Fstate%3DFailed")
        for cookie in ("", "nonsense", "WyJhZG1pbiIsW11d.aaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbbb"):
            assert (await http.get("/api/jobs", headers={"Cookie": f"joblease-session={cookie}"})).status_code == 401
        for credentials in ("Bearer nonsense", "Bearer", "Basic YWRtaW46YWRtaW4="):
            assert (await http.get("/api/jobs", headers={"Authorization": credentials})).status_code == 401


@pytest.mark.usefixtures("readers")
@pytest.mark.parametrize("mode", [{}, PROXY], ids=["kubernetes", "proxy"])
async def test_somebody_without_a_right_sees_and_does_nothing(
    jobs: Jobs, start: Start, kube_namespace: str, token: Callable[..., str], mode: dict[str, str]
) -> None:
    job_id, secret = await a_job(jobs, kube_namespace), token("nobody")
    who = {"X-Forwarded-User": "nobody", **PROVEN, **SAME_SITE} if mode else {"Authorization": f"Bearer {secret}"}
    async with start(**mode) as http:
        for path in every_route(job_id):
            if path in (*OPEN, "/openapi.json", API_PAGE):
                continue
            for method in METHODS:
                answer = await http.request(method, path, headers=who)
                unreadable = (400, 422) if path.startswith("/api/") else ()  # whose namespace cannot even be told
                assert answer.status_code in (403, 404, 405, *unreadable), (method, path, answer.status_code)
                assert "private" not in answer.text
    assert await nothing_was_done(jobs)


@pytest.mark.parametrize("mode", ["kubernetes", "proxy", "none"])
async def test_no_other_sites_page_changes_anything(jobs: Jobs, start: Start, kube_namespace: str, mode: str) -> None:
    """Not with what a browser sends by itself, nor with what a proxy adds to that."""
    job_id = await a_job(jobs, kube_namespace)
    environment = PROXY if mode == "proxy" else {"JOBLEASE_DASHBOARD_ACCESS": mode}
    admin = {"X-Forwarded-User": "admin", **PROVEN} if mode == "proxy" else {}
    foreign: tuple[dict[str, str], ...] = (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {},
    )
    of_its_own: list[dict[str, str]] = [{}, {"Authorization": "Basic YWRtaW46YWRtaW4="}]
    if mode != "kubernetes":  # there, it would be a token that a page cannot send
        of_its_own.append({"Authorization": "Bearer of-proxy"})
    async with start(**environment) as http:
        for number, (path, method) in enumerate(product(every_route(job_id), ("POST", "DELETE"))):
            for origin, headers in enumerate(foreign):  # each origin at each route, and all pairs at a few of them
                added = of_its_own[(number + origin) % len(of_its_own)]
                answer = await http.request(method, path, headers={**admin, **headers, **added})
                assert (answer.status_code, "Wrong origin" in answer.text) == (403, True), (method, path)
    assert await nothing_was_done(jobs)


async def test_a_reader_of_one_namespace_reads_that_and_no_more(
    jobs: Jobs, start: Start, kube_namespace: str, token: Callable[..., str]
) -> None:
    mine, foreign = await a_job(jobs, kube_namespace), await a_job(jobs, "another")
    bearer = {"Authorization": f"Bearer {token('reader', 'get', 'list', 'watch')}"}
    async with start() as http:
        for path in (*OF_A_NAMESPACE, "/api/events", "/api/jobs", "/api/requests"):
            assert (await http.get(f"{path}?namespace={kube_namespace}", headers=bearer)).status_code == 200
            assert (await http.get(path, headers=bearer)).status_code == 403
            assert (await http.get(f"{path}?namespace=another", headers=bearer)).status_code == 403
        for path in (*OF_ALL_NAMESPACES, "/api/stats", "/api/stream", "/api/stream?namespace=another"):
            assert (await http.get(path, headers=bearer)).status_code == 403
        async with http.stream("GET", f"/api/stream?namespace={kube_namespace}", headers=bearer) as stream:
            assert stream.status_code == 200
        assert (await http.get(f"/jobs/{mine}", headers=bearer)).status_code == 200
        assert (await http.get(f"/jobs/{foreign}", headers=bearer)).status_code == 404
        assert (await http.get(f"/api/jobs/{foreign}", headers=bearer)).status_code == 404
        page = await http.get(f"/jobs/{mine}", headers={**bearer, **HTML})
        assert "/cancel" not in page.text
        for action in ("cancel", "suspend", "retry"):
            assert (await http.post(f"/jobs/{mine}/{action}", headers=bearer)).status_code == 403
        refused = await http.post("/submit", headers=bearer, data={"handler": "demo", "namespace": kube_namespace})
        assert (refused.status_code, "may not create" in refused.text) == (403, True)


async def test_signing_in_and_out(start: Start, kube_namespace: str, token: Callable[..., str]) -> None:
    secret = token("admin", "get", "list", "watch", everywhere=True)
    async with start() as http:
        refused = await http.post("/login", data={"token": "wrong"}, headers={**SAME_SITE, **HTML})
        assert (refused.status_code, "does not accept" in refused.text) == (401, True)
        for target, expected in (("/jobs", "/jobs"), ("//evil.example", "/"), ("https://evil.example", "/")):
            answer = await http.post("/login", data={"token": secret, "next": target}, headers=SAME_SITE)
            assert (answer.status_code, answer.headers["location"]) == (303, expected)
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert "Secure" not in cookie
        page = await http.get("/", headers=HTML)
        assert page.status_code == 200
        assert f"system:serviceaccount:{kube_namespace}:admin" in page.text
        encrypted = {**SAME_SITE, "X-Forwarded-Proto": "https"}
        answer = await http.post("/login", data={"token": secret}, headers=encrypted)
        assert answer.headers["set-cookie"].startswith("__Host-joblease-session=")
        assert "; Secure" in answer.headers["set-cookie"]
        assert (await http.post("/logout", headers={"Origin": str(http.base_url).rstrip("/")})).status_code == 303
        assert (await http.get("/api/jobs")).status_code == 401


async def test_a_session_ends_with_its_token_and_at_sign_out_everywhere(
    start: Start, kube_namespace: str, token: Callable[..., str], crd: Path, jobs: Jobs
) -> None:
    """A stolen cookie is worth nothing afterwards; the table holds no token and no id that could be read."""
    secret, key = token("anna", "list", everywhere=True), "k" * 32
    async with start(JOBLEASE_DASHBOARD_SESSION_KEY=key) as one, start(JOBLEASE_DASHBOARD_SESSION_KEY=key) as other:
        await one.post("/login", data={"token": secret}, headers=SAME_SITE)
        stolen = {"Cookie": f"joblease-session={one.cookies['joblease-session']}"}
        assert (await other.get("/api/jobs", headers=stolen)).status_code == 200
        kept = await sessions(jobs)
        assert hashlib.sha256(one.cookies["joblease-session"].encode()).hexdigest() in kept
        assert secret not in str(kept)
        assert one.cookies["joblease-session"] not in str(kept)
        assert (await one.post("/logout", headers=SAME_SITE)).status_code == 303
        assert len(await sessions(jobs)) == len(kept) - 1
        assert (await one.get("/api/jobs", headers=stolen)).status_code == 401
        async with asyncio.timeout(60):
            while (await other.get("/api/jobs", headers=stolen)).status_code != 401:
                await asyncio.sleep(1)

        await one.post("/login", data={"token": secret}, headers=SAME_SITE)
        assert (await one.get("/api/jobs")).status_code == 200
        await asyncio.to_thread(
            client.CoreV1Api(config.new_client_from_config(str(crd))).delete_namespaced_service_account,
            "anna", kube_namespace,
        )  # fmt: skip
        async with asyncio.timeout(60):
            while (await one.get("/api/jobs")).status_code != 401:
                await asyncio.sleep(1)
        assert len(await sessions(jobs)) == len(kept) - 1


async def sessions(jobs: Jobs) -> dict[str, Any]:
    """All sessions in the table, by their names."""
    return {row["PartitionKey"]: dict(row) async for row in jobs.storage.table(SESSIONS_TABLE).list_entities()}


async def test_what_somebody_does_is_done_with_their_own_token(
    jobs: Jobs,
    start: Start,
    kube_namespace: str,
    token: Callable[..., str],
    crd: Path,
    api_server: ControlPlane,
    tmp_path: Path,
) -> None:
    """An account without any right is enough for the dashboard."""
    secret = token("anna", "get", "list", "watch", "create", "patch")
    token("powerless")
    own = tmp_path / "powerless.kubeconfig"
    api_server.service_account_kubeconfig(kube_namespace, "powerless", own)
    bearer = {"Authorization": f"Bearer {secret}", **SAME_SITE}
    async with start(KUBECONFIG=str(own)) as http:
        form = {"handler": "demo", "namespace": kube_namespace, "name": "annas"}
        made = await http.post("/submit", headers=bearer, data=form)
        assert made.status_code == 200, made.text
        job_id = made.json()["jobId"]
        head = Head(job_id, kube_namespace, "annas", "demo", "default", "default", now())
        await jobs.trail.append(head, [NewEvent("Submitted", state=State.SUBMITTED, data={"handler": "demo"})])
        cancelled = await http.post(f"/jobs/{job_id}/cancel", headers=bearer)
        assert cancelled.status_code == 200, cancelled.text
        assert (await http.get(f"/jobs?namespace={kube_namespace}", headers=bearer)).status_code == 200
    found = await asyncio.to_thread(Cluster(crd, kube_namespace).get, "annas")
    assert found["spec"]["cancel"] is True
    assert found["metadata"]["annotations"]["joblease.dev/requested-by"].endswith(":anna")


async def test_names_are_checked_before_anything_is_remembered_of_them(start: Start, token: Callable[..., str]) -> None:
    bearer = {"Authorization": f"Bearer {token('anna', 'list')}"}
    async with start() as http:
        for name in ("x" * 250_000, "Upper", "a.b", "-", "a/../b"):
            for answer in (
                await http.post("/submit", headers=bearer, data={"namespace": name, "handler": "demo"}),
                await http.get("/api/jobs", headers=bearer, params={"namespace": name[:1000]}),
            ):
                assert (answer.status_code, answer.json()["title"]) == (400, "Bad namespace"), name[:10]


async def test_every_answer_says_what_browsers_and_proxies_must_know(start: Start) -> None:
    async with start() as http:
        refused = await http.get("/api/jobs", headers={"X-Forwarded-Proto": "https,http"})
        assert refused.headers["www-authenticate"] == "Bearer"
        assert refused.headers["cache-control"] == "no-store"
        assert "max-age" in refused.headers["strict-transport-security"]
        assert "strict-transport-security" not in (await http.get("/api/jobs")).headers
        for _ in range(12):
            late = await http.post("/login", data={"token": "guess"}, headers=SAME_SITE)
        assert (late.status_code, int(late.headers["retry-after"]) > 0) == (429, True)
        for path in ("/metrics", "/readyz", "/healthz"):
            assert (await http.get(path)).status_code == 401
        tricked = await http.get("/api/jobs", headers={"Host": "x/static/?"})
        assert tricked.status_code in (400, 401)


async def test_secrets_are_in_no_page_and_in_no_log(
    jobs: Jobs,
    start: Start,
    kube_namespace: str,
    token: Callable[..., str],
    amqp_url: str,
    storage: str,
    tmp_path: Path,
) -> None:
    """Tokens, the session key, the broker's password and the storage key; at the most talkative log level."""
    job_id = await a_job(jobs, kube_namespace)
    secret, key = token("admin", "get", "list", "watch", "create", "patch", everywhere=True), "k" * 20 + "-session-key"
    account_key = next(part for part in storage.split(";") if part.startswith("AccountKey=")).partition("=")[2]
    secrets = {"token": secret, "wrong": "a-wrong-token", "session": key, "storage": account_key}
    texts: list[str] = []
    async with start(JOBLEASE_LOG_LEVEL="DEBUG", JOBLEASE_DASHBOARD_SESSION_KEY=key) as http:
        for each in (secret, secrets["wrong"]):
            answer = await http.post("/login", data={"token": each}, headers={**SAME_SITE, **HTML})
            texts += [answer.text, str(answer.headers)]
            await http.get("/api/jobs", headers={"Authorization": f"Bearer {each}"})
        secrets["cookie"] = http.cookies["joblease-session"]
        for path in every_route(job_id):
            if path != "/api/stream":
                texts.append((await http.get(path, headers=HTML)).text)
        texts[0] = texts[1] = ""  # the answer that brings the cookie may hold it
    log = (tmp_path / "dashboard.log").read_text()
    assert "joblease" in log
    password = urlsplit(amqp_url).password or ""
    for name, value in secrets.items():
        assert value not in log, name
        assert not [text for text in texts if value in text], name
    assert f":{password}@" not in log + "".join(texts)


async def test_guessing_tokens_and_asking_too_often_is_slowed_down(start: Start) -> None:
    async with start(JOBLEASE_DASHBOARD_REQUESTS_PER_SECOND="1") as http:
        codes = [
            (await http.post("/login", data={"token": f"guess-{n}"}, headers=SAME_SITE)).status_code for n in range(12)
        ]
        assert codes == [401] * 10 + [429] * 2
        assert 429 in [(await http.get("/api/jobs")).status_code for _ in range(12)]


async def test_the_api_server_is_not_asked_about_every_token_that_somebody_makes_up(start: Start) -> None:
    async def ask(http: httpx.AsyncClient, number: int) -> int:
        return (await http.get("/api/jobs", headers={"Authorization": f"Bearer made-up-{number}"})).status_code

    async with start() as http:
        assert await ask(http, 0) == 401
        answers = Counter(await asyncio.gather(*(ask(http, number) for number in range(400))))
        assert set(answers) == {401, 429}
        assert answers[401] >= 100
        assert await ask(http, 0) == 401  # that one is known


async def test_behind_a_trusted_proxy_each_address_has_its_own_measure(start: Start) -> None:
    async def guess(http: httpx.AsyncClient, origin: str) -> int:
        headers = {**SAME_SITE, "X-Forwarded-For": origin}
        return (await http.post("/login", data={"token": "guess"}, headers=headers)).status_code

    async with start(**EVERYWHERE, JOBLEASE_DASHBOARD_TRUSTED_PROXIES='["127.0.0.0/8"]') as http:
        assert [await guess(http, "192.0.2.1") for _ in range(12)] == [401] * 10 + [429] * 2
        assert await guess(http, "192.0.2.2") == 401
        assert await guess(http, "192.0.2.2, 192.0.2.1") == 429  # what the client itself adds is not believed
    async with start() as http:
        assert [await guess(http, f"192.0.2.{n}") for n in range(12)] == [401] * 10 + [429] * 2


async def test_actions_can_be_left_out(jobs: Jobs, start: Start, kube_namespace: str) -> None:
    job_id = await a_job(jobs, kube_namespace)
    async with start(JOBLEASE_DASHBOARD_ACCESS="none", JOBLEASE_DASHBOARD_ACTIONS="false") as http:
        page = await http.get(f"/jobs/{job_id}", headers=HTML)
        assert (page.status_code, "/cancel" in page.text, "/submit" in page.text) == (200, False, False)
        for path in (f"/jobs/{job_id}/cancel", "/submit", "/queues/replay"):
            assert (await http.get(path)).status_code == 403
            assert (await http.post(path, headers=SAME_SITE)).status_code == 403


@pytest.mark.usefixtures("readers")
async def test_a_proxy_is_believed_when_it_proves_itself(start: Start, kube_namespace: str) -> None:
    path = f"/api/jobs?namespace={kube_namespace}"

    def who(user: str, groups: str = "", **more: str) -> list[tuple[bytes, bytes]]:
        named = {"X-Forwarded-User": user, "X-Forwarded-Groups": groups, **PROVEN, **more}
        return [(name.encode(), value.encode()) for name, value in named.items()]

    async with start(**PROXY) as http:

        async def ask(path: str, headers: list[tuple[bytes, bytes]]) -> int:
            return (await http.get(path, headers=headers)).status_code

        assert await ask(path, who("anna-ä")) == 200
        assert await ask("/api/jobs", who("anna-ä")) == 403
        assert await ask(path, who("carl")) == 403
        assert await ask(path, who("carl", "guests, staff")) == 200
        assert await ask("/api/jobs", who("carl", "guests, everywhere")) == 200
        for forged in (who("carl", "system:masters"), who("system:admin"), who("carl", "staff, system:masters")):
            assert await ask("/api/jobs", forged) == 403
        assert await ask(path, who("anna-ä", **{"X-Joblease-Proxy-Secret": "a guess"})) == 401
        assert await ask(path, [(b"X-Forwarded-User", b"anna")]) == 401
        mallory = [(b"X-Forwarded-User", "anna-ä".encode()), *who("carl")]  # what a browser sends comes first
        assert await ask(path, mallory) == 403
        assert await ask(path, []) == 401
    async with start(**{**PROXY, "JOBLEASE_DASHBOARD_TRUSTED_PROXIES": '["10.0.0.0/8"]'}) as http:
        spoofed = [*who("anna-ä"), (b"X-Forwarded-For", b"10.0.0.1")]
        assert (await http.get(path, headers=spoofed)).status_code == 401


async def test_without_access_control_only_this_machine_is_served(start: Start) -> None:
    async with start(JOBLEASE_DASHBOARD_ACCESS="none") as http:
        assert (await http.get("/api/jobs")).status_code == 200
        assert (await http.get("/api/jobs", headers={"Host": "rebound.example"})).status_code == 421


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"JOBLEASE_DASHBOARD_HOST": "0.0.0.0"}, "JOBLEASE_DASHBOARD_ACCESS"),
        ({"JOBLEASE_DASHBOARD_ACCESS": "proxy"}, "JOBLEASE_DASHBOARD_TRUSTED_PROXIES"),
        (
            {**PROXY, "JOBLEASE_DASHBOARD_PROXY_SECRET": ""},
            "JOBLEASE_DASHBOARD_PROXY_SECRET",
        ),
        ({"JOBLEASE_DASHBOARD_SESSION_KEY": "short"}, "JOBLEASE_DASHBOARD_SESSION_KEY"),
        ({"JOBLEASE_DASHBOARD_ACCESS": "kubernetes", "KUBECONFIG": "/nowhere"}, "JOBLEASE_DASHBOARD_ACCESS"),
    ],
)
def test_an_open_door_must_be_asked_for(environment: dict[str, str], said: str, storage: str) -> None:
    variables = {"PATH": "/usr/bin", "JOBLEASE_STORAGE_CONNECTION_STRING": storage, **environment}
    done = subprocess.run(
        [BIN / "joblease-dashboard"], env=variables, capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode != 0
    assert said in done.stderr
