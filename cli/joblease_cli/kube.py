"""JobRequests through the Kubernetes API, with every call bounded in time and every failure put into words."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import urllib3
from joblease.jobrequest import GROUP, KIND, PLURAL, VERSION
from kubernetes import client

from joblease_cli.failures import GONE, CommandError, Exit, from_answer
from joblease_cli.job import API_VERSION, Job

MANAGER = "joblease-cli"
PAGE = 500
_SILENCE = 15
"""Seconds for which a watch may be silent beyond its end, when requests have no bound."""
_COORDINATES = {"group": GROUP, "version": VERSION, "plural": PLURAL}
_KINDS = re.compile(rf"(jobrequests?|jr)(\.({re.escape(VERSION)}\.)?{re.escape(GROUP)})?", re.IGNORECASE)
"""What stands before a name and a slash, as kubectl prints and takes it."""
_UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Scope:
    """Which jobs: of one namespace or of all, and those that the selectors take."""

    namespace: str | None = None
    fields: str = ""
    labels: str = ""

    def query(self) -> dict[str, str]:
        """The selectors as arguments of the client."""
        return {
            **({"field_selector": self.fields} if self.fields else {}),
            **({"label_selector": self.labels} if self.labels else {}),
        }


def is_job_id(text: str) -> bool:
    """Whether it is a uid, and not a name."""
    return bool(_UID.fullmatch(text))


def name_of(wanted: str) -> str:
    """The name, or the id, of `name` or `jobrequest…/name`. Raises `CommandError` for something else's name."""
    kind, slash, name = wanted.rpartition("/")
    if not name or (slash and not _KINDS.fullmatch(kind)):
        raise CommandError(f"{wanted!r} names no job; expected NAME or jobrequest/NAME", Exit.REFUSED)
    return name


