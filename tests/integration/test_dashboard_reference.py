"""The page that describes the API: complete, with links that lead somewhere and examples that work."""

import html
import re
import shlex
from itertools import pairwise
from pathlib import Path

from joblease_dashboard.api.openapi import DOCUMENT
from support.attack import Dashboard


async def test_the_page_describes_everything_and_its_examples_work(dashboard: Dashboard, crd: Path) -> None:
    async with dashboard.client(dashboard.admin) as http:
        answer = await http.get("/api/docs", headers={"Accept": "text/html"})
        page = answer.text
        assert (answer.status_code, "script-src 'self'" in answer.headers["content-security-policy"]) == (200, True)
        told = re.findall(r"<h2><code>([A-Z]+) ([^<]+)</code></h2>", page)
        assert told == [(name.upper(), path) for path, methods in DOCUMENT["paths"].items() for name in methods]
        links, anchors = re.findall(r'href="#([^"]+)"', page), re.findall(r'id="([^"]+)"', page)
        assert len(links) > len(told)
        assert set(links) <= set(anchors)
        assert len(anchors) == len(set(anchors))
        assert {f"schema-{name}" for name in DOCUMENT["components"]["schemas"]} <= set(anchors)
        examples = re.findall(r"<pre[^>]*>(curl .*?)</pre>", page)
        assert len(examples) == len(told)
        for (method, path), example in zip(told, examples, strict=True):
            if path == "/api/stream":
                continue
            command = shlex.split(html.unescape(example).replace("$JOB", dashboard.mine))
            options = dict(pairwise(command))
            asks = options.get("-X", "POST" if "--json" in options else "GET")
            assert (asks, command[-1]) == (method, dashboard.url + path.replace("{jobId}", dashboard.mine))
            assert options["-H"] == "Authorization: Bearer $TOKEN"
            sent = {"content": options["--json"].encode()} if "--json" in options else {}
            headers = {"Content-Type": "application/json"} if sent else {}
            answer = await http.request(asks, command[-1], headers=headers, **sent)  # type: ignore[arg-type]
            assert answer.status_code < 500, answer.text
            assert answer.status_code not in (400, 405, 415), answer.text
            if "$JOB" not in example:
                assert answer.status_code in (200, 201), answer.text


async def test_whoever_is_not_signed_in_is_sent_to_do_so(dashboard: Dashboard) -> None:
    async with dashboard.client() as http:
        answer = await http.get("/api/docs", headers={"Accept": "text/html"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=%2Fapi%2Fdocs")
        assert (await http.get("/api/docs")).status_code == 401
