"""Submissions with an idempotency key: made once, however often, by whomever and however late they are sent."""

import asyncio
import os
import random
import secrets
from pathlib import Path
from typing import Any

import httpx
import pytest
from joblease.jobrequest import JobRequestSpec
from joblease_local.control_plane import ControlPlane
from support.accounts import account
from support.attack import NO_TLS, Dashboard
from support.cluster import Cluster
from support.programs import Program, program

ROUNDS, CLIENTS = int(os.environ.get("JOBLEASE_KEY_ROUNDS", "5")), 100


@pytest.fixture
def cluster(crd: Path, dashboard: Dashboard) -> Cluster:
    return Cluster(crd, dashboard.own)


def keyed(dashboard: Dashboard, key: str, name: str | None = None, **spec: Any) -> dict[str, Any]:
    metadata = {"namespace": dashboard.own, **({"name": name} if name else {})}
    return {"metadata": metadata, "spec": {"handler": "noop", "key": key, **spec}}


def a_key() -> str:
    return f"order {secrets.token_hex(4)}/ü?".replace("ü", "u")


async def test_a_key_submits_one_job_and_finds_it_when_its_resource_has_gone(
    dashboard: Dashboard, cluster: Cluster
) -> None:
    before, key = len(cluster.all()), a_key()
    wanted = keyed(dashboard, key, parameters={"n": 1})
    by_header = {**wanted, "spec": {name: value for name, value in wanted["spec"].items() if name != "key"}}
    async with dashboard.client(dashboard.citizen) as http:
        by_key = [http.post("/api/requests", json=wanted) for _ in range(10)]
        by_head = [http.post("/api/requests", json=by_header, headers={"Idempotency-Key": key}) for _ in range(10)]
        answers = await asyncio.gather(*by_key, *by_head)
        assert {answer.status_code for answer in answers} <= {200, 201}
        assert [answer.json()["created"] for answer in answers].count(True) == 1
        first = answers[0].json()
        assert {(answer.json()["jobId"], answer.json()["name"], answer.json()["key"]) for answer in answers} == {
            (first["jobId"], first["name"], key)
        }
        assert len(cluster.all()) == before + 1
        assert cluster.get(first["name"])["spec"]["key"] == key
        cluster.delete(first["name"])
        batch = {"requests": [wanted, keyed(dashboard, key, "another-name", parameters={"n": 1.0}, priority=3)]}
        late = (await http.post("/api/requests:batch", json=batch)).json()["results"]
        assert [(each["status"], each["job"]["jobId"]) for each in late] == [(200, first["jobId"])] * 2
        assert len(cluster.all()) == before


async def test_the_same_key_with_other_content_says_what_differs(dashboard: Dashboard, cluster: Cluster) -> None:
    key = a_key()
    async with dashboard.client(dashboard.citizen) as http:
        first = (await http.post("/api/requests", json=keyed(dashboard, key, parameters={"rows": [1], "a": 1}))).json()
        other = await http.post("/api/requests", json=keyed(dashboard, key, parameters={"rows": [2], "b": "x"}))
    assert other.status_code == 409
    said = other.json()
    assert (said["field"], said["jobId"]) == ("spec.key", first["jobId"])
    assert said["differences"] == [
        {"field": "parameters.a", "first": "1", "now": ""},
        {"field": "parameters.b", "first": "", "now": '"x"'},
        {"field": "parameters.rows", "first": "[1]", "now": "[2]"},
    ]
    assert "parameters.rows: first [1], now [2]" in said["detail"]


async def test_a_key_whose_job_could_not_be_made_is_free_again(dashboard: Dashboard, cluster: Cluster) -> None:
    key, name = a_key(), f"taken-{secrets.token_hex(3)}"
    cluster.create(name=name)
    async with dashboard.client(dashboard.citizen) as http:
        taken = await http.post("/api/requests", json=keyed(dashboard, key, name))
        assert (taken.status_code, "already exists" in taken.json()["detail"]) == (409, True)
        bad = keyed(dashboard, key)
        bad["metadata"]["labels"] = {"a": "no label!"}
        assert (await http.post("/api/requests", json=bad)).status_code == 422
        made = await http.post("/api/requests", json=keyed(dashboard, key, parameters={"other": True}))
        assert made.status_code == 201


async def test_a_submission_that_died_half_way_is_finished_by_the_next(dashboard: Dashboard, cluster: Cluster) -> None:
    """Before its JobRequest was made, and after that, but before the key knew."""
    keys = dashboard.jobs.keys
    for there in (False, True):
        wanted = keyed(dashboard, a_key())
        spec, name = JobRequestSpec.model_validate(wanted["spec"]), f"half-way-{secrets.token_hex(3)}"
        await keys.claim(dashboard.own, spec, name)
        if there:
            cluster.create_object({"name": name}, wanted["spec"])
        async with dashboard.client(dashboard.citizen) as http:
            answers = [await http.post("/api/requests", json=wanted) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200 if there else 201, 200]
        uid = cluster.get(name)["metadata"]["uid"]
        assert {(answer.json()["jobId"], answer.json()["name"]) for answer in answers} == {(uid, name)}
        assert (await keys.claim(dashboard.own, spec, "x")).job_id == uid


