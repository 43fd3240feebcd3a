"""Requests that lie: about their length, their origin, whom they come from, and what they have others look at."""

import asyncio
import base64
import gzip
import json
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from html.parser import HTMLParser
from pathlib import Path

import httpx
from joblease_local.control_plane import ControlPlane
from support.attack import Dashboard, account, status_of
from support.attacked import EVIL
from support.pages import addresses, without_form
from support.programs import program

HOST = b"Host: 127.0.0.1\r\n"
HEAD = b" HTTP/1.1\r\n" + HOST
END = b"Connection: close\r\n\r\n"
SAME = {"Sec-Fetch-Site": "same-origin"}
HTML = {"Accept": "text/html"}
OWN_HEADERS = ("content-security-policy", "x-content-type-options", "referrer-policy", "cache-control")


def somewhere() -> dict[str, str]:
    """A header with an address of its own: sign-ins are counted for each."""
    return {"X-Forwarded-For": f"2001:db8:{secrets.token_hex(2)}:{secrets.token_hex(2)}::1"}


def framed(dashboard: Dashboard) -> Iterator[tuple[bytes, set[int]]]:
    """Requests whose framing is wrong or strange, and what may be answered: 0 is nothing."""
    token = f"Authorization: Bearer {dashboard.mallory}\r\n".encode()
    ask, form = b"GET /api/jobs" + HEAD + token, b"POST /submit" + HEAD + token
    chunks = b"Transfer-Encoding: chunked\r\n"
    yield form + b"Content-Length: 5\r\n" + chunks + b"\r\n0\r\n\r\nGET /smuggled" + HEAD + b"\r\n", {400}
    yield form + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nxxxxx", {400}
    for length in (b"-1", b"+5", b"5, 6", b"0x5", b"9" * 5_000, b"", b"1e3", b"\xb2"):
        yield form + b"Content-Length: " + length + b"\r\n\r\nxxxxx", {400}
    for coding in (
        b"chunked, identity",
        b"gzip, chunked",
        b"xchunked",
        b"chunked\x0b",
        b"identity",
        b"chunked, chunked",
    ):
        yield form + b"Transfer-Encoding: " + coding + b"\r\n\r\n5\r\nxxxxx\r\n0\r\n\r\n", {400, 501}
    for size in (b"-1", b"fffffffffffffffffffff", b"5;" + b"x" * 70_000, b"0x5", b"", b"\n", b"g"):
        yield form + chunks + b"\r\n" + size + b"\r\nxxxxx\r\n0\r\n\r\n", {0, 400}
    yield form + chunks + b"\r\n5\r\nxxxxxxxxx\r\n0\r\n\r\n", {0, 400}
    yield form + chunks + b"\r\n0\r\n" + b"Trailer: x\r\n" * 10_000 + b"\r\n", {0, 400, 403}
    yield ask + b"Content-Length : 5\r\n\r\n", {400}
    yield ask + b" folded: x\r\n\r\n", {400, 401}
    yield ask + b"X: a\x00b\r\n\r\n", {400}
    yield ask + b"X: a\rY: b\r\n\r\n", {400}
    yield ask + b"X: " + b"x" * 100_000 + b"\r\n\r\n", {0, 400, 403}
    yield ask + b"X: x\r\n" * 20_000 + b"\r\n", {0, 400, 403}
    yield ask + b"Cookie: " + b"a=b; " * 5_000 + END, {200, 400, 403}
    yield ask + HOST + END, {400, 403}
    yield b"GET /api/jobs HTTP/1.1\r\n\r\n", {400}
    yield b"GET /api/jobs\r\n", {0, 400}
    yield b"GET /api/jobs HTTP/0.9\r\n" + END, {400, 401}
    yield b"GET /api/jobs HTTP/9.9\r\n" + END, {400, 401, 505}
    yield b"GET /api/jobs HTTP/1.0\r\n" + token + b"\r\n", {403}
    yield b"GET /" + b"a" * 100_000 + HEAD + END, {400, 401}
    yield b"GET /?" + b"a=b&" * 6_000 + HEAD + token + END, {400}
    yield b"GET http://evil.example/api/jobs" + HEAD + token + END, {404}
    yield b"GET //evil.example/%2e%2e" + HEAD + token + END, {404}
    for method in (b"TRACE", b"PUT", b"DELETE", b"PATCH", b"FOO"):
        yield method + b" /api/jobs" + HEAD + token + END, {405}
    yield b"OPTIONS *" + HEAD + token + END, {404}
    yield b"CONNECT evil.example:443" + HEAD + token + END, {404}
    yield b"PRI * HTTP/2.0\r\n\r\n", {400, 403}
    yield b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 50 + b"\r\n\r\n", {400}
    yield b"\r\n" * 30_000, {0, 400}
    yield (
        ask + b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: eA==\r\n\r\n" + b"\x81\x05hello",
        {403},
    )
    yield b"GET /api/jobs?namespace=%" + HEAD + token + END, {400}
    yield b"GET /jobs/%ff%c0%af%ed%a0%80%00%e2%80%a8" + HEAD + token + END, {404}


