"""Jobs submitted by programs: one, many, again, and all that is wrong with what they send."""

import asyncio
import json
import secrets
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from joblease.storage import ACTION_FEED_TABLE
from support.attack import Dashboard, status_of
from support.cluster import Cluster
from support.programs import Program

Start = Callable[..., AbstractAsyncContextManager[Program]]
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def cluster(crd: Path, dashboard: Dashboard) -> Cluster:
    return Cluster(crd, dashboard.own)


def a_job(dashboard: Dashboard, **more: Any) -> dict[str, Any]:
    metadata = {"namespace": dashboard.own, **more.pop("metadata", {})}
    return {"metadata": metadata, "spec": {"handler": "noop", **more.pop("spec", {})}, **more}


async def test_a_job_is_made_in_the_callers_name(dashboard: Dashboard, cluster: Cluster) -> None:
    wanted = {
        "apiVersion": "joblease.dev/v1alpha1", "kind": "JobRequest",
        "metadata": {"namespace": dashboard.own, "name": "by-api", "labels": {"a": "b"}, "annotations": {"c": "d"}},
        "spec": {
            "handler": "noop", "parameters": {"n": 1.5, "deep": [{"x": None}]}, "priority": 3,
            "startAfter": "2030-01-31T08:00:00+01:00", "concurrency": {"group": "g"},
        },
    }  # fmt: skip
    async with dashboard.client(dashboard.citizen) as http:
        answer = await http.post("/api/requests", json=wanted)
    made = cluster.get("by-api")
    assert (answer.status_code, answer.headers["location"]) == (201, f"/api/requests/{made['metadata']['uid']}")
    assert answer.json() == {
        "jobId": made["metadata"]["uid"], "namespace": dashboard.own, "name": "by-api", "handler": "noop",
        "created": True,
    }  # fmt: skip
    assert wanted["spec"].items() <= {**made["spec"]}.items()  # type: ignore[attr-defined]
    assert made["metadata"]["labels"] == {"a": "b"}
    by = f"system:serviceaccount:{dashboard.own}:citizen"
    assert made["metadata"]["annotations"] == {"c": "d", "joblease.dev/requested-by": by}
    rows = [row async for row in dashboard.jobs.storage.table(ACTION_FEED_TABLE).query_entities("target eq 'by-api'")]
    assert [(row["user"], row["outcome"], row["jobId"]) for row in rows] == [(by, "done", answer.json()["jobId"])]


async def test_a_submission_that_names_itself_is_made_once(dashboard: Dashboard, cluster: Cluster) -> None:
    before = len(cluster.all())
    wanted = a_job(dashboard, submissionId="order-17-invoice")
    async with dashboard.client(dashboard.citizen) as http:
        answers = await asyncio.gather(*(http.post("/api/requests", json=wanted) for _ in range(8)))
        assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
        assert len({answer.json()["jobId"] for answer in answers}) == 1
        assert len(cluster.all()) == before + 1
        other = await http.post(
            "/api/requests", json=a_job(dashboard, spec={"priority": 1}, submissionId="order-17-invoice")
        )
        assert (other.status_code, other.json()["field"]) == (409, "submissionId")
        named = a_job(dashboard, metadata={"name": "by-api-2"})
        assert [(await http.post("/api/requests", json=named)).status_code for _ in range(2)] == [201, 409]


