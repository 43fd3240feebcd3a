"""What the dashboard asks of the API server: who somebody is, what they may do, and what they want done.

Everything is asked with the caller's own token, as `kubectl` would. So the API server's audit log names the person, and
admission policies and scoped tokens hold. The dashboard's own account asks where there is no token: in the name of whom
an authenticating proxy names (impersonation), or for everybody who is at this machine (mode `none`).
"""

import contextlib
import copy
import hashlib
import json
import re
from typing import Any

from aiohttp import ClientError
from cachetools import TTLCache
from joblease.jobrequest import GROUP, PLURAL
from joblease.kube import configure
from joblease.limits import DNS_LABEL
from kubernetes.aio import client
from multidict import CIMultiDict

from joblease_dashboard.access.identity import Identity
from joblease_dashboard.access.once import Once
from joblease_dashboard.problems import Problem

REVIEW_SECONDS = 15.0
"""How long an answer about somebody is believed."""
REMEMBERED = 10_000
TOKEN = re.compile(r"[!-~]{1,16384}")
"""What can be sent as one, in a header."""
JSON, MERGE_PATCH = "application/json", "application/merge-patch+json"
_SELF_REVIEW = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
_ACCESS_REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
UNAUTHORIZED, FORBIDDEN, TOO_MANY = 401, 403, 429


class Cluster:
    """Use `open` to connect."""

    def __init__(self, configuration: Any, timeout: float) -> None:
        bare = copy.copy(configuration)  # with a certificate, the API server would not look at the caller's token
        bare.api_key, bare.refresh_api_key_hook = {}, None
        bare.cert_file = bare.key_file = bare.username = bare.password = None
        self._own, self._bare = client.ApiClient(configuration), client.ApiClient(bare)
        self._host: str = configuration.host.rstrip("/")
        self._timeout = timeout
        self._reviews: Once[Identity | None] = Once()
        self._access_reviews: Once[bool] = Once()
        self._people: TTLCache[str, Identity | None] = TTLCache(REMEMBERED, REVIEW_SECONDS)
        self._rights: TTLCache[tuple[Identity, str, str], bool] = TTLCache(REMEMBERED, REVIEW_SECONDS)

    @classmethod
    async def open(cls, timeout_seconds: float) -> "Cluster":
        """Connect with the pod's account or the kubeconfig. Raises `ConfigException` when there is neither."""
        return cls((await configure())[0], timeout_seconds)

    async def close(self) -> None:
        """Close the connections."""
        await self._own.close()
        await self._bare.close()

    def knows(self, token: str) -> bool:
        """Whether `who` can tell without asking the API server."""
        return _digest(token) in self._people

    async def who(self, token: str) -> Identity | None:
        """Whose token it is, or None when it is nobody's. Raises `Problem`."""
        key = _digest(token)
        if not TOKEN.fullmatch(token):
            return None
        with contextlib.suppress(KeyError):
            return self._people[key]
        found = self._people[key] = await self._reviews.do(key, lambda: self._review(token))
        return found

    async def _review(self, token: str) -> Identity | None:
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        try:
            answer = await self.request(Identity("", token=token), "POST", _SELF_REVIEW, review)
        except Problem as problem:
            if problem.status != UNAUTHORIZED:
                raise
            return None
        found = answer["status"]["userInfo"]
        return Identity(found["username"], tuple(found.get("groups") or ()), token)

    async def may(self, who: Identity, verb: str, namespace: str) -> bool:
        """Whether somebody may do this to `JobRequest`s of a namespace; "" means all of them. Raises `Problem`."""
        if namespace and not DNS_LABEL.fullmatch(namespace):
            raise Problem(
                400, "Bad namespace", "a namespace's name has small letters, a to z, digits and -, 63 at most"
            )
        key = who, verb, namespace
        with contextlib.suppress(KeyError):
            return self._rights[key]
        allowed = self._rights[key] = await self._access_reviews.do(
            key, lambda: self._review_right(who, verb, namespace)
        )
        return allowed

    async def _review_right(self, who: Identity, verb: str, namespace: str) -> bool:
        attributes = {"group": GROUP, "resource": PLURAL, "verb": verb, "namespace": namespace}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        answer = await self.request(who, "POST", _ACCESS_REVIEW, review)
        return bool(answer["status"]["allowed"])

    async def request(self, who: Identity, method: str, path: str, body: Any = None, content_type: str = JSON) -> Any:
        """Ask the API server in somebody's name; the JSON of its answer. Raises `Problem` for all but a success."""
        headers: CIMultiDict[str] = CIMultiDict({"Accept": JSON, "Content-Type": content_type})
        api = self._bare if who.token else self._own
        if who.token:
            headers["Authorization"] = f"Bearer {who.token}"
        else:
            own: dict[str, str] = {}
            await api.update_params_for_auth(own, [], ["BearerToken"], path, method, body)
            headers.update({name.title(): value for name, value in own.items()})
        if who.impersonated:
            headers.add("Impersonate-User", who.user)
            for group in who.groups:
                headers.add("Impersonate-Group", group)
        try:
            answer = await api.rest_client.request(
                method, self._host + path, headers=headers, body=body, _request_timeout=self._timeout
            )
            status, said = answer.status, json.loads(await answer.read())
        except (OSError, TimeoutError, ValueError, ClientError) as error:
            raise Problem(
                503,
                "Kubernetes does not answer",
                f"the API server cannot be reached ({type(error).__name__}); try again",
            ) from None
        if status >= 300:
            raise _problem(status, said, who)
        return said


def _problem(status: int, answer: dict[str, Any], who: Identity) -> Problem:
    said = str(answer.get("message") or status)
    if status in (400, 404, 409, 422):
        causes = (answer.get("details") or {}).get("causes") or [{}]
        field = causes[0].get("field")
        return Problem(status, "Kubernetes refuses", said, **({"field": field} if field else {}))
    if status == TOO_MANY:
        return Problem(status, "Kubernetes is busy", said, retryAfterSeconds=1)
    if status in (UNAUTHORIZED, FORBIDDEN) and not who.token and (not who.impersonated or "impersonate" in said):
        return Problem(502, "The dashboard lacks a right", f"its own account is refused by the API server: {said}")
    if status == UNAUTHORIZED:
        return Problem(status, "Who are you?", "the API server does not accept this token any more: sign in again")
    if status == FORBIDDEN:
        return Problem(status, "Not allowed", said)
    return Problem(503, "Kubernetes does not answer", f"the API server has a problem: {said}")


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
