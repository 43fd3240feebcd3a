"""The page that describes the API: complete, with links that lead somewhere and examples that work."""

import asyncio
import html
import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
from joblease.messages import HandlerDescription, WorkerReport, now
from joblease.topology import DEAD, REASON_HEADER, WORKERS
from joblease_dashboard.api.openapi import DOCUMENT
from support.attack import Dashboard


async def test_the_page_describes_everything_and_its_examples_work(dashboard: Dashboard, crd: Path) -> None:
    async with dashboard.client(dashboard.admin) as http:
        answer = await http.get("/api/docs", headers={"Accept": "text/html"})
        page = answer.text
        assert (answer.status_code, "script-src 'self'" in answer.headers["content-security-policy"]) == (200, True)
        told = re.findall(r"<summary><code>([A-Z]+) ([^<]+)</code>", page)
        assert told == [(name.upper(), path) for path, methods in DOCUMENT["paths"].items() for name in methods]
        links, anchors = re.findall(r'href="#([^"]+)"', page), re.findall(r'id="([^"]+)"', page)
        assert len(links) > 20
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
            # In a namespace that no other test submits the examples to, whose ids would meet these.
            body = options.get("--json", "").replace('"default"', f'"{dashboard.own}"')
            sent = {"content": body.encode()} if body else {}
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


async def test_the_installation_is_told_as_described_to_those_who_may_see_all(dashboard: Dashboard) -> None:
    report = WorkerReport(
        worker="w", queue=dashboard.own, concurrency=2, lease_seconds=60, period_seconds=10, started_at=now(),
        timestamp=now(), jobs=[dashboard.mine], handlers=[HandlerDescription(name="h", parameters={"type": "object"})],
    )  # fmt: skip
    broker = dashboard.jobs.broker
    await broker.publish(WORKERS, "", report.encode(), message_id="report")
    await broker.publish("", DEAD, b"nothing", message_id="junk", headers={REASON_HEADER: "because"})
    async with dashboard.client(dashboard.admin) as http:

        async def told(name: str, path: str) -> list[Any]:
            answer = await http.get(path)
            content = DOCUMENT["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]
            schema = {**content["schema"], "components": DOCUMENT["components"]}
            jsonschema.validate(answer.json(), schema)
            return list(answer.json()[name])

        async with asyncio.timeout(10):
            while not (workers := await told("workers", "/api/workers")):
                await asyncio.sleep(0.1)
        assert workers[0].items() >= {"worker": "w", "state": "serving", "jobs": [dashboard.mine]}.items()
        queues = {each["queue"]: each for each in await told("queues", "/api/queues")}
        assert (queues[DEAD]["ready"], f"joblease.jobs.{dashboard.own}" in queues) == (1, True)
        (letter,) = await told("deadLetters", "/api/dead-letters")
        assert (letter["reason"], letter["body"], letter["runs"]) == ("because", "nothing", False)
    async with dashboard.client(dashboard.citizen) as http:
        for path in ("/api/workers", "/api/queues", "/api/dead-letters"):
            assert (await http.get(path)).status_code == 403