async def test_of_a_thousand_the_three_bad_ones_are_told_and_the_others_made(
    dashboard: Dashboard, cluster: Cluster
) -> None:
    before = {each["metadata"]["name"] for each in cluster.all()}
    requests = [a_job(dashboard, submissionId=f"batch-{secrets.token_hex(8)}") for _ in range(1_000)]
    requests[10]["spec"]["priority"] = "high"
    requests[500]["metadata"]["namespace"] = dashboard.other
    requests[999]["metadata"]["labels"] = {"a": "no label!"}
    async with dashboard.client(dashboard.citizen) as http:
        first = (await http.post("/api/requests:batch", json={"requests": requests}, timeout=60)).json()["results"]
        again = (await http.post("/api/requests:batch", json={"requests": requests}, timeout=60)).json()["results"]
    bad = {10: (422, "spec.priority"), 500: (403, None), 999: (422, "metadata.labels")}
    for results, status in ((first, 201), (again, 200)):
        for place, each in enumerate(results):
            if place in bad:
                assert (each["status"], each["problem"].get("field")) == bad[place], each
            else:
                assert each["status"] == status, each
    names = [each["job"]["name"] for each in first if "job" in each]
    assert [each["job"]["name"] for each in again if "job" in each] == names
    assert {each["metadata"]["name"] for each in cluster.all()} - before == set(names)
    assert len(set(names)) == 997
    record = dashboard.jobs.storage.table(ACTION_FEED_TABLE)
    told = [row["outcome"] async for row in record.query_entities("target eq '999 jobs'")]
    assert told == []  # the two that were refused beforehand do not count
    told = [row["outcome"] async for row in record.query_entities("target eq '998 jobs'")]
    assert told == ["done: 997 made, 1 refused"] * 2


def spec(fields: str, more: str = "") -> str:
    return f'{{{more}"spec": {{"handler": "noop", {fields}}}}}'


def parameters(value: str) -> str:
    return spec(f'"parameters": {{"x": {value}}}')


def metadata(fields: str) -> str:
    return spec('"priority": 1', f'"metadata": {fields}, ')


BAD: dict[str, tuple[str | bytes, int, str | None]] = {
    "nothing": ("", 400, None),
    "not JSON": ("{", 400, None),
    "a list": ("[]", 422, "the body"),
    "more than one": ("{} {}", 400, None),
    "not UTF-8": (b'{"spec": {"handler": "\xff"}}', 400, None),
    "half a character": (spec('"description": "\\ud800"'), 400, None),
    "a name twice": (spec('"handler": "other"'), 400, None),
    "no number": (parameters("NaN"), 400, None),
    "an integer of 65 bits": (parameters("18446744073709551616"), 400, None),
    "an integer of 9,000 digits": (parameters("9" * 9_000), 400, None),
    "too large a number": (parameters("1e999"), 400, None),
    "digits without end": (spec(f'"priority": {"9" * 100_000}'), 400, None),
    "lists without end": ("[" * 100_000, 400, None),
    "lists in lists": (parameters("[" * 5_000 + "]" * 5_000), 422, None),
    "65 levels": (parameters("[" * 64 + "]" * 64), 422, "spec.parameters"),
    "no spec": ("{}", 422, "spec"),
    "no handler": ('{"spec": {}}', 422, "spec.handler"),
    "metadata that are null": (metadata("null"), 422, "metadata"),
    "labels that are null": (metadata('{"labels": null}'), 422, "metadata.labels"),
    "another kind": (spec('"priority": 1', '"kind": "Job", '), 422, "kind"),
    "an unknown field": (spec('"prioritty": 1'), 422, "spec.prioritty"),
    "an unknown field within": (spec('"retry": {"max": 1}'), 422, "spec.retry.max"),
    "a name of Python": (spec('"input_file_path": "x"'), 422, "spec.input_file_path"),
    "text for a number": (spec('"priority": "1"'), 422, "spec.priority"),
    "text for parameters": (spec('"parameters": "x"'), 422, "spec.parameters"),
    "a number out of bounds": (spec('"priority": 10'), 422, "spec.priority"),
    "a time without zone": (spec('"startAfter": "2030-01-31"'), 422, "spec.startAfter"),
    "a handler's bad name": ('{"spec": {"handler": "No Name"}}', 422, "spec.handler"),
    "a bad name": (metadata('{"name": "No Name"}'), 422, "metadata.name"),
    "a bad namespace": (metadata('{"namespace": "a/b"}'), 422, "metadata.namespace"),
    "a short submissionId": (spec('"priority": 1', '"submissionId": "x", '), 422, "submissionId"),
    "large parameters": (parameters(f'"{"x" * 70_000}"'), 422, "spec.parameters"),
    "large annotations": (metadata(f'{{"annotations": {{"x": "{"x" * 270_000}"}}}}'), 422, "metadata.annotations"),
    "10 MB": (" " * 10_000_000 + "{}", 413, None),
}


