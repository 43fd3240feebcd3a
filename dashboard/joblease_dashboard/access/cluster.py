"""What the dashboard asks of the API server: whose token it is, and what somebody may do.

It acts with its own account, after asking whether the user may do the same. So a user needs no more than RBAC on
`jobrequests`, however they were recognised, and the dashboard can never do more than its own role allows.
"""

import hashlib
import json
import time
from collections import OrderedDict
from typing import Any

from joblease.jobrequest import GROUP, PLURAL
from joblease.kube import connect
from kubernetes.aio import client
from kubernetes.aio.client import ApiException

from joblease_dashboard.access.identity import Identity
from joblease_dashboard.problems import Problem

REVIEW_SECONDS = 30.0
REMEMBERED = 10_000


class Cluster:
    """Use `open` to connect."""

    def __init__(self, api: Any, timeout: float) -> None:
        self.api = api
        self.timeout = timeout
        """Seconds for each request."""
        self._authentication = client.AuthenticationV1Api(api)
        self._authorization = client.AuthorizationV1Api(api)
        self._remembered: OrderedDict[object, tuple[float, Any]] = OrderedDict()

    @classmethod
    async def open(cls, timeout_seconds: float) -> "Cluster":
        """Connect with the pod's account or the kubeconfig. Raises `ConfigException` when there is neither."""
        return cls(await connect(), timeout_seconds)

    async def close(self) -> None:
        """Close the connections."""
        await self.api.close()

    def knows(self, token: str) -> bool:
        """Whether `who` can tell without asking the API server."""
        return self._recall(_key(token)) is not None

    async def who(self, token: str) -> Identity | None:
        """Whose token it is, or None when it is nobody's. Raises `Problem`."""
        key = _key(token)
        if (known := self._recall(key)) is not None:
            found: Identity | None = known[0]
            return found
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        answer = await self.ask(self._authentication.create_token_review(review, _request_timeout=self.timeout))
        identity = None
        if answer.status.authenticated:
            identity = Identity(answer.status.user.username, tuple(answer.status.user.groups or ()))
        self._remember(key, (identity,))
        return identity

    async def may(self, identity: Identity, verb: str, namespace: str) -> bool:
        """Whether somebody may do this to `JobRequest`s of a namespace; "" means all of them. Raises `Problem`."""
        key = (identity, verb, namespace)
        if (known := self._recall(key)) is not None:
            return bool(known)
        attributes = {"group": GROUP, "resource": PLURAL, "verb": verb, "namespace": namespace}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": identity.user, "groups": list(identity.groups), "resourceAttributes": attributes},
        }
        request = self._authorization.create_subject_access_review(review, _request_timeout=self.timeout)
        allowed = bool((await self.ask(request)).status.allowed)
        self._remember(key, allowed)
        return allowed

    async def ask(self, request: Any) -> Any:
        """Await a request of the Kubernetes client. Raises `Problem` for whatever is not a success."""
        try:
            return await request
        except ApiException as error:
            said = _message(error)
            if error.status in (400, 404, 409, 422):
                raise Problem(error.status, "Kubernetes refuses", said) from None
            if error.status in (401, 403):
                raise Problem(
                    502, "The dashboard lacks a right", f"its own account is refused by the API server: {said}"
                ) from None
            raise Problem(503, "Kubernetes does not answer", f"the API server has a problem: {said}") from None
        except (OSError, TimeoutError) as error:
            raise Problem(
                503,
                "Kubernetes does not answer",
                f"the API server cannot be reached ({type(error).__name__}); try again",
            ) from None

    def _recall(self, key: object) -> Any:
        until, value = self._remembered.get(key, (0.0, None))
        return value if until > time.monotonic() else None

    def _remember(self, key: object, value: Any) -> None:
        self._remembered[key] = (time.monotonic() + REVIEW_SECONDS, value)
        if len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)


def _key(token: str) -> tuple[str, str]:
    return "token", hashlib.sha256(token.encode()).hexdigest()


def _message(error: ApiException) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason)
