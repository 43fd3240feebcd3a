"""What only the dashboard knows, by its API: the audit trail, workers, queues, dead letters.

`joblease.client` asks, with its bounds and its further tries. What goes wrong becomes one line that says which
dashboard was asked, and what to do.
"""

from argparse import Namespace
from collections.abc import Iterator, Mapping
from typing import Any, Self
from urllib.parse import quote, urlsplit

from joblease.client import Client, JobNotFound, NotConfigured, Refused, Unreachable
from joblease.client.errors import of_api_server
from joblease.client.exchange import exchange
from joblease.client.http import LONGEST
from joblease.client.steps import Call

from joblease_cli import output, proxied
from joblease_cli.connection import URL_VARIABLE, meant_by
from joblease_cli.failures import CommandError, Exit
from joblease_cli.kube import JobRequests, is_job_id, name_of

_PAGES = 1_000
_UNBOUND = 600.0
"""Seconds for a request that is to have no bound."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_HINTS = {
    401: ". Pass --dashboard-token, as of `kubectl create token`",
    403: ". Ask for that right on jobrequests.joblease.dev (Kubernetes RBAC)",
}


class Dashboard:
    """A dashboard, asked with the token that was given or the kubeconfig's; its connections end with the block."""

    def __init__(self, options: Namespace) -> None:
        """Look for it, when none is named. Raises `CommandError`."""
        self._without = ""
        self._seconds = min(options.request_timeout or _UNBOUND, LONGEST)
        self._client: Client | proxied.Proxied
        if "://" in (options.dashboard or ""):
            self.where = str(options.dashboard).rstrip("/")
            self._client, self.namespace = self._at(self.where, options)
        else:
            self._client, self.namespace = self._behind_api_server(options)
            self.where = str(self._client)
            if not options.dashboard:
                output.notice(f"dashboard: {self.where}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def _at(self, url: str, options: Namespace) -> tuple[Client, str]:
        """By its address; and the namespace that is meant."""
        token, namespace = options.dashboard_token, options.namespace or "default"
        try:
            jobs = meant_by(options)
        except CommandError as error:
            if options.kubeconfig or options.context:  # somebody wants these
                raise
            self._without = f" (no token of a kubeconfig: {error})"
        else:
            token, namespace = token or self._token(jobs, url), jobs.namespace
        try:
            return Client(
                url, token=token or (lambda: ""), ca=options.dashboard_ca, timeout=self._seconds, plain=not token
            ), namespace
        except NotConfigured as error:
            raise CommandError(f"--dashboard {url}: {error}", Exit.REFUSED) from None

    def _behind_api_server(self, options: Namespace) -> tuple[proxied.Proxied, str]:
        """By its Service; and the namespace that is meant."""
        named = str(options.dashboard or "")
        try:
            jobs = meant_by(options)
        except CommandError as error:
            named = named or f"none is named with --dashboard or {URL_VARIABLE}"
            text = f"no way to the dashboard ({named}) through the API server: {error}"
            raise CommandError(text, error.code) from None
        service = proxied.Service.named(named) if named else proxied.find(jobs, self._seconds)
        if service is None:
            raise CommandError(
                f"--dashboard {named} is neither an address (https://…) nor a Service (NAMESPACE/NAME)", Exit.REFUSED
            )
        return proxied.Proxied(jobs, service, options.dashboard_token or self._token(jobs, jobs.server)), jobs.namespace

    def _token(self, jobs: JobRequests, url: str) -> str:
        """The kubeconfig's, if it has one that may be sent there."""
        found = (jobs.token() or "").removeprefix("Bearer ")
        parts = urlsplit(url)
        if found and not (parts.scheme == "https" or parts.hostname in _LOOPBACK):
            self._without = " (the kubeconfig's token is sent over https only)"
            return ""
        if not found:
            self._without = " (your kubeconfig has no token that could be sent there)"
        return found

    def get(self, path: str, query: Mapping[str, str], what: str) -> dict[str, Any]:
        """An answer. Raises `CommandError`."""
        try:
            found = self._client.run(exchange(Call("GET", path, query, seconds=self._seconds), what))
        except JobNotFound as error:
            raise CommandError(f"{what}: {error.detail}, or none that you may see", Exit.NOT_FOUND) from None
        except Refused as error:
            if of_api_server(error.problem):
                raise CommandError(f"the dashboard {self.where} cannot be asked: {error}", Exit.UNAVAILABLE) from None
            hint = _HINTS.get(error.status, "") + (self._without if error.status == 401 else "")
            wrong = error.status in (400, 422)
            raise CommandError(
                f"the dashboard {self.where} refused ({error.status}) {what}: {error.detail}{hint}",
                Exit.REFUSED if wrong else Exit.UNAVAILABLE,
            ) from None
        except Unreachable as error:
            text = f"the dashboard {self.where} cannot be asked: {error}. Check that it runs, and the address"
            raise CommandError(text, Exit.UNAVAILABLE) from None
        if not isinstance(found, dict):
            raise CommandError(f"{self.where} is no dashboard of JobLease: its answer is no object", Exit.UNAVAILABLE)
        return found

    def rows(self, path: str, query: Mapping[str, str], name: str, what: str) -> Iterator[dict[str, Any]]:
        """A list, the newest first; pages are read as they are needed."""
        asked = dict(query)
        for _ in range(_PAGES):
            page = self.get(path, asked, what)
            yield from page[name]
            if not page.get("nextPageToken"):
                return
            asked["page_token"] = page["nextPageToken"]

    def trail(self, wanted: str) -> dict[str, Any]:
        """The `job` and its `events`, by its id or else by its name, the newest of that name in the namespace."""
        name = name_of(wanted)
        job_id = name if is_job_id(name) else self._id_of(name)
        found: dict[str, Any] = {"job": {}, "events": []}
        after = 0
        while True:
            page = self.get(f"/api/jobs/{quote(job_id)}", {"after": str(after)} if after else {}, f"job id {job_id}")
            found = {"job": page["job"], "events": [*found["events"], *page["events"]]}
            if page.get("next", 0) <= after:
                return found
            after = page["next"]

    def _id_of(self, name: str) -> str:
        query = {"namespace": self.namespace, "name": name, "page_size": "1000"}
        for row in self.rows("/api/requests", query, "jobs", "the list of jobs"):
            if row["name"] == name:  # the filter takes names that begin so
                return str(row["jobId"])
        raise CommandError(f"no job {name!r} of namespace {self.namespace!r} in the audit trail either", Exit.NOT_FOUND)