@pytest.mark.parametrize("name", BAD)
async def test_what_cannot_be_read_is_refused_and_told(dashboard: Dashboard, name: str) -> None:
    sent, status, field = BAD[name]
    async with dashboard.client(dashboard.admin, headers=JSON) as http:
        answer = await http.post("/api/requests", content=sent)
        told = answer.json()
        assert (answer.status_code, told.get("field")) == (status, field), told
        assert answer.headers["content-type"] == "application/problem+json"
        assert len(answer.content) < 2_000
        batch = await http.post("/api/requests:batch", content=sent)
        assert 400 <= batch.status_code < 500, batch.text
        if status == 422:
            text = sent if isinstance(sent, str) else sent.decode()
            batch = await http.post("/api/requests:batch", content=f'{{"requests": [{text}]}}')
            results = batch.json()["results"]
            assert [(each["status"], each["problem"].get("field")) for each in results] == [(status, field)]
    dashboard.check()


@pytest.mark.parametrize(
    "sent",
    ["{}", "[]", '{"requests"}', '{"requests": 1}', '{"requests": [1', '{"requests": [{},]}', '{"requests": [] }x',
     '{"requests": [], "more": 1}', '{"jobs": []}', '{"requests": [' + "{}," * 1_000 + "{}]}"],
)  # fmt: skip
async def test_a_batch_that_is_none_is_refused(dashboard: Dashboard, sent: str) -> None:
    async with dashboard.client(dashboard.admin, headers=JSON) as http:
        answer = await http.post("/api/requests:batch", content=sent)
    assert answer.status_code in (400, 422), answer.text
    assert len(answer.content) < 1_000


async def test_who_may_not_is_told(dashboard: Dashboard, crd: Path) -> None:
    foreign = {"metadata": {"namespace": dashboard.other}, "spec": {"handler": "noop"}}
    before = len(Cluster(crd, dashboard.other).all())
    for token, status in ((dashboard.citizen, 403), ("expired.or.unknown", 401), ("", 403)):
        async with dashboard.client(token) as http:
            answer = await http.post("/api/requests", json=foreign)
            assert (answer.status_code, "detail" in answer.json()) == (status, True)
            many = await http.post("/api/requests:batch", json={"requests": [foreign]})
            assert [many.status_code, *(each["status"] for each in many.json().get("results", ()))][-1] == status
    async with dashboard.client(dashboard.admin) as http:
        nowhere = {"metadata": {"namespace": "there-is-none"}, "spec": {"handler": "noop"}}
        assert (await http.post("/api/requests", json=nowhere)).status_code == 404
        assert (await http.post("/api/requests", data={"a": "b"})).status_code == 415
        assert (await http.post("/api/requests?unknown=1", json=foreign)).status_code == 400
        assert (await http.delete("/api/requests")).status_code == 405
    assert len(Cluster(crd, dashboard.other).all()) == before


