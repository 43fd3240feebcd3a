"""The same done to all jobs that a selector selects, as far as there is a point in it.

Selected are `JobRequest`s: what was deleted is not there any more to be changed. Each is named by its id, so that none
of the same name that came later is meant. A retry is named after its job: asked for again, it is not made twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from joblease.jobrequest import repeated
from joblease.names import RETRY_OF, retry_labels, retry_name
from joblease.states import Kind, State

from joblease_dashboard.access.identity import identity
from joblease_dashboard.actions.kinds import ACTIONS
from joblease_dashboard.actions.record import Record, deed
from joblease_dashboard.actions.submitting import BY
from joblease_dashboard.problems import Problem

if TYPE_CHECKING:
    from starlette.requests import Request

    from joblease_dashboard.access.access import Access
    from joblease_dashboard.actions.many import Many
    from joblease_dashboard.actions.resources import Resources
    from joblease_dashboard.actions.submitting import Submitting

PATCH = "patch"
MOST = 10_000
"""Jobs that one request does something to."""
MOST_FAILED = 100


@dataclass(frozen=True, slots=True)
class Selection:
    """Which jobs are meant."""

    namespace: str
    handler: str = ""
    labels: str = ""
    state: str = ""


@dataclass(frozen=True, slots=True)
class _Found:
    name: str
    uid: str


@dataclass(slots=True)
class Done:
    """What came of it."""

    matched: int
    done: int = 0
    failed: list[dict[str, Any]] = field(default_factory=list)
    left: int = 0


class Bulk:
    """Does it."""

    def __init__(
        self, access: "Access", resources: "Resources", submitting: "Submitting", record: Record, many: "Many"
    ) -> None:
        self._access = access
        self._resources = resources
        self._submitting = submitting
        self._record = record
        self._many = many

    async def do(
        self, request: "Request", action: str, selection: Selection, sets: Mapping[str, Any], *, dry_run: bool
    ) -> Done:
        """Do it to all that are selected, or only say how many there are. Raises `Problem`.

        `sets` is for `patch`.
        """
        verb = PATCH if action == PATCH else ACTIONS[action].verb
        for needed in ("list", verb):
            await self._access.require(request, needed, selection.namespace)
        matched, found = 0, list[_Found]()
        selected = self._resources.select(identity(request), selection.namespace, selection.labels, selection.handler)
        async for stretch in selected:
            fitting = [each for each in stretch if _fits(action, selection.state, each, sets)]
            matched += len(fitting)
            found += [
                _Found(each["metadata"]["name"], each["metadata"]["uid"]) for each in fitting[: MOST - len(found)]
            ]
        if dry_run or not found:
            return Done(matched)
        what = deed(self._access, request, action, selection.namespace, f"{len(found)} selected jobs")
        return await self._record.keep(what, self._all(request, action, selection, sets, found, matched), told=_told)

    async def _all(
        self,
        request: "Request",
        action: str,
        selection: Selection,
        sets: Mapping[str, Any],
        found: list[_Found],
        matched: int,
    ) -> Done:
        change = sets or (None if action == PATCH else ACTIONS[action].sets)

        async def one(each: _Found) -> None:
            if change is None:
                await self._retry(request, selection.namespace, each)
                return
            who = identity(request)
            await self._resources.change(who, selection.namespace, each.name, each.uid, change, {BY: who.user})

        outcomes = await self._many.each(found, one)
        failed = [
            {"jobId": each.uid, "name": each.name, "status": problem.status, "detail": str(problem)}
            for each, problem in zip(found, outcomes, strict=True)
            if isinstance(problem, Problem)
        ]
        return Done(matched, len(found) - len(failed), failed[:MOST_FAILED], matched - len(found))

    async def _retry(self, request: "Request", namespace: str, job: _Found) -> None:
        known = await self._resources.get(identity(request), namespace, job.name)
        if known["metadata"]["uid"] != job.uid:
            raise Problem(409, "Replaced", f"job {job.name} was deleted, and there is another one of that name")
        spec, labels = repeated(known["spec"]), retry_labels(known["metadata"])
        name = retry_name(job.name, job.uid)
        await self._submitting.submit(request, namespace, name, labels, {RETRY_OF: job.name}, spec, job.uid)


def _fits(action: str, wanted: str, resource: Mapping[str, Any], sets: Mapping[str, Any]) -> bool:
    """Whether a job is in the state that is wanted ("": any), and there is a point in it."""
    conditions = (resource.get("status") or {}).get("conditions") or []
    state = State(next((each["reason"] for each in conditions if each["type"] == "Succeeded"), State.SUBMITTED))
    if wanted and state != wanted:
        return False
    if action == PATCH:
        return "priority" not in sets or state.kind is Kind.WAITING
    if action == "retry" and not wanted and state.kind is not Kind.FAILED:
        return False  # nobody means all that were done
    spec = resource.get("spec") or {}
    cancelled = action == "cancel" and spec.get("cancel") is True
    return ACTIONS[action].fits(state, suspended=spec.get("suspend") is True) and not cancelled


def _told(done: Done) -> str:
    return f"done: {done.done} of {done.matched}"