async def test_wrong_framing(dashboard: Dashboard) -> None:
    """Each is answered with one refusal at most: nobody takes what is inside for a request of somebody else."""
    wrong: dict[bytes, bytes] = {}  # the ends of what was sent, and the beginnings of what came

    async def attempt(sent: bytes, expected: set[int]) -> None:
        got = await dashboard.raw(sent, timeout=2)
        answers = got.count(b"HTTP/1.1 ")
        safe = not got or all(name in got.lower() for name in (b"content-security-policy", b"nosniff", b"no-store"))
        if status_of(got) not in expected or answers > 1 or not safe or b"evil" in got.partition(b"\r\n\r\n")[0]:
            wrong[sent.replace(dashboard.mallory.encode(), b"")[-60:]] = got[:12]

    async with dashboard.serves_citizens():
        await asyncio.gather(*(attempt(*each) for each in framed(dashboard)))
    assert wrong == {}


def forms(dashboard: Dashboard) -> Iterator[tuple[bytes, dict[str, str]]]:
    """Bodies for `/submit` that describe no job."""
    own = f"handler=noop&namespace={dashboard.own}&".encode()
    deep = b"[" * 100_000 + b"]" * 100_000
    for text in (deep, b'{"a":' * 30_000 + b"1" + b"}" * 30_000, b"9" * 240_000, b"[%s]" % (b"1," * 50_000)):
        yield own + b"json.x=" + text, {}
        yield own + b"parameters=" + text, {}
    for text in (b"1e999999", b"-Infinity", b"NaN", b'"\\ud800"', b'{"\\ud800": 1}', b'"\\u0000"', b'"%ff"'):
        yield own + b"json.x=" + text, {}
        yield own + b'parameters={"a": ' + text + b"}", {}
    for name in (b"%ED%A0%80", b"%00", b"%E2%80%A8", b"%C0%AF", b"../..", b"%0d%0aX:y", b"x" * 100_000):
        yield own + b"name=" + name, {}
        yield b"handler=noop&namespace=" + name, {}
        yield own + name + b"=1", {}
    for when in (b"2026-11-27T12:00:00%2B99:99", b"9999-12-31T23:59:59-23:59", b"0000-00-00T00:00:00Z", b"now"):
        yield own + b"startAfter=" + when, {}
    yield own + b"priority=" + b"9" * 5_000, {}
    yield b"&" * 200_000, {}
    yield b"a=b&" * 50_000, {}
    yield b"\xff\xfe" * 1_000, {}
    yield gzip.compress(b"a" * 100_000_000), {"Content-Encoding": "gzip"}
    part = b'--x\r\nContent-Disposition: form-data; name="handler"\r\n\r\nnoop\r\n'
    yield part * 1_000 + b"--x--", {"Content-Type": "multipart/form-data; boundary=x"}
    yield json.dumps({"handler": "noop"}).encode(), {"Content-Type": "application/json"}