async def test_what_no_worker_would_run_is_refused(
    dashboard: Dashboard, start_worker: Start, kube_namespace: str
) -> None:
    def demo(**parameters: Any) -> dict[str, Any]:
        return a_job(dashboard, spec={"handler": "demo", "queue": kube_namespace, "parameters": parameters})

    nope = a_job(dashboard, spec={"handler": "nope", "queue": kube_namespace})
    many = {"requests": [demo(steps=1), nope, demo(steps="many")]}
    async with dashboard.client(dashboard.citizen) as http:
        assert (await http.post("/api/requests", json=nope)).status_code == 201  # nobody serves that queue yet
        async with start_worker(JOBLEASE_WORKER_REPORT_SECONDS="0.2"), asyncio.timeout(20):
            while (refused := await http.post("/api/requests", json=nope)).status_code == 201:
                await asyncio.sleep(0.1)
            assert (refused.status_code, refused.json()["field"]) == (422, "spec.handler")
            assert "they know " in refused.json()["detail"]
            misfit = await http.post("/api/requests", json=demo(steps="many"))
            assert (misfit.status_code, misfit.json()["field"]) == (422, "spec.parameters.steps")
            results = (await http.post("/api/requests:batch", json=many)).json()["results"]
            assert [each["status"] for each in results] == [201, 422, 422]
            assert (await http.post("/api/requests?unchecked=true", json=nope)).status_code == 201
            assert (await http.post("/api/requests?unchecked=yes", json=nope)).status_code == 400


async def test_a_client_that_goes_away_in_the_middle_has_made_nothing(dashboard: Dashboard, cluster: Cluster) -> None:
    before = len(cluster.all())
    body = json.dumps(a_job(dashboard)).encode()
    head = f"POST /api/requests HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {dashboard.citizen}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    for cut in (len(body) // 2, len(body) - 1):
        answer = await dashboard.raw(head.encode() + body[:cut], half=True)
        assert status_of(answer) in (0, 400)
    assert len(cluster.all()) == before
    assert status_of(await dashboard.raw(head.encode() + body, 2)) == 201
    dashboard.check()


async def test_all_bodies_that_are_there_have_a_bound_together(dashboard: Dashboard, cluster: Cluster) -> None:
    head = f"POST /api/requests:batch HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {dashboard.mallory}\r\n"
    head += "Content-Type: application/json\r\nContent-Length: 8000000\r\n\r\n"
    unfinished = head.encode() + b" " * 7_900_000
    before = len(cluster.all())
    async with asyncio.timeout(100):
        answers = await asyncio.gather(*(dashboard.raw(unfinished, 5) for _ in range(8)))
    told = Counter(status_of(answer) for answer in answers)
    assert (set(told), told[0] >= 3) == ({0, 408}, True)  # those that fit may still be sent to their end
    assert len(cluster.all()) == before
    async with dashboard.client(dashboard.mallory) as http:  # and what they held was given back
        many = {"requests": [a_job(dashboard, spec={"parameters": {"x": "x" * 60_000}}) for _ in range(100)]}
        results = (await http.post("/api/requests:batch", json=many, timeout=60)).json()["results"]
    assert {each["status"] for each in results} == {201}
    dashboard.check()


async def test_the_document_describes_what_is_answered(dashboard: Dashboard) -> None:
    async with dashboard.client(dashboard.citizen) as http:
        document = (await http.get("/openapi.json")).json()
        good, bad = a_job(dashboard), a_job(dashboard, spec={"priority": 99})
        answers = {
            ("/api/requests", "201"): await http.post("/api/requests", json=good),
            ("/api/requests", "422"): await http.post("/api/requests", json=bad),
            ("/api/requests:batch", "200"): await http.post("/api/requests:batch", json={"requests": [good, bad]}),
        }
    for (path, status), answer in answers.items():
        check(document, path, "post", answer, status)
    schema = {"$ref": "#/components/schemas/Submission", "components": document["components"]}
    jsonschema.validate(good, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(bad, schema)


def check(document: dict[str, Any], path: str, method: str, answer: httpx.Response, status: str = "200") -> None:
    """The answer is as the document says."""
    assert answer.status_code == int(status), answer.text
    told = document["paths"][path][method]["responses"][status]["content"]
    schema = told[answer.headers["content-type"]]["schema"]
    jsonschema.validate(answer.json(), {**schema, "components": document["components"]})
