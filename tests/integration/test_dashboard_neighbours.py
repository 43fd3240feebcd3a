"""Somebody who may do everything in one namespace, and tries everything to learn of another one.

`test_tenants` looks at what is said to them; here they ask for more than that.
"""

import base64
import contextlib
import itertools
import re
import statistics
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

from joblease.messages import now
from joblease.states import State
from joblease_dashboard.actions.kinds import ACTIONS
from joblease_dashboard.api.history import REFUSAL_SECONDS
from support.attack import Dashboard
from support.attacked import HUSH
from support.history import History
from support.pages import OF_A_NAMESPACE, OF_ALL_NAMESPACES

FOREIGN_JOB = f"{HUSH}-job"
SAME = {"Sec-Fetch-Site": "same-origin"}
LISTS = ("/api/jobs", "/api/events", "/api/requests", *OF_A_NAMESPACE)
SLACK = 0.05
"""Seconds by which answers differ anyhow."""


def about(job_id: str) -> Iterator[tuple[str, str]]:
    """All requests about a job: their methods and paths."""
    for accept in ("*/*", "text/html"):
        yield accept, f"GET /api/jobs/{job_id}"
        yield accept, f"GET /api/jobs/{job_id}?after=1&limit=5"
        yield accept, f"HEAD /api/jobs/{job_id}"
        yield accept, f"GET /jobs/{job_id}"
        yield accept, f"GET /jobs/{job_id}?before=3"
        yield accept, f"GET /submit?copy={job_id}"
        yield accept, f"GET /jobs?name={job_id}"
        for action in (*ACTIONS, "nonsense"):
            yield accept, f"GET /jobs/{job_id}/{action}"
            yield accept, f"POST /jobs/{job_id}/{action}"


async def test_a_job_of_others_is_like_none(dashboard: Dashboard) -> None:
    """In status, words and headers."""
    unknown = str(uuid4())
    async with dashboard.client(dashboard.mallory, headers=SAME) as http:
        for (accept, foreign), (_, none) in zip(about(dashboard.foreign), about(unknown), strict=True):
            said = []
            for line, job_id in ((foreign, dashboard.foreign), (none, unknown)):
                method, path = line.split(" ", 1)
                answer = await http.request(method, path, headers={"Accept": accept})
                headers = {name: value for name, value in answer.headers.items() if name != "date"}
                text = re.sub(r"lastEventId=[^&\"]+", "", answer.text)  # sealed, another one each time
                said.append((answer.status_code, text.replace(job_id, "ID"), str(headers).replace(job_id, "ID")))
            said = [(status, text, re.sub(r"'content-length': '\d+'", "", headers)) for status, text, headers in said]
            assert said[0] == said[1], foreign


async def test_a_job_of_others_takes_as_long_as_none(dashboard: Dashboard) -> None:
    """Although storage and the API server are asked about it."""
    taken: dict[bool, list[float]] = {True: [], False: []}
    async with dashboard.client(dashboard.mallory) as http:
        await http.get("/login")
        for _, there in itertools.product(range(12), (True, False)):
            began = time.monotonic()
            answer = await http.get(f"/api/jobs/{dashboard.foreign if there else uuid4()}")
            taken[there].append(time.monotonic() - began)
            assert answer.status_code == 404
    assert min(*taken[True], *taken[False]) >= REFUSAL_SECONDS
    assert abs(statistics.median(taken[True]) - statistics.median(taken[False])) < SLACK


async def test_no_combination_of_parameters_leads_to_others(dashboard: Dashboard) -> None:
    own, other, never = dashboard.own, dashboard.other, f"nobody-{dashboard.other[5:]}"
    spaces: tuple[list[tuple[str, Any]], ...] = (
        [("namespace", own), ("namespace", other)], [("namespace", other), ("namespace", own)],
        [("namespace", other), ("namespace", "")], [("namespace", ""), ("namespace", other)], [("namespace", "")],
        [("namespace", f"{own} {other}")], [("namespace", f"{own},{other}")], [("namespace", f"{other}\0")], [],
        [("Namespace", other)], [("namespace[]", other)], [("namespace", f"{own}' or namespace eq '{other}")],
        [("namespace", "*")], [("namespace", f" {other}")], [("namespace", other.upper())], [("namespace", other)],
    )  # fmt: skip
    searches: tuple[dict[str, str], ...] = (
        {}, {"name": HUSH}, {"handler": HUSH}, {"group": HUSH}, {"state": "Failed"}, {"status": "Step"},
        {"from": "1970-01-01T00:00:00Z", "page_size": "1000"}, {"name": f"x' or name ge '{HUSH}"}, {"jobId": HUSH},
    )  # fmt: skip
    async with dashboard.client(dashboard.mallory) as http:
        for path in (*LISTS, *OF_ALL_NAMESPACES, "/api/stats", "/submit", "/queues/letters", "/queues/replay"):
            for space, search in itertools.product(spaces, searches):
                if search and space[:1] != [("namespace", own)]:
                    continue
                asked: list[tuple[str, Any]] = [*([("namespace", own)] if search else space), *search.items()]
                answer = await http.get(path, params=asked, headers={"Accept": "text/html"})
                assert answer.status_code in (200, 400, 403), (path, asked)
                assert FOREIGN_JOB not in answer.text, (path, asked)
                assert dashboard.foreign not in answer.text, (path, asked)
                assert not {"etag", "last-modified"} & set(answer.headers), path
            refused = [await http.get(path, params={"namespace": name}) for name in (other, never)]
            words = [
                (each.status_code, each.text.replace(name, ""))
                for each, name in zip(refused, (other, never), strict=True)
            ]
            assert words[0] == words[1], path
    _, metrics = dashboard.running.read("/metrics")
    assert HUSH not in metrics
    assert "nobody-" not in metrics


