"""The simulated API server gives the answers of the real one: one table of requests, asked of both."""

import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from joblease_operator.job import Job
from joblease_operator.kube import JobRequests
from joblease_operator.settings import OperatorSettings
from kubernetes.client import ApiException
from simulation import cluster as simulated
from simulation.loop import Program, VirtualLoop
from simulation.network import Network
from support.cluster import Cluster

MOMENT = "2026-01-01T00:00:00Z"
OTHER = "00000000-0000-0000-0000-000000000000"
Ask = Callable[..., Awaitable[Any]]


def status(reason: str, finished: str) -> dict[str, Any]:
    succeeded = {"Completed": "True", "Failed": "False"}.get(reason, "Unknown")
    conditions = [
        {"type": kind, "status": word, "reason": reason, "message": "", "lastTransitionTime": MOMENT}
        for kind, word in (("Succeeded", succeeded), ("Finished", finished))
    ]
    return {"observedGeneration": 1, "conditions": conditions}


RUNNING, COMPLETED, FAILED = status("Running", "False"), status("Completed", "True"), status("Failed", "True")

# Whose uid is meant is said by the name that it was noted under.
TABLE: list[tuple[str, str, tuple[Any, ...], Any]] = [
    ("nothing is there", "count", (), 0),
    ("look for what is not there", "exists", ("a", ""), False),
    ("write the status of what is not there", "status", ("a", "", RUNNING), "Gone"),
    ("delete what is not there", "delete", ("a", ""), "Gone"),
    ("make one", "create", ("a", "first"), 1),
    ("make it again", "create", ("a", "-"), 409),
    ("make another one", "create", ("b", "other"), 1),
    ("they are there", "names", (), ["a", "b"]),
    ("and counted", "count", (), 2),
    ("this very one", "exists", ("a", "first"), True),
    ("not one of another uid", "exists", ("a", "other"), False),
    ("write its status", "status", ("a", "first", RUNNING), None),
    ("it is written", "read", ("a",), "Running"),
    ("under the uid of another one", "status", ("a", "other", COMPLETED), "Gone"),
    ("nothing was written", "read", ("a",), "Running"),
    ("a status is no generation", "generation", ("a",), 1),
    ("cancel it", "change", ("a", {"cancel": True}), 2),
    ("cancel it again", "change", ("a", {"cancel": True}), 2),
    ("take that back", "change", ("a", {"cancel": False}), 422),
    ("hold another one back", "change", ("b", {"suspend": True}), 2),
    ("and let it go", "change", ("b", {"suspend": False}), 3),
    ("change what is not there", "change", ("c", {"suspend": True}), 404),
    ("its outcome", "status", ("a", "first", COMPLETED), None),
    ("the same again", "status", ("a", "first", COMPLETED), None),
    ("an older status arrives", "status", ("a", "first", RUNNING), 422),
    ("another outcome", "status", ("a", "first", FAILED), 422),
    ("the outcome stays", "read", ("a",), "Completed"),
    ("delete it under another uid", "delete", ("a", "other"), "Conflict or Gone"),
    ("delete it", "delete", ("a", "first"), None),
    ("delete it again", "delete", ("a", "first"), "Gone"),
    ("it is not there", "exists", ("a", "first"), False),
    ("one of the same name", "create", ("a", "second"), 1),
    ("it is another one", "exists", ("a", "first"), False),
    ("the status of the one before", "status", ("a", "first", COMPLETED), "Gone"),
    ("nothing was written", "read", ("a",), ""),
    ("delete the one before", "delete", ("a", "first"), "Gone"),
    ("it is still there", "exists", ("a", "second"), True),
    ("both are counted", "count", (), 2),
]
EXPECTED = [(what, answer) for what, _, _, answer in TABLE]


class Stage:
    """An API server: the operator's requests, and those of users."""

    def __init__(self, requests: Any, namespace: str) -> None:
        self._requests, self._namespace = requests, namespace
        self._uids = {"": OTHER}
        self.create_object: Callable[[str], Any]
        self.change_object: Callable[[str, dict[str, Any]], Any]
        self.get: Callable[[str], dict[str, Any]]

    def _job(self, name: str, uid: str) -> Job:
        return Job(self._uids[uid], self._namespace, name, datetime.now(UTC))

    async def count(self) -> int:
        return int(await self._requests.count())

    async def names(self) -> list[str]:
        return [each["metadata"]["name"] async for each in self._requests.everything()]

    async def exists(self, name: str, uid: str) -> bool:
        return bool(await self._requests.exists(self._namespace, name, self._uids[uid]))

    async def status(self, name: str, uid: str, body: dict[str, Any]) -> None:
        await self._requests.patch_status(self._job(name, uid), body)

    async def delete(self, name: str, uid: str) -> None:
        await self._requests.delete(self._job(name, uid))

    async def create(self, name: str, uid: str) -> int:
        made = self.create_object(name)
        self._uids[uid] = made["metadata"]["uid"]
        return int(made["metadata"]["generation"])

    async def change(self, name: str, fields: dict[str, Any]) -> int:
        self.change_object(name, fields)
        return await self.generation(name)

    async def generation(self, name: str) -> int:
        return int(self.get(name)["metadata"]["generation"])

    async def read(self, name: str) -> str:
        conditions = self.get(name).get("status", {}).get("conditions", [])
        return next((each["reason"] for each in conditions if each["type"] == "Succeeded"), "")


async def answers(stage: Stage) -> list[tuple[str, Any]]:
    """What each request was answered, by its name."""
    said: list[tuple[str, Any]] = []
    for what, verb, arguments, wanted in TABLE:
        try:
            answer = await getattr(stage, verb)(*arguments)
        except Exception as error:  # noqa: BLE001 - it is the answer
            answer = getattr(error, "status", None) or type(error).__name__
        said.append((what, wanted if isinstance(wanted, str) and str(answer) in wanted.split(" or ") else answer))
    return said


async def test_the_real_api_server(crd: Path, kube_namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(crd))
    requests = JobRequests(OperatorSettings(operator_namespaces=(kube_namespace,)))
    await requests.connect()
    try:
        stage, users = Stage(requests, kube_namespace), Cluster(crd, kube_namespace)
        stage.create_object = lambda name: users.create_object({"name": name}, {"handler": "noop"})
        stage.change_object = lambda name, fields: users.change(name, **fields)
        stage.get = users.get
        assert await answers(stage) == EXPECTED
    finally:
        await requests.close()


def test_the_simulated_api_server() -> None:
    loop = VirtualLoop(random.Random(1))
    network = Network(loop, random.Random(1))
    server = simulated.ApiServer(loop, network)
    requests = simulated.JobRequests(server, network, Program("asker", loop), 5)

    def change(name: str, fields: dict[str, Any]) -> None:
        try:
            server.change(name, **fields)
        except simulated.Gone:
            raise ApiException(status=404) from None
        except simulated.Invalid:
            raise ApiException(status=422) from None

    def create(name: str) -> Any:
        try:
            return server.create(name, {"handler": "noop"})
        except simulated.Exists:
            raise ApiException(status=409) from None

    stage = Stage(requests, simulated.NAMESPACE)
    stage.create_object, stage.change_object = create, change
    stage.get = lambda name: server.objects[name]
    try:
        said = loop.run_until_complete(answers(stage))
    finally:
        loop.close()
    assert said == EXPECTED
