"""The few requests that the operator makes to the API server, each under a timeout and counted."""

import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from joblease.errors import TransientError
from joblease.jobrequest import GROUP, PLURAL, VERSION
from joblease.kube import connect
from kubernetes.aio import client
from kubernetes.aio.client import ApiException

from joblease_operator.metrics import API_WRITES

if TYPE_CHECKING:
    from joblease_operator.job import Body, Job
    from joblease_operator.settings import OperatorSettings

JSON_PATCH = "application/json-patch+json"
PAGE = 100
"""JobRequests of one answer: it is parsed in one go, and nothing else runs meanwhile."""
NOT_FOUND, CONFLICT, INVALID = 404, 409, 422
_WHERE: dict[str, Any] = {"group": GROUP, "version": VERSION, "plural": PLURAL}


class Gone(Exception):
    """The resource does not exist any more: the API server says so."""


class Conflict(Exception):
    """The resource was changed by somebody else in the meantime."""


class JobRequests:
    """Lists and writes `JobRequest`s."""

    def __init__(self, settings: "OperatorSettings") -> None:
        self._settings = settings
        self._timeout = settings.operator_api_timeout_seconds
        self._api: Any = None

    async def connect(self) -> None:
        """Use the pod's service account, or else the kubeconfig."""
        self._client = await connect()
        self._api = client.CustomObjectsApi(self._client)

    async def close(self) -> None:
        """Close the connections."""
        if self._api:
            await self._client.close()

    async def look(self) -> None:
        """Read one `JobRequest`, or that there is none. Raises whatever keeps the API server from serving them.

        An API server that has just been started serves them for a moment before it says that it does.
        """
        await self._page(self._namespaces[0], limit=1)
        groups = await client.ApisApi(self._client).get_api_versions(_request_timeout=self._timeout)
        if GROUP not in {each.name for each in groups.groups}:
            raise TransientError(f"the API server does not list the group {GROUP} yet")
        found = await self._api.get_api_resources(GROUP, VERSION, _request_timeout=self._timeout)
        if PLURAL not in {each.name for each in found.resources}:
            raise TransientError(f"the API server does not list {PLURAL} of {GROUP}/{VERSION} yet")

    async def count(self) -> int:
        """How many there are in the namespaces that are served, at the price of reading one of each."""
        total = 0
        for namespace in self._namespaces:
            page = await self._page(namespace, limit=1)
            total += len(page["items"]) + int(page["metadata"].get("remainingItemCount") or 0)
        return total

    async def everything(self) -> AsyncIterator["Body"]:
        """All `JobRequest`s of the namespaces that are served."""
        for namespace in self._namespaces:
            token: str | None = None
            while True:
                page = await self._page(namespace, limit=PAGE, **({"_continue": token} if token else {}))
                for body in page["items"]:
                    yield body
                token = page["metadata"].get("continue")
                if not token:
                    break

    async def exists(self, namespace: str, name: str, uid: str) -> bool:
        """Whether this very resource is there. Raises when the API server does not say so, or cannot be asked."""
        try:
            body = await self._api.get_namespaced_custom_object(
                **_WHERE, namespace=namespace, name=name, _request_timeout=self._timeout
            )
        except ApiException as error:
            if says_gone(error, name):
                return False
            raise
        return bool(body["metadata"]["uid"] == uid)

    async def patch_status(self, job: "Job", status: "Body") -> None:
        """Replace the status of this very resource. Raises `Gone` or `Conflict`.

        A JSON patch, because a merge patch would drop every null inside a job's result.
        """
        patch = [
            {"op": "test", "path": "/metadata/uid", "value": job.uid},  # a `replace` would be ignored
            {"op": "add", "path": "/status", "value": status},
        ]
        await self._write("status", self._api.patch_namespaced_custom_object_status, job, JSON_PATCH, body=patch)

    async def delete(self, job: "Job") -> None:
        """Delete this very resource, not one of the same name that came after it. Raises `Gone` or `Conflict`."""
        options = {"preconditions": {"uid": job.uid}, "propagationPolicy": "Background"}
        await self._write("delete", self._api.delete_namespaced_custom_object, job, body=options)

    @property
    def _namespaces(self) -> list[str | None]:
        return [*dict.fromkeys(self._settings.operator_namespaces)] or [None]

    async def _page(self, namespace: str | None, **arguments: Any) -> Any:
        arguments = {**_WHERE, **arguments, "_request_timeout": self._timeout * 4}
        if namespace is None:
            return await self._api.list_cluster_custom_object(**arguments)
        return await self._api.list_namespaced_custom_object(namespace=namespace, **arguments)

    async def _write(
        self, kind: str, request: Any, job: "Job", content_type: str | None = None, **arguments: Any
    ) -> None:
        API_WRITES.labels(kind).inc()
        if content_type:
            arguments["_content_type"] = content_type
        try:
            await request(**_WHERE, namespace=job.namespace, name=job.name, _request_timeout=self._timeout, **arguments)
        except ApiException as error:
            if says_gone(error, job.name):
                raise Gone(job.label) from None
            if error.status == NOT_FOUND:
                raise TransientError("the API server does not serve JobRequests at present") from None
            if error.status in (CONFLICT, INVALID) and not await self.exists(job.namespace, job.name, job.uid):
                raise Gone(job.label) from None
            if error.status == CONFLICT:
                raise Conflict(job.label) from None
            raise


def says_gone(error: ApiException, name: str) -> bool:
    """Whether an error is about this name.

    An API server that does not serve the whole kind for a while (it has just started, or the custom resource is being
    replaced) answers 404 as well, and names nothing. Taking that for a deletion would cancel every job.
    """
    if error.status != NOT_FOUND:
        return False
    try:
        return bool(json.loads(error.body)["details"]["name"] == name)
    except (ValueError, TypeError, KeyError):
        return False
