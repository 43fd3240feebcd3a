"""Impostors: identities and sessions that are somebody else's or nobody's, and what pages make of what people type."""

import asyncio
import base64
import json
import re
import secrets
from html.parser import HTMLParser
from pathlib import Path

import httpx
from joblease_local.control_plane import ControlPlane
from support.accounts import account
from support.attack import Dashboard, somewhere
from support.attacked import EVIL
from support.pages import addresses, without_form
from support.programs import program

SAME = {"Sec-Fetch-Site": "same-origin"}
HTML = {"Accept": "text/html"}
OWN_HEADERS = ("content-security-policy", "x-content-type-options", "referrer-policy", "cache-control")


async def test_forged_identities(dashboard: Dashboard) -> None:
    """Nobody becomes somebody by saying so."""
    names = ("X-Forwarded-User", "X-Forwarded-Groups", "Impersonate-User", "Impersonate-Group", "X-Remote-User",
             "X-Remote-Group", "X-Joblease-Proxy-Secret", "X-Forwarded-Email", "Remote-User")  # fmt: skip
    claims = [(name, value) for name in names for value in ("admin", "system:masters")]
    token = dashboard.mallory
    header, payload, signature = token.split(".")
    claim = json.loads(base64.urlsafe_b64decode(payload + "==="))
    forged = base64.urlsafe_b64encode(json.dumps({**claim, "sub": "admin"}).encode()).decode().rstrip("=")
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
    for_nobody = (
        "", "Bearer", "Bearer x", f"bearer {token[:-8]}", f"Bearer {header}.{forged}.{signature}", f"Bearer {token} x",
        f"Bearer {none}.{payload}.", f"Token {token}", f"Basic {token}", f"Bearer,{token}", f"Negotiate {token}", token,
        "Bearer null", "Bearer undefined", "Digest username=admin",
    )  # fmt: skip
    async with dashboard.client(headers=dict(claims)) as http:
        for words in for_nobody:
            answer = await http.get("/api/jobs", headers={"Authorization": words})
            assert answer.status_code == 401, (words, answer.text)
        for cookie in (
            "joblease-session=x; __Host-joblease-session=y", f"joblease-session={token}", "joblease-session=",
            f"__Host-joblease-session={secrets.token_urlsafe(32)}", 'joblease-session="\\000\\377"', ";;;=;",
        ):  # fmt: skip
            for scheme in ("http", "https"):
                answer = await http.get("/api/jobs", headers={"Cookie": cookie, "X-Forwarded-Proto": scheme})
                assert answer.status_code == 401, cookie
        two = [("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {dashboard.admin}")]
        for pair in (two, [*two[:1], ("Cookie", "joblease-session=x")], [*two[:1], *claims]):
            assert (await http.get("/api/stats", headers=pair)).status_code == 403  # a viewer's, not the admin's
        page = await http.get(f"/jobs?namespace={dashboard.own}", headers={"Authorization": f"Bearer {token}", **HTML})
        assert claim["sub"] in page.text


async def test_tokens_that_are_not_for_this(dashboard: Dashboard, api_server: ControlPlane, crd: Path) -> None:
    """One for somebody else, or one whose account is gone."""
    from kubernetes import client, config

    core = client.CoreV1Api(config.new_client_from_config(str(crd)))
    core.create_namespaced_service_account(dashboard.own, {"metadata": {"name": "borrowed"}})
    asked = {"spec": {"audiences": ["somebody-else"]}}
    other = core.create_namespaced_service_account_token("borrowed", dashboard.own, asked).status.token
    gone = core.create_namespaced_service_account_token("borrowed", dashboard.own, {"spec": {}}).status.token
    core.delete_namespaced_service_account("borrowed", dashboard.own)
    async with dashboard.client(headers=SAME) as http:
        for token in (other, gone):
            bearer = {"Authorization": f"Bearer {token}"}
            assert (await http.get("/api/jobs", headers=bearer)).status_code == 401
            assert (await http.post("/login", data={"token": token}, headers=somewhere())).status_code == 401


async def test_a_session_of_the_attackers_choosing(dashboard: Dashboard) -> None:
    """Signing in makes a new session, whatever cookie there was; and the old one is nobody's."""
    chosen = secrets.token_urlsafe(32)
    async with dashboard.client(headers={**SAME, "Cookie": f"joblease-session={chosen}"}) as http:
        answer = await http.post("/login", data={"token": dashboard.citizen}, headers=somewhere())
        assert answer.status_code == 303
        given = answer.cookies["joblease-session"]
        assert given != chosen
        http.cookies.clear()
        assert (await http.get("/api/jobs", headers={"Cookie": f"joblease-session={chosen}"})).status_code == 401
        for cut in (given[:-1], given + "x", given.swapcase()):
            assert (await http.get("/api/jobs", headers={"Cookie": f"joblease-session={cut}"})).status_code == 401


