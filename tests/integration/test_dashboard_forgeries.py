"""Requests that lie about their length, and forms and queries that make no sense."""

import asyncio
import base64
import gzip
import json
import secrets
from collections.abc import AsyncIterator, Iterator

import httpx
from support.attack import Dashboard, somewhere, status_of
from support.attacked import EVIL
from support.pages import without_form

HOST = b"Host: 127.0.0.1\r\n"
HEAD = b" HTTP/1.1\r\n" + HOST
END = b"Connection: close\r\n\r\n"
SAME = {"Sec-Fetch-Site": "same-origin"}
HTML = {"Accept": "text/html"}


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
