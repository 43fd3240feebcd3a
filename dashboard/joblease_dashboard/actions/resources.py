"""The `JobRequest`s themselves, read and changed with the dashboard's own account."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from joblease.jobrequest import GROUP, KIND, PLURAL, VERSION
from kubernetes.aio import client

from joblease_dashboard.problems import Problem

if TYPE_CHECKING:
    from joblease_dashboard.access.cluster import Cluster

CONFLICT = 409
MERGE_PATCH = "application/merge-patch+json"
_COORDINATES = {"group": GROUP, "version": VERSION, "plural": PLURAL}


class Resources:
    """Reads, creates and changes them. Ask for the user's right before."""

    def __init__(self, cluster: "Cluster") -> None:
        self._cluster = cluster
        self._custom = client.CustomObjectsApi(cluster.api)

    async def read(self, namespace: str, name: str, uid: str) -> dict[str, Any] | None:
        """The resource of a job; None when it has gone, or may not be read from here. Raises `Problem`."""
        request = self._custom.get_namespaced_custom_object(
            namespace=namespace, name=name, _request_timeout=self._cluster.timeout, **_COORDINATES
        )
        try:
            found: dict[str, Any] = await self._cluster.ask(request)
        except Problem as problem:
            if problem.status in (404, 502):
                return None
            raise
        return found if found["metadata"]["uid"] == uid else None

    async def create(self, namespace: str, name: str, spec: dict[str, Any], notes: dict[str, str]) -> str:
        """Create a `JobRequest`; its uid. Raises `Problem`."""
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "metadata": {"name": name, "annotations": notes},
            "spec": spec,
        }
        request = self._custom.create_namespaced_custom_object(
            namespace=namespace, body=body, _request_timeout=self._cluster.timeout, **_COORDINATES
        )
        return str((await self._cluster.ask(request))["metadata"]["uid"])

    async def create_once(
        self, namespace: str, name: str, spec: dict[str, Any], notes: dict[str, str], mark: str
    ) -> str:
        """Create it, unless there is one of that name whose annotation `mark` is the same; its uid. Raises `Problem`.

        The API server lets a name be taken once: that holds for two replicas, and for any number of clicks.
        """
        try:
            return await self.create(namespace, name, spec, notes)
        except Problem as problem:
            if problem.status != CONFLICT or mark not in notes:
                raise
            request = self._custom.get_namespaced_custom_object(
                namespace=namespace, name=name, _request_timeout=self._cluster.timeout, **_COORDINATES
            )
            metadata = (await self._cluster.ask(request))["metadata"]
            if (metadata.get("annotations") or {}).get(mark) != notes[mark]:
                raise
            return str(metadata["uid"])

    async def change(self, namespace: str, name: str, uid: str, spec: Mapping[str, Any], notes: dict[str, str]) -> None:
        """Merge into the spec of this very resource, not of one of the same name that came later. Raises `Problem`."""
        request = self._custom.patch_namespaced_custom_object(
            namespace=namespace,
            name=name,
            body={"metadata": {"uid": uid, "annotations": notes}, "spec": dict(spec)},
            _content_type=MERGE_PATCH,
            _request_timeout=self._cluster.timeout,
            **_COORDINATES,
        )
        await self._cluster.ask(request)