async def test_nobody_is_sent_elsewhere(dashboard: Dashboard) -> None:
    """Nor does anything that somebody typed become a header."""
    targets = (
        "//evil.example", "\\\\evil.example", "/\\evil.example", "/\t/evil.example", "/\n/evil.example",
        "/%2f%2fevil.example/..", "%2f%2fevil.example", "javascript:alert(1)", "https:evil.example", "/x\r\nX-Evil: 1",
        "\t//evil.example",
        "http://evil.example", "///evil.example", " //evil.example", "/\u2028/evil.example", "/@evil.example", "data:x",
    )  # fmt: skip
    async with dashboard.client(headers=SAME) as http:
        for target in targets:
            http.cookies.clear()
            form = {"token": dashboard.citizen, "next": target}
            answer = await http.post("/login", data=form, headers={"Host": "evil.example", **somewhere()})
            location = answer.headers["location"]
            goes = httpx.URL("http://here.example/").join(re.sub(r"[\t\r\n]", "", location).replace("\\", "/"))
            assert (answer.status_code, goes.host, "x-evil" in answer.headers) == (303, "here.example", False), target
        bearer = {"Authorization": f"Bearer {dashboard.mallory}", "Host": "evil.example", **HTML}
        for path in ("/jobs/", "/static", "/api/jobs/", f"/jobs/{dashboard.mine}/", "/jobs?name=%0d%0aX-Evil:1"):
            answer = await http.get(path, headers=bearer)
            assert "evil.example" not in str(answer.headers), path
            assert "x-evil" not in answer.headers


async def test_every_answer_protects_itself(dashboard: Dashboard) -> None:
    """Also errors, redirects and what a method does not exist for; and no page stays in a browser's cache."""
    paths = (
        *addresses(dashboard.mine),
        "/nothing",
        "/api/nothing",
        "/openapi.json",
        "/api/requests",
        "/static/nothing",
    )
    async with dashboard.client() as http:
        for path in paths:
            for token in ("", dashboard.admin):
                for method in ("GET", "POST", "TRACE"):
                    for accept in ("text/html", "*/*"):
                        headers = (
                            {"Authorization": f"Bearer {token}", "Accept": accept} if token else {"Accept": accept}
                        )
                        answer = await http.request(method, path, headers=headers)
                        assert answer.status_code < 500, (method, path)
                        assert not [name for name in OWN_HEADERS if name not in answer.headers], (method, path)
                        assert "access-control-allow-origin" not in answer.headers
                        if not path.startswith("/static"):
                            assert answer.headers["cache-control"] == "no-store", (method, path)


class Seen(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.bad: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name.startswith("on") or (
                name in ("href", "src", "action") and not (value or "").startswith(("/", "?", "#"))
            ):
                self.bad.append(f"<{tag} {name}={value}>")
        if tag in ("iframe", "object", "embed", "base") or (tag == "script" and not dict(attrs).get("src")):
            self.bad.append(tag)


async def test_nothing_that_people_type_becomes_markup(dashboard: Dashboard) -> None:
    """Names, handlers, groups, queues, parameters, messages, errors, workers, and what a query has in it."""
    evil = {"name": EVIL, "handler": EVIL, "group": EVIL, "state": EVIL, "window": EVIL, "next": EVIL, EVIL: EVIL}
    shown = 0
    async with dashboard.client(dashboard.admin, headers=HTML) as http, asyncio.timeout(60):
        while "&lt;script&gt;" not in (await http.get("/jobs")).text:
            await asyncio.sleep(0.1)
        queries = [{}, evil, {"namespace": EVIL}, {"copy": dashboard.mine}, *({name: EVIL} for name in evil)]
        for path in (*without_form(dashboard.mine), f"/jobs/{dashboard.mine}/retry", "/submit", "/login", f"/{EVIL}"):
            for query in queries:
                answer = await http.get(path, params=query)
                page = Seen()
                page.feed(answer.text)
                assert page.bad == [], (path, query)
                shown += "&lt;script&gt;" in answer.text
    assert shown > 10


async def test_after_the_end_of_a_session(
    dashboard: Dashboard, api_server: ControlPlane, crd: Path, tmp_path: Path
) -> None:
    """Its cookie is worth nothing, at any replica, and its streams end; so do those of somebody who lost the right."""
    from kubernetes import client, config

    revoked = account(api_server, tmp_path, dashboard.own, "revoked", ("get", "list", "watch"))
    path = f"/api/stream?namespace={dashboard.own}"

    async def lasts(http: httpx.AsyncClient, opened: asyncio.Event, headers: dict[str, str]) -> None:
        async with http.stream("GET", path, headers=headers) as stream:
            assert stream.status_code == 200
            async for _ in stream.aiter_bytes():
                opened.set()

    async with (
        program("joblease-dashboard", dashboard.variables, tmp_path / "log") as second,
        dashboard.client(headers=SAME) as one,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{second.port}", timeout=20) as other,
    ):
        answer = await one.post("/login", data={"token": dashboard.citizen}, headers=somewhere())
        cookie = {"Cookie": f"joblease-session={answer.cookies['joblease-session']}"}
        opened = [asyncio.Event() for _ in range(3)]
        streams = [
            asyncio.create_task(lasts(one, opened[0], cookie)),
            asyncio.create_task(lasts(other, opened[1], cookie)),
            asyncio.create_task(lasts(other, opened[2], {"Authorization": f"Bearer {revoked}"})),
        ]
        try:
            await asyncio.wait_for(asyncio.gather(*(each.wait() for each in opened)), 30)
            rbac = client.RbacAuthorizationV1Api(config.new_client_from_config(str(crd)))
            rbac.delete_namespaced_role_binding(f"{dashboard.own}-revoked", dashboard.own)
            assert (await one.post("/logout", headers=cookie)).status_code == 303
            assert (await one.get("/api/jobs", headers=cookie)).status_code == 401
            await asyncio.wait_for(streams[0], 10)
            await asyncio.wait_for(asyncio.gather(*streams), 30)
            for http in (one, other):
                page = await http.get(f"/jobs?namespace={dashboard.own}", headers={**cookie, **HTML})
                assert page.headers["location"].startswith("/login")
        finally:
            for each in streams:
                each.cancel()
