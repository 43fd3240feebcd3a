"""The `JobRequest`s themselves, read and changed in the name of whoever asks."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from joblease.jobrequest import GROUP, KIND, PLURAL, VERSION

from joblease_dashboard.access.cluster import MERGE_PATCH
from joblease_dashboard.problems import Problem

if TYPE_CHECKING:
    from joblease_dashboard.access.cluster import Cluster
    from joblease_dashboard.access.identity import Identity

CONFLICT = 409


class Resources:
    """Reads, creates and changes them."""

    def __init__(self, cluster: "Cluster") -> None:
        self._cluster = cluster

    async def read(self, who: "Identity", namespace: str, name: str, uid: str) -> dict[str, Any] | None:
        """The resource of a job; None when it has gone, or may not be read. Raises `Problem`."""
        try:
            found: dict[str, Any] = await self._cluster.request(who, "GET", _path(namespace, name))
        except Problem as problem:
            if problem.status in (403, 404, 502):
                return None
            raise
        return found if found["metadata"]["uid"] == uid else None

    async def create(self, who: "Identity", namespace: str, name: str, spec: Mapping[str, Any], notes: Any) -> str:
        """Create a `JobRequest` with annotations; its uid. Raises `Problem`."""
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "metadata": {"name": name, "annotations": notes},
            "spec": spec,
        }
        return str((await self._cluster.request(who, "POST", _path(namespace), body))["metadata"]["uid"])

    async def create_once(
        self, who: "Identity", namespace: str, name: str, spec: Mapping[str, Any], notes: Mapping[str, str], mark: str
    ) -> str:
        """Create it, unless there is one of that name whose annotation `mark` is the same; its uid. Raises `Problem`.

        The API server lets a name be taken once: that holds for two replicas, and for any number of clicks.
        """
        try:
            return await self.create(who, namespace, name, spec, notes)
        except Problem as problem:
            if problem.status != CONFLICT or mark not in notes:
                raise
            metadata = (await self._cluster.request(who, "GET", _path(namespace, name)))["metadata"]
            if (metadata.get("annotations") or {}).get(mark) != notes[mark]:
                raise
            return str(metadata["uid"])

    async def change(
        self, who: "Identity", namespace: str, name: str, uid: str, spec: Mapping[str, Any], notes: Any
    ) -> None:
        """Merge into the spec of this very resource, not of one of the same name that came later. Raises `Problem`."""
        body = {"metadata": {"uid": uid, "annotations": notes}, "spec": dict(spec)}
        await self._cluster.request(who, "PATCH", _path(namespace, name), body, MERGE_PATCH)


def _path(namespace: str, name: str = "") -> str:
    path = f"/apis/{GROUP}/{VERSION}/namespaces/{quote(namespace, safe='')}/{PLURAL}"
    return f"{path}/{quote(name, safe='')}" if name else path