@pytest.mark.parametrize(
    "key", ["", " x", "k" * 256, "k" * 10_240, "a\tb"], ids=["none", "space", "long", "10 KB", "tab"]
)
async def test_a_key_that_is_none_is_refused(dashboard: Dashboard, cluster: Cluster, key: str) -> None:
    before = len(cluster.all())
    plain = keyed(dashboard, "x")
    del plain["spec"]["key"]
    async with dashboard.client(dashboard.citizen) as http:
        in_spec = await http.post("/api/requests", json=keyed(dashboard, key))
        assert (in_spec.status_code, in_spec.json()["field"]) == (422, "spec.key")
        if key not in (" x", "a\tb"):  # what HTTP itself takes for a value
            in_header = await http.post("/api/requests", json=plain, headers={"Idempotency-Key": key})
            assert (in_header.status_code, in_header.json()["field"]) == (400, "Idempotency-Key")
        two = await http.post("/api/requests", json=keyed(dashboard, "one"), headers={"Idempotency-Key": "two"})
        assert (two.status_code, two.json()["field"]) == (400, "spec.key")
        alone = await http.post("/api/requests", json={**plain, "spec": {**plain["spec"], "keyTTLSeconds": 5}})
        assert (alone.status_code, "without key" in alone.json()["detail"]) == (422, True)
    assert len(cluster.all()) == before


@pytest.mark.timeout(3_000)
async def test_many_clients_with_one_key_through_two_replicas_that_are_killed_submit_one_job_each_time(
    dashboard: Dashboard, cluster: Cluster, tmp_path: Path
) -> None:
    """A hundred clients send the same key at once, again until they have an answer, while replicas die and come back.

    JOBLEASE_KEY_ROUNDS is the number of keys.
    """
    variables = {**dashboard.variables, "JOBLEASE_DASHBOARD_REQUESTS_PER_SECOND": "100000"}
    replicas = [Replica(variables, tmp_path / str(n)) for n in range(2)]
    before = len(cluster.all())
    async with asyncio.TaskGroup() as tasks:
        keeping = [tasks.create_task(each.run()) for each in replicas]
        for each in replicas:
            await each.up.wait()
        killing = tasks.create_task(kill_in_turn(replicas))
        found = []
        async with httpx.AsyncClient(headers={"Authorization": f"Bearer {dashboard.citizen}"}, verify=NO_TLS) as http:
            for _ in range(ROUNDS):
                wanted = keyed(dashboard, a_key(), suspend=True)
                found.append(await asyncio.gather(*(persist(http, replicas, n, wanted) for n in range(CLIENTS))))
        for task in (killing, *keeping):
            task.cancel()
    assert [len(set(ids)) for ids in found] == [1] * ROUNDS
    assert len({ids[0] for ids in found}) == ROUNDS
    assert len(cluster.all()) == before + ROUNDS
    kills = sum(each.kills for each in replicas)
    assert kills >= 2, kills
    print(f"{ROUNDS} keys, {CLIENTS} clients each, {kills} kills, one job each")


class Replica:
    """A dashboard that is started again whenever it was killed."""

    def __init__(self, variables: dict[str, str], folder: Path) -> None:
        self._variables = variables
        folder.mkdir()
        self._log = folder / "dashboard.log"
        self.up = asyncio.Event()
        self.kills = 0
        self.url = ""
        self._running: Program | None = None

    async def run(self) -> None:
        while True:
            async with program("joblease-dashboard", self._variables, self._log) as running:
                await running.ready()
                self._running, self.url = running, f"http://127.0.0.1:{running.port}"
                self.up.set()
                await running.process.wait()
                self.up.clear()

    def kill(self) -> None:
        assert self._running
        self._running.process.kill()
        self.kills += 1


async def kill_in_turn(replicas: list["Replica"]) -> None:
    while True:
        for victim in replicas:
            await asyncio.sleep(random.uniform(0.2, 1))  # at any moment of what the others do
            await victim.up.wait()
            victim.kill()
            while victim.up.is_set():
                await asyncio.sleep(0.02)
            await victim.up.wait()


async def persist(http: httpx.AsyncClient, replicas: list["Replica"], number: int, wanted: dict[str, Any]) -> str:
    """Send it until there is an answer; the job's id."""
    async with asyncio.timeout(120):
        while True:
            replica = replicas[number % len(replicas)]
            number += 1
            try:
                answer = await http.post(f"{replica.url}/api/requests", json=wanted, timeout=20)
            except httpx.TransportError:
                await asyncio.sleep(0.05)
                continue
            if answer.status_code in (200, 201):
                job_id: str = answer.json()["jobId"]
                return job_id
            assert answer.status_code in (429, 503), answer.text
            await asyncio.sleep(0.2)


async def test_who_may_not_create_jobs_learns_nothing_of_a_key(dashboard: Dashboard) -> None:
    wanted = keyed(dashboard, a_key())
    wanted["metadata"]["namespace"] = dashboard.other
    async with dashboard.client(dashboard.citizen) as http:
        assert (await http.post("/api/requests", json=wanted)).status_code == 403


async def test_who_may_only_create_jobs_is_told_nothing_of_the_first_one(
    dashboard: Dashboard, api_server: ControlPlane, tmp_path: Path
) -> None:
    key, sender = a_key(), account(api_server, tmp_path, dashboard.own, "sender", ("create",))
    wanted = keyed(dashboard, key, parameters={"iban": "secret", "a": 1})
    async with dashboard.client(dashboard.citizen) as http:
        first = (await http.post("/api/requests", json=wanted)).json()
    async with dashboard.client(sender) as http:
        other = await http.post("/api/requests", json=keyed(dashboard, key, parameters={"a": 2}))
        assert (other.status_code, other.json()["field"]) == (409, "spec.key")
        assert not any(each in other.text for each in ("iban", "secret", "differences", first["jobId"], first["name"]))
        same = await http.post("/api/requests", json=wanted)
        assert (same.status_code, same.json()["jobId"]) == (200, first["jobId"])