def opened(token: str) -> bytes:
    """A page token as far as anybody can read it: once and twice decoded."""
    found = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    with contextlib.suppress(ValueError):
        found += base64.urlsafe_b64decode(found + b"=" * (-len(found) % 4))
    return found


async def test_page_tokens_tell_nothing(dashboard: Dashboard) -> None:
    """Storage's place in the table is a job, of whomever: it is in them, but nobody can read it."""
    for days in range(0, 40, 2):
        history = History(
            dashboard.jobs, FOREIGN_JOB, now() - timedelta(days=days, minutes=1), namespace=dashboard.other
        )
        await history.happen("Submitted", State.SUBMITTED)
    listed: dict[str, Any] = {}
    async with dashboard.client(dashboard.admin) as admin, dashboard.client(dashboard.mallory) as http:
        while len(listed.get("jobs", ())) < 20:
            listed = (await admin.get("/api/requests", params={"namespace": dashboard.other})).json()
        everything = (await admin.get("/api/requests", params={"page_size": "1"})).json()["nextPageToken"]
        foreign = (await admin.get("/api/requests", params={"namespace": dashboard.other, "page_size": "2"})).json()
        tokens = [everything, foreign["nextPageToken"]]
        for path, search in itertools.product(LISTS[:3], ({}, {"name": "nobody"}, {"page_size": "1"})):
            query: dict[str, str] = {"namespace": dashboard.own, **search}
            for _ in range(5):
                answer = (await http.get(path, params=query)).json()
                if "nextPageToken" not in answer:
                    break
                query["page_token"] = answer["nextPageToken"]
                tokens.append(query["page_token"])
        assert len(tokens) > 5
        for token in tokens:
            readable = opened(token)
            assert b"Key" not in readable
            assert not re.search(rb"[0-9]{6}", readable), readable
            assert dashboard.foreign.encode() not in readable
        for token in tokens[:2]:
            for path in (*LISTS[:3], "/jobs", "/events"):
                for namespace, expected in ((dashboard.own, 200), (dashboard.other, 403), ("", 403)):
                    answer = await http.get(path, params={"namespace": namespace, "page_token": token})
                    assert (answer.status_code, FOREIGN_JOB in answer.text) == (expected, False), path
        for forged in (tokens[0][:-4], tokens[0].swapcase(), "WzIsICIwMDAwMDAiLCBudWxsLCBudWxsXQ", "\u00e9", "=" * 99):
            answer = await http.get("/api/requests", params={"namespace": dashboard.own, "page_token": forged})
            assert (answer.status_code, answer.json()["parameter"]) == (400, "page_token")


async def test_a_stream_does_not_count_the_events_of_others(dashboard: Dashboard) -> None:
    """Its ids are no numbers and compare with nothing; a number of the log that somebody guesses is none."""
    own, path = dashboard.own, f"/api/stream?namespace={dashboard.own}"
    mine = History(dashboard.jobs, "mine", namespace=own)
    theirs = History(dashboard.jobs, FOREIGN_JOB, namespace=dashboard.other)
    async with dashboard.client(dashboard.mallory) as http:
        lines: list[str] = []
        async with http.stream("GET", path) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("retry:"):
                    await mine.happen("Submitted", State.SUBMITTED)
                    for _ in range(30):
                        await theirs.happen("Step 1", State.RUNNING)
                    await mine.happen("Started", State.RUNNING)
                lines.append(line)
                if mine.events and mine.events[-1].event_id in line and line.startswith("data:"):
                    break
        ids = [line.removeprefix("id: ") for line in lines if line.startswith("id: ")]
        assert len(ids) >= 3
        assert len(set(ids)) == len(ids)
        assert len({len(each) for each in ids}) == 1
        assert HUSH not in "".join(lines)
        page = await http.get(f"/jobs?namespace={own}", headers={"Accept": "text/html"})
        assert not re.search(r"lastEventId=-?[0-9]+[&\"]", page.text)

        async def answers(last: str) -> list[str]:
            """The kinds of what comes first, up to a sign of life."""
            found = []
            async with http.stream("GET", path, headers={"Last-Event-ID": last}) as resumed:
                async for line in resumed.aiter_lines():
                    if line.startswith(("event:", ": alive")):
                        found.append(line)
                    if line.startswith(": alive"):
                        break
            return found

        guesses = [await answers(str(number)) for number in (0, 1, 20, 10**6)]
        assert guesses == [["event: missed", ": alive"]] * 4
        assert await answers(ids[0]) == ["event: job", "event: job", ": alive"]  # and its own ids do resume
