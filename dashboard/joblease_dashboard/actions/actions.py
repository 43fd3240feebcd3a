"""What people do from the pages: submit, cancel, retry, suspend, resume jobs, and replay dead letters.

Each is asked about first (a page of its own, so that it works without scripts and by keyboard), needs the same right as
doing it with kubectl, and is recorded (`record`).
"""

import asyncio
import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from joblease.jobrequest import repeated
from joblease.messages import JobEvent
from joblease.names import RETRY_OF, job_name, retry_name
from starlette.requests import Request

from joblease_dashboard.access.access import Access
from joblease_dashboard.access.identity import identity
from joblease_dashboard.actions import deadletters
from joblease_dashboard.actions.kinds import Action
from joblease_dashboard.actions.record import Record, deed
from joblease_dashboard.actions.resources import Resources
from joblease_dashboard.actions.submission import check_names, repeatable, seed_of, spec_of
from joblease_dashboard.actions.submitting import BY, Submitted, Submitting
from joblease_dashboard.problems import Problem

if TYPE_CHECKING:
    from joblease.broker import Broker
    from joblease.trail import AuditTrail

    from joblease_dashboard.live.board import Board
    from joblease_dashboard.read_model.rows import Row

log = logging.getLogger(__name__)

SEEN_SECONDS = 3.0
NAMED = 5
"""Jobs that a message names; more would bury what it says."""


class Actions:
    """Does them."""

    def __init__(
        self,
        access: Access,
        resources: Resources,
        submitting: Submitting,
        broker: "Broker",
        trail: "AuditTrail",
        record: Record,
        board: "Board",
    ) -> None:
        self._access = access
        self._resources = resources
        self._submitting = submitting
        self._broker = broker
        self._trail = trail
        self.record = record
        self._board = board

    async def submit(self, request: Request, form: Mapping[str, str]) -> str:
        """Create a job from a form; its id. Raises `Problem`."""
        namespace, name = form.get("namespace", "").strip() or "default", form.get("name", "").strip()
        check_names(namespace, name)
        await self._access.require(request, "create", namespace)
        spec = spec_of(form)
        seed = seed_of(form, namespace, name, spec)
        made = await self.make(request, "submit", namespace, name or job_name(spec["handler"], seed), spec, seed)
        await self._seen(made.job_id)
        return made.job_id

    async def do(
        self, request: Request, action: Action, job: "Row", events: list[JobEvent], form: Mapping[str, str]
    ) -> str:
        """Do something to a job; the id of the job to look at then. Raises `Problem`."""
        await self._access.require(request, action.verb, job["namespace"])
        action.check(job)
        if action.sets is None:
            made = await self.retry(request, job, events, seed_of(form, job["jobId"]))
            await self._seen(made.job_id)
            return made.job_id
        await self.change(request, action.name, job, action.sets)
        return str(job["jobId"])

    async def retry(self, request: Request, job: "Row", events: list[JobEvent], seed: str) -> Submitted:
        """Make another job with the same spec; one for a `seed`. Raises `Problem`."""
        facts = repeatable(job["name"], events)
        spec = {name: value for name, value in repeated(facts).items() if name != "traceparent"}
        name, notes = retry_name(job["name"], seed), {RETRY_OF: job["name"]}
        return await self.make(request, "retry", job["namespace"], name, spec, seed, notes, job["jobId"])

    async def change(self, request: Request, action: str, job: "Row", sets: Mapping[str, Any]) -> None:
        """Change the spec of a job. Raises `Problem`."""
        await self._access.require(request, "patch", job["namespace"])
        who, namespace, name, job_id = identity(request), job["namespace"], job["name"], job["jobId"]
        change = self._resources.change(who, namespace, name, job_id, sets, {BY: who.user})
        await self.record.keep(deed(self._access, request, action, namespace, name), change, job_id)

    async def replay(self, request: Request, wanted: str | None) -> deadletters.Replayed:
        """Send dead letters back; what became of them. Raises `Problem` or `PublishFailed`."""
        await self._access.require(request, "patch", "")
        what = deed(self._access, request, "replay", "", wanted or "all")
        return await self.record.keep(what, self._replay(wanted))

    async def _replay(self, wanted: str | None) -> deadletters.Replayed:
        done = await deadletters.replay(self._broker, self._trail, wanted)
        if wanted and not done.sent and not done.ended:
            raise Problem(404, "No such message", "it is not in joblease.dead any more, or it cannot be read")
        if done.ended and not done.sent:
            jobs = ", ".join(f"{letter.name} is {state}" for letter, state in done.ended[:NAMED])
            more = f" and {len(done.ended) - NAMED} more" if len(done.ended) > NAMED else ""
            raise Problem(
                409,
                "The job has ended" if len(done.ended) == 1 else "The jobs have ended",
                f"{jobs}{more}: nothing was sent, since a job that has its outcome is not run again. To run it anew, "
                "use Retry on its page",
                replayed=0,
                ended=done.ended_jobs(),
            )
        return done

    async def resource(self, request: Request, job: "Row") -> dict[str, Any] | None:
        """The job's `JobRequest`, when the dashboard has a way to it: what only Kubernetes knows. The rest is known."""
        if not self._resources.reachable:
            return None
        try:
            return await self._resources.read(identity(request), job["namespace"], job["name"], job["jobId"])
        except Problem as problem:
            log.warning("the JobRequest of %s cannot be read: %s", job["name"], problem)
            return None

    async def make(
        self,
        request: Request,
        action: str,
        namespace: str,
        name: str,
        spec: Mapping[str, Any],
        seed: str,
        notes: Mapping[str, str] = MappingProxyType({}),
        of: str = "",
        labels: Mapping[str, str] = MappingProxyType({}),
    ) -> Submitted:
        """Make a job, perhaps because of something done to the job `of`, and record it. Raises `Problem`."""
        create = self._submitting.submit(request, namespace, name, labels, notes, spec, seed)
        what = deed(self._access, request, action, namespace, name or str(spec["handler"]))
        return await self.record.keep(what, create, of, made=lambda found: found.job_id)

    async def _seen(self, job_id: str) -> None:
        """Wait a moment until there is something to show of a new job."""
        try:
            async with asyncio.timeout(SEEN_SECONDS):
                await self._board.hears_of(job_id)
        except TimeoutError:
            log.info("job %s was created; the operator has not noticed it yet", job_id)
