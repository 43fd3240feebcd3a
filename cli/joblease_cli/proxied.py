"""The dashboard by way of the API server, whose proxy leads to its Service: no address has to lead there.

The API server wants `get` on `services/proxy`, and keeps the credentials of a request for itself; so the token for the
dashboard goes in a header of its own.
"""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import urllib3
from joblease.client.place import PROXIED_TOKEN
from joblease.client.steps import Answer, Call, Lost, Pause, Steps
from kubernetes import client

from joblease_cli.failures import CommandError, Exit
from joblease_cli.kube import JobRequests, cause_of

T = TypeVar("T")
OK = 200
LABEL, BASE_PATH = "joblease.dev/serves=dashboard", "joblease.dev/base-path"
"""By which the chart lets its dashboards be found, and what it says of one."""
PORT = "http"
_NAMED = re.compile(
    r"(?P<namespace>[a-z0-9-]+)/(?P<name>[a-z0-9.-]+)(:(?P<port>[a-z0-9-]+))?(?P<base>(/[\w~-][\w.~-]*)*)/?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Service:
    """A dashboard's, in the cluster."""

    namespace: str
    name: str
    base: str = ""
    """The path below which it serves."""
    port: str = PORT

    @classmethod
    def named(cls, text: str) -> Self | None:
        """That of `NAMESPACE/SERVICE[:PORT][/BASE]`; None when this is none."""
        found = _NAMED.fullmatch(text)
        return cls(found["namespace"], found["name"], found["base"], found["port"] or PORT) if found else None

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def path(self) -> str:
        """Where the API server has it."""
        return f"/api/v1/namespaces/{self.namespace}/services/{self.name}:{self.port}/proxy{self.base}"


USUAL = Service("joblease", "joblease-dashboard")
"""Of a release `joblease` in a namespace `joblease`, as the installation guide has it."""


class Proxied:
    """A client of the dashboard behind a Service, with the kubeconfig's credentials for the API server."""

    def __init__(self, jobs: JobRequests, service: Service, token: str) -> None:
        """`token` is for the dashboard."""
        self._jobs = jobs
        self._service = service
        self._headers = {"Accept": "application/json", **({PROXIED_TOKEN: f"Bearer {token}"} if token else {})}

    def __str__(self) -> str:
        return f"{self._service}, through the API server {self._jobs.server}"

    def run(self, steps: Steps[T]) -> T:
        """Take all steps of an `exchange`; what comes of them."""
        answer: Answer | None = None
        lost: Lost | None = None
        while True:
            try:
                step = steps.throw(lost) if lost else steps.send(answer)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            answer = lost = None
            if isinstance(step, Call):
                try:
                    answer = _get(self._jobs, self._service.path + step.path, step.query, self._headers, step.seconds)
                except Lost as error:
                    lost = error
            elif isinstance(step, Pause):
                time.sleep(step.seconds)

    def close(self) -> None:
        """Nothing is kept open."""


def find(jobs: JobRequests, seconds: float) -> Service:
    """The cluster's only dashboard, or the usual one for whoever may not look for it. Raises `CommandError`."""
    try:
        answer = _get(jobs, "/api/v1/services", {"labelSelector": LABEL}, {}, seconds)
    except Lost as error:
        text = f"no dashboard is named, and none can be found: the API server {jobs.server} does not answer ({error})"
        raise CommandError(text, Exit.UNAVAILABLE) from None
    if answer.status != OK:
        return USUAL
    found = [_service(each["metadata"]) for each in answer.json()["items"]]
    if len(found) == 1:
        return found[0]
    several = f"the cluster has several: {', '.join(map(str, found))}"
    where = several if found else "the cluster has none that the chart made"
    raise CommandError(
        f"no dashboard is named, and {where}. Pass --dashboard https://… or --dashboard NAMESPACE/SERVICE "
        f"(that of `make up` is http://127.0.0.1:8080)",
        Exit.REFUSED,
    )


def _service(metadata: Mapping[str, Any]) -> Service:
    base = (metadata.get("annotations") or {}).get(BASE_PATH, "")
    return Service(metadata["namespace"], metadata["name"], base)


def _get(jobs: JobRequests, path: str, query: Mapping[str, str], headers: Mapping[str, str], seconds: float) -> Answer:
    try:
        answer = jobs.raw(path, query, headers, seconds)
        return Answer(answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read())
    except (urllib3.exceptions.HTTPError, client.ApiException, OSError) as error:
        raise Lost(cause_of(error)) from None
