"""Kubernetes' API server, as far as the operator uses it: `JobRequest`s with versions, and watches that break."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from joblease.errors import TransientError
from joblease.states import State
from joblease_operator.kube import Conflict, Gone
from kubernetes.aio.client import ApiException

from simulation.loop import EPOCH, Program, VirtualLoop
from simulation.network import Network, NoAnswer, Refused

if TYPE_CHECKING:
    from joblease_operator.job import Job

SERVICE = "kubernetes"
NAMESPACE = "jobs"
Body = dict[str, Any]


class Invalid(Exception):
    """422."""


class Exists(Exception):
    """409."""


class ApiServer:
    """The resources, and who watches them."""

    def __init__(self, loop: VirtualLoop, network: Network) -> None:
        self._loop = loop
        self._network = network
        self._versions = itertools.count(1)
        self.objects: dict[str, Body] = {}
        self.watches: list[Watch] = []
        self.on_status: Callable[[Program, str, Body], None] = lambda _operator, _job, _status: None
        """Told of each status that an operator sends."""

    def create(self, name: str, spec: Body) -> Body:
        """A new `JobRequest`. Raises `Exists`."""
        if name in self.objects:
            raise Exists(name)
        moment = datetime.fromtimestamp(EPOCH + self._loop.real, UTC)
        version = str(next(self._versions))
        uid = f"uid-{name}-{version}"
        metadata = {
            "name": name, "namespace": NAMESPACE, "uid": uid, "generation": 1, "resourceVersion": version,
            "creationTimestamp": f"{moment:%Y-%m-%dT%H:%M:%SZ}",
        }  # fmt: skip
        body = self.objects[name] = {"metadata": metadata, "spec": spec}
        self._tell("ADDED", body)
        made: Body = _copied(body)
        return made

    def change(self, name: str, **fields: Any) -> None:
        """Change the spec. Raises `Gone`, and `Invalid` when an order to cancel is taken back."""
        body = self.objects.get(name)
        if body is None:
            raise Gone(name)
        if body["spec"].get("cancel") and fields.get("cancel") is False:
            raise Invalid(f"{name}: cancel cannot be taken back")
        if (spec := {**body["spec"], **fields}) != body["spec"]:
            body["spec"] = spec
            body["metadata"]["generation"] += 1
            self._touch(body)

    def delete(self, name: str, uid: str = "") -> None:
        """Delete it; with `uid`, only this very one."""
        body = self.objects.get(name)
        if body is None:
            raise Gone(name)
        if uid and body["metadata"]["uid"] != uid:
            raise Gone(name)
        del self.objects[name]
        body["metadata"]["resourceVersion"] = str(next(self._versions))
        self._tell("DELETED", body)

    def patch_status(self, name: str, uid: str, status: Body) -> None:
        """Replace the status of this very resource; an outcome is final."""
        body = self.objects.get(name)
        if body is None or body["metadata"]["uid"] != uid:
            raise Gone(name)
        if _finished(body) and _reason(body["status"]) != _reason(status):
            raise Invalid(f"{name}: the job has its outcome")
        if body.get("status") != status:
            body["status"] = _copied(status)
            self._touch(body)

    def runs(self, name: str) -> bool:
        """Whether its status says so."""
        return bool(_reason(self.objects.get(name, {}).get("status", {})) == State.RUNNING)

    def listing(self) -> list[Body]:
        """All of them."""
        return [_copied(body) for body in self.objects.values()]

    def _touch(self, body: Body) -> None:
        body["metadata"]["resourceVersion"] = str(next(self._versions))
        self._tell("MODIFIED", body)

    def _tell(self, kind: str, body: Body) -> None:
        for watch in self.watches:
            watch.tell(kind, _copied(body))


def _copied(value: Any) -> Any:
    """As `copy.deepcopy`, of what JSON has."""
    if isinstance(value, dict):
        return {name: _copied(each) for name, each in value.items()}
    return [_copied(each) for each in value] if isinstance(value, list) else value


def _reason(status: Body) -> Any:
    return next((each["reason"] for each in status.get("conditions", []) if each["type"] == "Finished"), None)


def _finished(body: Body) -> bool:
    conditions = body.get("status", {}).get("conditions", [])
    return any(each["type"] == "Finished" and each["status"] == "True" for each in conditions)


class Watch:
    """As kopf watches: a listing, then changes in their order; after a break, a listing again."""

    def __init__(
        self, server: ApiServer, network: Network, program: Program, observe: Callable[[str | None, Body], None]
    ) -> None:
        self._server, self._network, self._program, self._observe = server, network, program, observe
        self._stream: list[tuple[str, Body]] = []
        self._news = asyncio.Event()
        self._broken: bool = False
        self._arrives = 0.0
        server.watches.append(self)

    def tell(self, kind: str, body: Body) -> None:
        """A change is on its way."""
        if self._broken:
            return
        if self._network.is_cut(self._program.name, SERVICE):
            self.lose()
            return
        loop = self._network.loop
        self._arrives = max(self._arrives, loop.real + self._network.dice.uniform(0.001, 0.05))

        def arrive() -> None:
            if not self._broken:
                self._stream.append((kind, body))
                self._program.soon(self._news.set)

        self._network._outside(self._arrives - loop.real, arrive)

    def lose(self) -> None:
        """The stream breaks: what is on its way is lost."""
        self._broken = True
        self._stream.clear()
        self._program.soon(self._news.set)

    async def run(self) -> None:
        """List, watch, and again."""
        while True:
            self._stream.clear()
            self._broken = False
            try:
                for body in await self._network.ask(self._program, SERVICE, "list", self._server.listing, 10):
                    self._observe(None, body)
            except (NoAnswer, Refused):
                await asyncio.sleep(1)
                continue
            while not self._broken:
                self._news.clear()
                while self._stream:
                    self._observe(*self._stream.pop(0))
                await self._news.wait()  # of a change, or that the stream is broken
            await asyncio.sleep(self._network.dice.uniform(0.1, 5))

    def close(self) -> None:
        """Its program has gone."""
        if self in self._server.watches:
            self._server.watches.remove(self)


class JobRequests:
    """As `joblease_operator.kube.JobRequests`."""

    def __init__(self, server: ApiServer, network: Network, program: Program, timeout: float) -> None:
        self._server, self._network, self._program, self._timeout = server, network, program, timeout

    async def _ask(self, what: str, act: Callable[[], Any]) -> Any:
        try:
            return await self._network.ask(self._program, SERVICE, what, act, self._timeout)
        except NoAnswer as error:
            raise TransientError(str(error)) from None
        except Refused as refused:
            raise ApiException(status=refused.status, reason="simulated") from None
        except Invalid as error:
            raise ApiException(status=422, reason=str(error)) from None

    async def count(self) -> int:
        """See `JobRequests`."""
        return int(await self._ask("count", lambda: len(self._server.objects)))

    async def everything(self) -> AsyncIterator[Body]:
        """See `JobRequests`."""
        for body in await self._ask("list", self._server.listing):
            yield body

    async def exists(self, _namespace: str, name: str, uid: str) -> bool:
        """See `JobRequests`."""

        def look() -> bool:
            body = self._server.objects.get(name)
            return body is not None and body["metadata"]["uid"] == uid

        return bool(await self._ask(f"get {name}", look))

    async def patch_status(self, job: "Job", status: Body) -> None:
        """See `JobRequests`."""
        reason = _reason(status)
        self._server.on_status(self._program, job.uid, status)
        await self._ask(f"status {job.name} {reason}", lambda: self._server.patch_status(job.name, job.uid, status))

    async def delete(self, job: "Job") -> None:
        """See `JobRequests`."""
        await self._ask(f"delete {job.name}", lambda: self._server.delete(job.name, job.uid))


__all__ = ["ApiServer", "Conflict", "Exists", "Gone", "Invalid", "JobRequests", "Watch"]
