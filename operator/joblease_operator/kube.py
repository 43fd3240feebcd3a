"""The few requests that the operator makes to the API server, each under a timeout and counted."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from joblease.kube import connect
from joblease.resource import GROUP, PLURAL, VERSION
from kubernetes.aio import client
from kubernetes.aio.client import ApiException

from joblease_operator.metrics import API_WRITES

if TYPE_CHECKING:
    from joblease_operator.job import Body, Job
    from joblease_operator.settings import OperatorSettings

JSON_PATCH = "application/json-patch+json"
PAGE = 500
NOT_FOUND, CONFLICT = 404, 409


class Gone(Exception):
    """The resource does not exist any more."""


class Conflict(Exception):
    """The resource was changed by somebody else in the meantime."""


class JobRequests:
    """Lists and writes `JobRequest`s."""

    def __init__(self, settings: "OperatorSettings") -> None:
        self._settings = settings
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
        """Read one `JobRequest`, or that there is none. Raises whatever keeps the API server from serving them."""
        where: dict[str, Any] = {"group": GROUP, "version": VERSION, "plural": PLURAL, "limit": 1}
        timeout = self._settings.operator_api_timeout_seconds
        if namespaces := self._settings.operator_namespaces:
            await self._api.list_namespaced_custom_object(namespace=namespaces[0], **where, _request_timeout=timeout)
        else:
            await self._api.list_cluster_custom_object(**where, _request_timeout=timeout)

    async def everything(self) -> AsyncIterator["Body"]:
        """All `JobRequest`s of the namespaces that are served."""
        namespaces: list[str | None] = [*self._settings.operator_namespaces]
        for namespace in namespaces or [None]:
            token: str | None = None
            while True:
                where: dict[str, Any] = {"group": GROUP, "version": VERSION, "plural": PLURAL, "limit": PAGE}
                where |= {"_continue": token} if token else {}
                timeout = self._settings.operator_api_timeout_seconds * 4
                if namespace is None:
                    page = await self._api.list_cluster_custom_object(**where, _request_timeout=timeout)
                else:
                    page = await self._api.list_namespaced_custom_object(
                        namespace=namespace, **where, _request_timeout=timeout
                    )
                for body in page["items"]:
                    yield body
                token = page["metadata"].get("continue")
                if not token:
                    break

    async def patch_status(self, job: "Job", status: "Body") -> None:
        """Replace the status of this very resource. Raises `Gone`, or `Conflict` when it is another of that name.

        A JSON patch, because a merge patch would drop every null inside a job's result.
        """
        patch = [
            {"op": "replace", "path": "/metadata/uid", "value": job.uid},
            {"op": "add", "path": "/status", "value": status},
        ]
        await self._write("status", self._api.patch_namespaced_custom_object_status, job, JSON_PATCH, body=patch)

    async def delete(self, job: "Job") -> None:
        """Delete this very resource, not one of the same name that came after it. Raises `Gone` or `Conflict`."""
        options = {"preconditions": {"uid": job.uid}, "propagationPolicy": "Background"}
        await self._write("delete", self._api.delete_namespaced_custom_object, job, body=options)

    async def _write(
        self, kind: str, request: Any, job: "Job", content_type: str | None = None, **arguments: Any
    ) -> None:
        API_WRITES.labels(kind).inc()
        if content_type:
            arguments["_content_type"] = content_type
        try:
            await request(
                group=GROUP,
                version=VERSION,
                plural=PLURAL,
                namespace=job.namespace,
                name=job.name,
                _request_timeout=self._settings.operator_api_timeout_seconds,
                **arguments,
            )
        except ApiException as error:
            if error.status == NOT_FOUND:
                raise Gone(job.label) from None
            if error.status == CONFLICT:
                raise Conflict(job.label) from None
            raise
