"""JobRequests through the API server, as kubectl makes and reads them."""

import asyncio
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kubernetes import client, config

COORDINATES = {"group": "joblease.dev", "version": "v1alpha1", "plural": "jobrequests"}


class Cluster:
    """JobRequests of one namespace."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self._api = client.CustomObjectsApi(config.new_client_from_config(str(kubeconfig)))
        self._where: dict[str, Any] = {**COORDINATES, "namespace": namespace}
        self.namespace = namespace

    def create(
        self,
        handler: str = "noop",
        name: str | None = None,
        annotations: Mapping[str, str] | None = None,
        **spec: Any,
    ) -> str:
        """Create a JobRequest; `spec` in camel case. Returns its name."""
        name = name or f"{handler}-{secrets.token_hex(3)}"
        self.create_object({"name": name, "annotations": dict(annotations or {})}, {"handler": handler, **spec})
        return name

    def create_object(self, metadata: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
        """Create a JobRequest with more than a name; the object as the API server has it."""
        body = {"apiVersion": "joblease.dev/v1alpha1", "kind": "JobRequest", "metadata": metadata, "spec": spec}
        created: dict[str, Any] = self._api.create_namespaced_custom_object(
            **self._where, body=body, _request_timeout=10
        )
        return created

    def send(self, method: str, body: str) -> None:
        """A request about this namespace's JobRequests with a body that is sent as it is."""
        api = self._api.api_client
        authorization = str(api.configuration.get_api_key_with_prefix("BearerToken"))
        answer = api.rest_client.pool_manager.request(
            method,
            f"{api.configuration.host}/apis/joblease.dev/v1alpha1/namespaces/{self.namespace}/jobrequests",
            headers={"Content-Type": "application/json", "Authorization": authorization},
            body=body.encode(),
        )
        assert answer.status < 300, answer.data

    def get(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self._api.get_namespaced_custom_object(**self._where, name=name, _request_timeout=10)
        return found

    def all(self) -> list[dict[str, Any]]:
        found: dict[str, Any] = self._api.list_namespaced_custom_object(**self._where, _request_timeout=10)
        items: list[dict[str, Any]] = found["items"]
        return items

    def exists(self, name: str) -> bool:
        try:
            self.get(name)
        except client.ApiException as error:
            if error.status == 404:
                return False
            raise
        return True

    def change(self, name: str, **spec: Any) -> None:
        """Merge into the spec."""
        self._api.patch_namespaced_custom_object(**self._where, name=name, body={"spec": spec}, _request_timeout=10)

    def change_status(self, name: str, status: Mapping[str, Any]) -> None:
        """Merge into the status."""
        patch = self._api.patch_namespaced_custom_object_status
        patch(**self._where, name=name, body={"status": status}, _request_timeout=10)

    def delete(self, name: str) -> None:
        self._api.delete_namespaced_custom_object(**self._where, name=name, _request_timeout=10)

    def condition(self, name: str) -> Mapping[str, Any]:
        """The condition `Succeeded`, or an empty one."""
        conditions = self.get(name).get("status", {}).get("conditions", [])
        return next((each for each in conditions if each["type"] == "Succeeded"), {})

    async def reaches(self, name: str, *reasons: str, timeout: float = 30) -> dict[str, Any]:
        """Wait until the condition has one of the reasons; the whole object."""
        try:
            async with asyncio.timeout(timeout):
                while (await asyncio.to_thread(self.condition, name)).get("reason") not in reasons:
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"{name} did not reach {reasons}: {self.get(name).get('status')}") from None
        return await asyncio.to_thread(self.get, name)
