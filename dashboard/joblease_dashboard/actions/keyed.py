"""Submissions with an idempotency key: the first one makes a job, every later one finds it, whoever sends it.

The key is reserved in storage before the `JobRequest` is made, under the name that this will have. Whoever finds a key
without a job goes on where the first one may have died: the name is the same, and the API server lets it be taken once.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from joblease.content import Difference, content_of
from joblease.jobrequest import JobRequestSpec
from joblease.keys import KeyEntry, Keys

from joblease_dashboard.actions.resources import CONFLICT, Created
from joblease_dashboard.problems import Problem

if TYPE_CHECKING:
    from joblease_dashboard.access.identity import Identity
    from joblease_dashboard.actions.resources import Resources

SHOWN = 20
"""Differences that an answer names."""


class Keyed:
    """Makes the job of a key, once."""

    def __init__(self, keys: Keys, resources: "Resources") -> None:
        self._keys = keys
        self._resources = resources

    async def submitted(self, namespace: str, spec: Mapping[str, Any]) -> bool:
        """Whether the spec's key has its job. Raises `AzureError`."""
        entry = await self._keys.find(namespace, JobRequestSpec.model_validate(spec))
        return entry is not None and bool(entry.job_id)

    async def submit(
        self,
        who: "Identity",
        namespace: str,
        name: str,
        labels: Mapping[str, str],
        notes: Mapping[str, str],
        spec: Mapping[str, Any],
        may_see: Callable[[], Awaitable[bool]],
    ) -> tuple[Created, str]:
        """The job of the spec's key, made now or before, and its name. Raises `Problem`, `AzureError`.

        Whether somebody `may_see` the namespace's jobs decides how much they are told of one that is other work.
        """
        asked = JobRequestSpec.model_validate(spec)
        entry = await self._keys.claim(namespace, asked, name)
        if differences := entry.differences(content_of(asked)):
            raise _used(entry, asked, differences) if await may_see() else _hidden(asked)
        if entry.job_id:
            return Created(entry.job_id, new=False), entry.name
        try:
            made = await self._resources.create_once(who, namespace, entry.name, labels, notes, spec, "")
        except Problem as problem:
            found = await self._found(who, namespace, entry.name, asked) if problem.status == CONFLICT else None
            if found is None:
                if 400 <= problem.status < 500:  # nothing was made, and nothing will be
                    await self._keys.release(namespace, asked, entry)
                raise
            made = Created(found, new=False)
        await self._keys.note(namespace, asked, entry, made.uid)
        return made, entry.name

    async def _found(self, who: "Identity", namespace: str, name: str, asked: JobRequestSpec) -> str | None:
        """The uid of the `JobRequest` of that name, if it is one of this key."""
        there = await self._resources.get(who, namespace, name)
        mine = (there["spec"].get("handler"), there["spec"].get("key")) == (asked.handler, asked.key)
        return str(there["metadata"]["uid"]) if mine else None


def _hidden(asked: JobRequestSpec) -> Problem:
    return Problem(
        CONFLICT,
        "The key is used",
        f"key {asked.key!r} of handler {asked.handler} is that of other work. Nothing was submitted; use another key "
        "(whoever may get jobrequests here is told which job it is, and what differs)",
        field="spec.key",
    )


def _used(entry: KeyEntry, asked: JobRequestSpec, differences: list[Difference]) -> Problem:
    known = f"job {entry.job_id} ({entry.name})" if entry.job_id else f"a job that is about to be made ({entry.name})"
    return Problem(
        CONFLICT,
        "The key is used",
        f"key {asked.key!r} of handler {asked.handler} is that of {known}, submitted at "
        f"{entry.submitted_at:%Y-%m-%dT%H:%M:%SZ}, which is other work: "
        + "; ".join(map(str, differences[:SHOWN]))
        + ". Nothing was submitted; use another key",
        field="spec.key",
        **({"jobId": entry.job_id} if entry.job_id else {}),
        differences=[asdict(each) for each in differences[:SHOWN]],
    )
