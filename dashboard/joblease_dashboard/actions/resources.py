"""The `JobRequest`s themselves, read and changed in the name of whoever asks."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from joblease.jobrequest import GROUP, KIND, PLURAL, VERSION

from joblease_dashboard.access.cluster import JSON, MERGE_PATCH
from joblease_dashboard.problems import Problem

if TYPE_CHECKING:
    from joblease_dashboard.access.cluster import Cluster
    from joblease_dashboard.access.identity import Identity

CONFLICT = 409
STRETCH = 100
"""Resources that are read at once; each may take 64 KiB and more."""


@dataclass(frozen=True, slots=True)
class Created:
    """A resource that is there now."""

    uid: str
    new: bool
    """Whether it was made just now."""


class Resources:
    """Reads, creates and changes them. Every method raises `Problem`."""

    def __init__(self, cluster: "Cluster | None") -> None:
        self._cluster = cluster

    @property
    def reachable(self) -> bool:
        """Whether there is a way to Kubernetes at all."""
        return self._cluster is not None

    async def read(self, who: "Identity", namespace: str, name: str, uid: str) -> dict[str, Any] | None:
        """The resource of a job; None when it has gone, or may not be read."""
        try:
            found = await self.get(who, namespace, name)
        except Problem as problem:
            if problem.status in (403, 404, 502):
                return None
            raise
        return found if found["metadata"]["uid"] == uid else None

    async def get(self, who: "Identity", namespace: str, name: str) -> dict[str, Any]:
        """The resource of that name."""
        found: dict[str, Any] = await self._request(who, "GET", _path(namespace, name))
        return found

    async def select(
        self, who: "Identity", namespace: str, labels: str, handler: str
    ) -> AsyncIterator[list[dict[str, Any]]]:
        """The resources of a namespace that a label selector selects, or all; in stretches."""
        query = {"limit": str(STRETCH), "labelSelector": labels, "fieldSelector": handler and f"spec.handler={handler}"}
        following: str | None = ""
        while following is not None:
            asked = urlencode({name: each for name, each in {**query, "continue": following}.items() if each})
            found = await self._request(who, "GET", f"{_path(namespace)}?{asked}")
            yield found["items"]
            following = found["metadata"].get("continue") or None

    async def create_once(
        self,
        who: "Identity",
        namespace: str,
        name: str,
        labels: Mapping[str, str],
        notes: Mapping[str, str],
        spec: Mapping[str, Any],
        mark: str,
    ) -> Created:
        """Create it, unless there is one of that name whose annotation `mark` is the same.

        The API server lets a name be taken once: that holds for two replicas, and for any number of clicks.
        """
        metadata = {"name": name, "labels": dict(labels), "annotations": dict(notes)}
        body = {"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "metadata": metadata, "spec": spec}
        try:
            made = await self._request(who, "POST", _path(namespace), body)
            return Created(str(made["metadata"]["uid"]), new=True)
        except Problem as problem:
            if problem.status != CONFLICT or mark not in notes:
                raise
            known = (await self.get(who, namespace, name))["metadata"]
            if (known.get("annotations") or {}).get(mark) != notes[mark]:
                raise
            return Created(str(known["uid"]), new=False)

    async def change(
        self, who: "Identity", namespace: str, name: str, uid: str, spec: Mapping[str, Any], notes: Any
    ) -> None:
        """Merge into the spec of this very resource, not of one of the same name that came later."""
        body = {"metadata": {"uid": uid, "annotations": notes}, "spec": dict(spec)}
        await self._request(who, "PATCH", _path(namespace, name), body, MERGE_PATCH)

    async def _request(self, who: "Identity", method: str, path: str, body: Any = None, kind: str = JSON) -> Any:
        if self._cluster is None:
            raise Problem(
                503, "No Kubernetes here", "this dashboard has neither a service account nor a kubeconfig to act with"
            )
        return await self._cluster.request(who, method, path, body, kind)


def _path(namespace: str, name: str = "") -> str:
    path = f"/apis/{GROUP}/{VERSION}/namespaces/{quote(namespace, safe='')}/{PLURAL}"
    return f"{path}/{quote(name, safe='')}" if name else path