async def test_forms_that_are_none(dashboard: Dashboard) -> None:
    """Nothing of them fails, whether it is refused or, what some of them are, a job."""
    async with dashboard.serves_citizens(), dashboard.client(dashboard.mallory, headers=SAME) as http:

        async def send(body: bytes, headers: dict[str, str], accept: str) -> None:
            kind = {"Content-Type": "application/x-www-form-urlencoded", "Accept": accept, **headers}
            answer = await http.post("/submit", content=body, headers=kind)
            ill = (body[:100], len(body), answer.status_code, answer.text[:300])
            assert answer.status_code in (200, 303, 400, 403, 413, 422), ill
            if len(body) > 200_000 or b"\xff" in body:
                assert answer.status_code in (400, 413), ill

        await asyncio.gather(*(send(*form, accept) for form in forms(dashboard) for accept in ("*/*", "text/html")))
        for token in ("a\r\nImpersonate-User: admin", "x" * 20_000, "\0", "\u2028", "é", " "):
            answer = await http.post("/login", data={"token": token}, headers=somewhere())
            assert answer.status_code == 401, (token[:20], answer.text)


async def test_queries_that_make_no_sense(dashboard: Dashboard) -> None:
    """Each is refused or answered; none fails."""
    deep = base64.urlsafe_b64encode(b"[" * 15_000).decode()
    surrogate = base64.urlsafe_b64encode(
        b'[2, "000001", null, {"PartitionKey": "\\ud800", "RowKey": "\\u0000"}]'
    ).decode()
    values = (
        "-1", "0", "99999999999999999999", "1e9", "\u0661", deep, surrogate, secrets.token_urlsafe(200), "\0", "\u2028",
        "2026-11-27T12:00:00+99:99", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "' or 1 eq 1 or '", EVIL,
    )  # fmt: skip
    names = ("page_size", "page_token", "name", "handler", "group", "state", "status", "from", "to", "after", "limit",
             "window", "before", "lastEventId", "jobId", "copy", "next", "message", "namespace")  # fmt: skip
    paths = [
        *without_form(dashboard.mine),
        "/submit",
        "/api/events",
        "/api/requests",
        f"/api/jobs/{dashboard.mine}",
        "/api/stats",
    ]
    async with dashboard.serves_citizens(), dashboard.client(dashboard.admin, headers=HTML) as http:
        for path in paths:
            for at, value in enumerate(values):
                for name in (names[at % len(names)], "page_token", "page_size")[: 3 if "/api" in path else 1]:
                    answer = await http.get(path, params=[(name, value), (name, "1"), ("namespace", dashboard.own)])
                    assert answer.status_code < 500, (path, name, value[:50], answer.text[:300])
        for value in (*values, "0", "1", "-2"):
            headers = {b"Last-Event-ID": value.encode()[:10_000]} if "\0" not in value else {}
            query = {"namespace": dashboard.own, "lastEventId": value}
            async with http.stream("GET", "/api/stream", params=query, headers=headers) as stream:
                assert stream.status_code == 200
                said = [line async for line in _first(stream)]
            assert any("missed" in line for line in said), value


async def _first(stream: httpx.Response) -> AsyncIterator[str]:
    async for line in stream.aiter_lines():
        yield line
        if line.startswith(("data:", ": alive")):
            return


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

    revoked = account(api_server, crd, dashboard.own, ("get", "list", "watch"), tmp_path)
    name = json.loads(base64.urlsafe_b64decode(revoked.split(".")[1] + "==="))["sub"].rpartition(":")[2]
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
            rbac.delete_namespaced_role_binding(name, dashboard.own)
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
