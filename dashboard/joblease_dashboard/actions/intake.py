"""What programs submit: one job, or many of which each has its own answer."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import AzureError

from joblease_dashboard.actions import fitting
from joblease_dashboard.actions.record import Record, deed
from joblease_dashboard.problems import Problem

if TYPE_CHECKING:
    from starlette.requests import Request

    from joblease_dashboard.access.access import Access
    from joblease_dashboard.actions.many import Many
    from joblease_dashboard.actions.submitting import Submitted, Submitting
    from joblease_dashboard.live.workers import Workers


@dataclass(frozen=True, slots=True)
class Wanted:
    """A job that somebody wants."""

    namespace: str
    name: str
    """Empty: it is made up."""
    labels: Mapping[str, str]
    notes: Mapping[str, str]
    spec: Mapping[str, Any]
    submission_id: str
    checked: bool
    """Whether what the workers tell of its handler is taken into account."""


class Intake:
    """Takes submissions of programs."""

    def __init__(
        self, access: "Access", submitting: "Submitting", workers: "Workers", record: Record, many: "Many"
    ) -> None:
        self._access = access
        self._workers = workers
        self._submitting = submitting
        self._record = record
        self._many = many

    async def one(self, request: "Request", wanted: Wanted) -> "Submitted":
        """Make a job. Raises `Problem`."""
        await self._check(request, wanted)
        what = deed(self._access, request, "submit", wanted.namespace, wanted.name or str(wanted.spec["handler"]))
        return await self._record.keep(what, self._submit(request, wanted), made=lambda found: found.job_id)

    async def batch(
        self, request: "Request", texts: Sequence[str], read: Callable[[str], Wanted]
    ) -> "list[Submitted | Problem]":
        """Make many, each of which `read` makes out of its text; what came of each, in their order.

        One that cannot be made keeps no other from it. The record has one line for each namespace.
        """
        found: dict[int, Submitted | Problem] = {}
        allowed: dict[str, list[int]] = defaultdict(list)
        for place, namespace in enumerate(await self._many.each(texts, lambda text: self._check(request, read(text)))):
            if isinstance(namespace, Problem):
                found[place] = namespace
            else:
                allowed[namespace].append(place)
        for namespace, places in allowed.items():
            made = await self._make(request, namespace, [texts[place] for place in places], read)
            found |= zip(places, made, strict=True)
        return [found[place] for place in range(len(texts))]

    async def _make(
        self, request: "Request", namespace: str, texts: Sequence[str], read: Callable[[str], Wanted]
    ) -> "list[Submitted | Problem]":
        work = self._many.each(texts, lambda text: self._submit(request, read(text)))
        what = deed(self._access, request, "submit", namespace, f"{len(texts)} jobs")
        try:
            return await self._record.keep(what, work, told=_count)
        except AzureError:
            problem = Problem(503, "Storage does not answer", "what cannot be recorded is not done; try again")
            return [problem for _ in texts]

    async def _check(self, request: "Request", wanted: Wanted) -> str:
        """The namespace of one that may be made."""
        await self._access.require(request, "create", wanted.namespace)
        if wanted.checked:
            try:
                fitting.check(self._workers, wanted.spec)
            except Problem:  # a job that was submitted when there was such a handler is still found by its key
                if not await self._submitting.submitted(wanted.namespace, wanted.spec):
                    raise
        return wanted.namespace

    async def _submit(self, request: "Request", wanted: Wanted) -> "Submitted":
        return await self._submitting.submit(
            request, wanted.namespace, wanted.name, wanted.labels, wanted.notes, wanted.spec, wanted.submission_id
        )


def _count(answers: "Sequence[Submitted | Problem]") -> str:
    refused = sum(isinstance(answer, Problem) for answer in answers)
    return f"done: {len(answers) - refused} made, {refused} refused" if refused else "done"
