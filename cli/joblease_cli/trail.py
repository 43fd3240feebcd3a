"""What became of a job whose JobRequest was deleted: from the audit trail, by way of the dashboard's API."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import urllib3

from joblease_cli.failures import CommandError, Exit
from joblease_cli.kube import JobRequests, cause_of, is_job_id

_SECONDS = 30.0
_PAGES = 100
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def of(dashboard: str, jobs: JobRequests, wanted: str) -> dict[str, Any]:
    """The `job` and its `events`, by its id or else by its name, the newest of that name in the namespace."""
    name = wanted.rpartition("/")[2]
    api = _Api(dashboard, jobs)
    job_id = name if is_job_id(name) else _id_of(api, jobs.namespace, name)
    job: dict[str, Any] = {}
    events: list[Any] = []
    for page in api.pages(f"/api/jobs/{job_id}", {}, f"job id {job_id}"):
        job = job or page["job"]
        events += page["events"]
    return {"job": job, "events": events}


def _id_of(api: "_Api", namespace: str, name: str) -> str:
    for page in api.pages("/api/requests", {"namespace": namespace, "name": name}, "list of jobs"):
        for row in page["jobs"]:
            if row["name"] == name:  # the filter takes names that begin so
                return str(row["jobId"])
    raise CommandError(f"no job {name!r} of namespace {namespace!r} in the audit trail either", Exit.NOT_FOUND)


class _Api:
    def __init__(self, dashboard: str, jobs: JobRequests) -> None:
        self._url = dashboard.rstrip("/")
        parts = urlsplit(self._url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise CommandError(f"--dashboard {dashboard}: expected an address (https://…)", Exit.REFUSED)
        # Nobody else is to read the token on its way.
        token = jobs.token() if parts.scheme == "https" or parts.hostname in _LOOPBACK else None
        self._headers = {"Accept": "application/json", **({"Authorization": token} if token else {})}
        self._http = urllib3.PoolManager(timeout=_SECONDS, retries=urllib3.Retry(total=1, redirect=0))

    def pages(self, path: str, query: dict[str, str], what: str) -> Iterator[dict[str, Any]]:
        """A list in all its pages, or an answer that is the only one."""
        for _ in range(_PAGES):
            page = self._get(f"{path}?{urlencode(query)}" if query else path, what)
            yield page
            if not page.get("nextPageToken"):
                return
            query = {**query, "page_token": page["nextPageToken"]}

    def _get(self, path: str, what: str) -> dict[str, Any]:
        address = self._url + quote(path, safe="/?=&%+-._~")
        try:
            answer = self._http.request("GET", address, headers=self._headers)
            content: Any = json.loads(answer.data)
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            said = f"the dashboard {self._url} gives no answer that can be read ({cause_of(error)})"
            raise CommandError(said, Exit.UNAVAILABLE) from None
        if answer.status == 404:
            raise CommandError(f"the audit trail has no {what}, or none that you may see", Exit.NOT_FOUND)
        if answer.status != 200 or not isinstance(content, dict):
            why = content.get("detail") if isinstance(content, dict) else ""
            hint = "" if "Authorization" in self._headers else ". Your kubeconfig has no token that could be sent there"
            raise CommandError(f"the dashboard {self._url} refused ({answer.status}): {why}{hint}", Exit.UNAVAILABLE)
        return content
