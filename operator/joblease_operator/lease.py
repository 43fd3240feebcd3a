"""The Kubernetes Lease that says which operator leads, as objects of the API server.

It is read and written over a connection of its own: a renewal must not stand in line behind the status writes of
thousands of jobs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from joblease.errors import TransientError
from joblease.kube import connect
from kubernetes.aio import client
from kubernetes.aio.client import ApiException

from joblease_operator.kube import CONFLICT, NOT_FOUND, says_gone

if TYPE_CHECKING:
    from joblease_operator.settings import OperatorSettings

LONGEST_LEASE_SECONDS = 60
"""No operator's is longer. A record that says more was made by something else, and must not keep all waiting."""


class Changed(Exception):
    """Somebody else has written it since it was read."""


@dataclass(frozen=True, slots=True)
class Found:
    """The Lease as it was read. Whoever made it, it may say anything that the API server lets pass, or nothing."""

    body: Mapping[str, Any] = field(default_factory=dict)
    """The object; empty when there is none."""

    @property
    def spec(self) -> Mapping[str, Any]:
        """The record."""
        return self.body.get("spec") or {}

    @property
    def holder(self) -> str:
        """Who leads, or has led; empty when it was released."""
        return self.spec.get("holderIdentity") or ""

    @property
    def seconds(self) -> int | None:
        """How long it is the holder's after a renewal, by what the holder says, if it says so."""
        said = self.spec.get("leaseDurationSeconds")
        return min(said, LONGEST_LEASE_SECONDS) if said else None

    @property
    def transitions(self) -> int:
        """How often the lead has changed hands."""
        return self.spec.get("leaseTransitions") or 0

    @property
    def version(self) -> int:
        """Rises with each write, also when it was deleted and made anew (the resourceVersion; KEP-5504)."""
        text = self.body["metadata"]["resourceVersion"]
        return int(text) if text.isdecimal() else 0


class Lease:
    """One Lease. Connect before use."""

    def __init__(self, settings: "OperatorSettings") -> None:
        self._name = settings.operator_lease_name
        self._where: dict[str, Any] = {
            "group": "coordination.k8s.io", "version": "v1", "plural": "leases",
            "namespace": settings.operator_lease_namespace, "_request_timeout": settings.operator_renew_seconds,
        }  # fmt: skip
        self._client: Any = None

    def __str__(self) -> str:
        return f"the Lease {self._where['namespace']}/{self._name}"

    async def connect(self) -> None:
        """Use the pod's service account, or else the kubeconfig."""
        self._client = await connect()
        self._api = client.CustomObjectsApi(self._client)

    async def close(self) -> None:
        """Close the connections."""
        if self._client:
            await self._client.close()

    async def read(self) -> Found:
        """Raises what keeps it from being read; that it does not exist is an answer."""
        try:
            return Found(await self._api.get_namespaced_custom_object(**self._where, name=self._name))
        except ApiException as error:
            if says_gone(error, self._name):
                return Found()
            raise

    async def write(self, found: Found, spec: Mapping[str, Any]) -> Found:
        """Put a record in the place of the one that was found, and leave labels and annotations. Raises `Changed`."""
        try:
            if not found.body:
                body = {
                    "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": self._name},
                    "spec": spec,
                }  # fmt: skip
                return Found(await self._api.create_namespaced_custom_object(**self._where, body=body))
            body = {**found.body, "spec": spec}
            return Found(await self._api.replace_namespaced_custom_object(**self._where, name=self._name, body=body))
        except ApiException as error:
            if error.status == CONFLICT or (found.body and says_gone(error, self._name)):
                raise Changed(f"{self} was written by somebody else") from None
            if error.status == NOT_FOUND:
                raise TransientError("its namespace does not exist") from None
            raise
