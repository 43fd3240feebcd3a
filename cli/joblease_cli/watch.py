"""Following jobs without missing a change, whatever happens to the connection.

A watch is asked for in short pieces, each continuing where the last one ended: a connection that died silently is
noticed soon, and the caller gets a moment now and then in which nothing has happened. When the server has forgotten
where we were (410), everything is listed again and the differences are told as if they had been watched.
"""

import time
from collections.abc import Iterator
from typing import NamedTuple

from joblease_cli import output
from joblease_cli.failures import CommandError, Exit
from joblease_cli.job import Job
from joblease_cli.kube import Gone, JobRequests, Scope

PIECE = 15
PATIENCE = 300
"""Seconds for which an API server that went away is waited for."""


class Change(NamedTuple):
    """A job that is new or changed, or that is gone."""

    job: Job
    deleted: bool = False


class _Trouble:
    """Decides how long a server that does not answer is given."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._pause = 0.5

    def over(self) -> None:
        self._since, self._pause = None, 0.5

    def met(self, error: CommandError) -> float:
        """Seconds to wait before trying again; raises the error when it lasts too long."""
        if error.code is not Exit.UNAVAILABLE:
            raise error
        if self._since is None:
            self._since = time.monotonic()
            output.notice(f"{error}. Trying again")
        if time.monotonic() - self._since > PATIENCE:
            raise error
        self._pause = min(self._pause * 2, 10)
        return self._pause


def changes(jobs: JobRequests, scope: Scope, deadline: float | None = None) -> Iterator[list[Change]]:
    """First all jobs of the scope (a first failure is raised), then the changes; an empty list when nothing happens.

    Raises `CommandError` with `Exit.TIMEOUT` when the deadline (of `time.monotonic`) has passed.
    """
    listing, version = jobs.list(scope)
    known = {job.uid: job for job in listing}
    yield [Change(job) for job in listing]
    trouble = _Trouble()
    while True:
        remaining = PIECE if deadline is None else deadline - time.monotonic()
        if remaining <= 0:
            raise CommandError("the time of --timeout has passed", Exit.TIMEOUT)
        try:
            if not version:
                listing, version = jobs.list(scope)
                found = {job.uid: job for job in listing}
                yield [Change(job, deleted=True) for uid, job in known.items() if uid not in found] + [
                    Change(job) for job in listing if job.uid not in known or known[job.uid].version != job.version
                ]
                known = found
            for kind, job in jobs.stream(scope, version, max(1, min(PIECE, round(remaining)))):
                version = job.version
                if kind == "DELETED":
                    known.pop(job.uid, None)
                    yield [Change(job, deleted=True)]
                elif kind != "BOOKMARK":
                    known[job.uid] = job
                    yield [Change(job)]
            trouble.over()
        except Gone:
            version = ""
        except CommandError as error:
            pause = trouble.met(error)
            time.sleep(pause if deadline is None else max(0, min(pause, deadline - time.monotonic())))
        yield []


def states(jobs: JobRequests, job: Job, deadline: float | None = None) -> Iterator[Job]:
    """The job now, after each change, and at times when nothing has changed; ends with the job.

    Raises `CommandError` when the job is deleted or the deadline passes.
    """
    scope = Scope(job.namespace, fields=f"metadata.name={job.name}")
    for first, batch in enumerate(changes(jobs, scope, deadline)):
        own = [change for change in batch if change.job.uid == job.uid]
        if any(change.deleted for change in own) or (first == 0 and not own):
            raise CommandError(
                f"job {job.name!r} was deleted; its audit trail stays under job id {job.uid}", Exit.NOT_FOUND
            )
        for change in own:
            job = change.job
        yield job
        if job.ended:
            return