class JobRequests:
    """The JobRequests of a cluster; `namespace` is the one that commands mean when they name none."""

    def __init__(self, api: Any, namespace: str, timeout: float | None) -> None:
        """A timeout of None is no bound on a request."""
        self._custom = client.CustomObjectsApi(api)
        self.server = str(api.configuration.host)
        self._timeout = timeout
        self.namespace = namespace

    def token(self) -> str | None:
        """What the kubeconfig authenticates with, as a header's value; None when it is no token."""
        configuration = self._custom.api_client.configuration
        found: str | None = configuration.get_api_key_with_prefix("BearerToken")
        return found if found and found.startswith("Bearer ") else None

    def get(self, name: str) -> Job:
        """The job of this name."""
        call = self._custom.get_namespaced_custom_object
        return Job(self._ask(f"get jobrequest {name}", call, **self._here(), name=name))

    def find(self, wanted: str) -> Job:
        """The job of this name, of this `jobrequest…/name`, or with this job id."""
        name = name_of(wanted)
        try:
            return self.get(name)
        except CommandError as error:
            if error.code is not Exit.NOT_FOUND:
                raise
        if is_job_id(name):
            # The API server cannot select by uid, so look through the namespace.
            for job in self.list(Scope(self.namespace))[0]:
                if job.uid == name:
                    return job
        raise CommandError(
            f"no job {name!r} in namespace {self.namespace!r}; `joblease list -A` shows all that there are. "
            f"If it was deleted after its end, its audit trail stays: joblease describe {name} --trail",
            Exit.NOT_FOUND,
        )

    def list(self, scope: Scope) -> tuple[list[Job], str]:
        """All jobs of the scope, read in pages, and the resource version to watch from."""
        found: list[Job] = []
        page: dict[str, Any] = {"limit": PAGE}
        while True:
            try:
                answer = self._list(scope, **page)
            except Gone:
                # The pages' snapshot has expired on the server: once more, in one piece.
                found, page = [], {}
                continue
            found += [Job(item) for item in answer.get("items") or []]
            metadata = answer.get("metadata") or {}
            if not metadata.get("continue"):
                return found, str(metadata.get("resourceVersion", ""))
            page = {"limit": PAGE, "_continue": metadata["continue"]}

    def page(self, scope: Scope, most: int) -> Sequence[Job]:
        """So many jobs of the scope at most, for whom some will do."""
        return [Job(item) for item in self._list(scope, limit=most).get("items") or []]

    def namespaces(self, most: int) -> Sequence[str]:
        """Names of so many namespaces at most."""
        answer = self.raw("/api/v1/namespaces", {"limit": str(most)}, {}, self._timeout)
        return [str(each["metadata"]["name"]) for each in json.loads(answer.read())["items"]]

    def raw(self, path: str, query: Mapping[str, str], headers: Mapping[str, str], seconds: float | None) -> Any:
        """What the API server answers to a `GET`: `status`, `headers` and `read()`. Raises what urllib3 does.

        For what is not ours. Not by CoreV1Api: its module is 4 MB, and whoever presses Tab waits for it.
        """
        api, auth = self._custom.api_client, ["BearerToken"]
        request = api.param_serialize(
            "GET", path, query_params=list(query.items()), header_params=dict(headers), auth_settings=auth
        )
        return api.call_api(*request, _request_timeout=seconds)

    def stream(self, scope: Scope, version: str, seconds: int) -> Iterator[tuple[str, Job]]:
        """The changes since a resource version, as they happen, for so many seconds."""
        answer = self._list(
            scope,
            watch=True,
            resource_version=version,
            allow_watch_bookmarks=True,
            timeout_seconds=seconds,
            _preload_content=False,
            # The server ends the watch in time. If it does not, the connection is dead.
            _request_timeout=(self._timeout or _SILENCE, seconds + (self._timeout or _SILENCE)),
        )
        try:
            for line in answer:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise _failure(event["object"].get("code", 500), json.dumps(event["object"]), "watch jobrequests")
                yield event["type"], Job(event["object"])
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            raise self._unreachable("watch jobrequests", error) from None
        finally:
            answer.close()
            answer.release_conn()

    def create(self, body: dict[str, Any], *, dry_run: bool = False) -> Job:
        """Create a JobRequest in its namespace, or else in ours; `dry_run`: only look whether that can be done."""
        metadata = body["metadata"]
        doing = f"create jobrequest {metadata.get('name') or metadata['generateName'] + '…'}"
        call = self._custom.create_namespaced_custom_object
        where = {**_COORDINATES, "namespace": metadata.get("namespace") or self.namespace}
        how = {"dry_run": "All"} if dry_run else {}
        return Job(self._ask(doing, call, **where, body=body, field_manager=MANAGER, **how))

    def change(self, name: str, spec: dict[str, Any]) -> Job:
        """Merge into the spec of a job."""
        call = self._custom.patch_namespaced_custom_object
        body = {"apiVersion": API_VERSION, "kind": KIND, "spec": spec}
        how = {"field_manager": MANAGER, "_content_type": "application/merge-patch+json"}
        return Job(self._ask(f"patch jobrequest {name}", call, **self._here(), name=name, body=body, **how))

    def _here(self) -> dict[str, str]:
        return {**_COORDINATES, "namespace": self.namespace}

    def _list(self, scope: Scope, **arguments: Any) -> Any:
        doing = "watch jobrequests" if arguments.get("watch") else "list jobrequests"
        if scope.namespace is None:
            call = self._custom.list_cluster_custom_object
            return self._ask(doing, call, **_COORDINATES, **scope.query(), **arguments)
        call = self._custom.list_namespaced_custom_object
        return self._ask(doing, call, **_COORDINATES, namespace=scope.namespace, **scope.query(), **arguments)

    def _ask(self, doing: str, call: Callable[..., Any], **arguments: Any) -> Any:
        try:
            return call(**{"_request_timeout": self._timeout, **arguments})
        except client.ApiException as error:
            if not error.status:
                raise self._unreachable(doing, error) from None
            raise _failure(error.status, error.body, doing) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._unreachable(doing, error) from None

    def _unreachable(self, doing: str, error: Exception) -> CommandError:
        return CommandError(
            f"cannot {doing}: the API server {self.server} does not answer ({cause_of(error)}). "
            "Check that it runs, and which cluster your kubeconfig means (--kubeconfig, --context)",
            Exit.UNAVAILABLE,
        )


def cause_of(error: Exception) -> str:
    """What happened to a connection; urllib3 puts the connection object and its retries before it."""
    cause: object = getattr(error, "reason", None) or error
    return str(cause).rpartition(">: ")[2].rpartition("): ")[2] or type(cause).__name__


class Gone(CommandError):
    """The server no longer has that resource version; list again."""


def _failure(status: int, body: str | bytes | None, doing: str) -> CommandError:
    failure = from_answer(status, body, doing)
    return Gone(str(failure), failure.code) if status == GONE else failure
