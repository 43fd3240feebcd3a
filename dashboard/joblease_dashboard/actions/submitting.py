"""The one way in which the dashboard makes a `JobRequest`: of a form, of a program, of many at once, or a retry.

A submission that names itself (`submission_id`) is made once, however often it is sent: its name comes from that id, an
annotation says what was in it, and the API server lets a name be taken once. That holds as long as the `JobRequest`
exists; an idempotency key (`spec.key`) is remembered as long as the trail (`keyed`).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from joblease.jobrequest import GROUP
from joblease.names import job_name

from joblease_dashboard.access.identity import identity
from joblease_dashboard.actions.resources import CONFLICT
from joblease_dashboard.problems import Problem

if TYPE_CHECKING:
    from starlette.requests import Request

    from joblease_dashboard.access.access import Access
    from joblease_dashboard.actions.keyed import Keyed
    from joblease_dashboard.actions.resources import Resources

BY = f"{GROUP}/requested-by"
SUBMISSION = f"{GROUP}/submission"
"""Annotation: marks which submission has created a job, so that the same one never creates another."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job that is there now."""

    job_id: str
    namespace: str
    name: str
    handler: str
    created: bool
    """Whether it was made just now; otherwise an earlier try of the same submission has made it."""
    key: str | None = None

    def fields(self) -> dict[str, Any]:
        """As the API says it."""
        return {
            "jobId": self.job_id, "namespace": self.namespace, "name": self.name, "handler": self.handler,
            **({"key": self.key} if self.key else {}), "created": self.created,
        }  # fmt: skip


class Submitting:
    """Makes jobs in the name of whoever asks."""

    def __init__(self, access: "Access", resources: "Resources", keyed: "Keyed") -> None:
        self._access = access
        self._resources = resources
        self._keyed = keyed

    async def submitted(self, namespace: str, spec: Mapping[str, Any]) -> bool:
        """Whether the spec has a key that has its job. Raises `AzureError`."""
        return bool(spec.get("key")) and await self._keyed.submitted(namespace, spec)

    async def submit(
        self,
        request: "Request",
        namespace: str,
        name: str,
        labels: Mapping[str, str],
        notes: Mapping[str, str],
        spec: Mapping[str, Any],
        submission_id: str = "",
    ) -> Submitted:
        """Make a job, or find the one that the same submission has made. Raises `Problem`.

        An empty name is made up; `notes` become annotations.
        """
        await self._access.require(request, "create", namespace)
        who, handler = identity(request), str(spec["handler"])
        notes = {**notes, BY: who.user}
        if spec.get("key"):
            name = name or job_name(handler, of_many=True)
            made, name = await self._keyed.submit(
                who, namespace, name, labels, notes, spec, lambda: self._access.allows(request, "get", namespace)
            )
            return Submitted(made.uid, namespace, name, handler, made.new, str(spec["key"]))
        if submission_id:
            notes[SUBMISSION] = _digest(submission_id, dict(labels), notes, spec)
        given = bool(name)
        name = name or job_name(handler, _digest(submission_id, handler) if submission_id else "", of_many=True)
        try:
            made = await self._resources.create_once(who, namespace, name, labels, notes, spec, SUBMISSION)
        except Problem as problem:
            if problem.status != CONFLICT or not submission_id:
                raise
            detail = f"job {name!r} already exists; another submission has made it, or this one with other content"
            field = "metadata.name" if given else "submissionId"
            raise Problem(CONFLICT, "Exists already", detail, field=field) from None
        return Submitted(made.uid, namespace, name, handler, made.new)


def _digest(*content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]
