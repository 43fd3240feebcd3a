"""What people do from the pages: submit, cancel, retry, suspend, resume jobs, and replay dead letters.

Each is asked about first (a page of its own, so that it works without scripts and by keyboard), needs the same right as
doing it with kubectl, and is recorded (`record`).
"""

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, Any

from joblease.jobrequest import GROUP
from joblease.messages import JobEvent
from joblease.names import RETRY_OF, job_name, retry_name
from starlette.requests import Request

from joblease_dashboard.access.access import Access
from joblease_dashboard.access.cluster import Cluster
from joblease_dashboard.access.identity import identity
from joblease_dashboard.actions import deadletters
from joblease_dashboard.actions.kinds import Action
from joblease_dashboard.actions.record import Record
from joblease_dashboard.actions.resources import Resources
from joblease_dashboard.actions.submission import check_names, repeatable, seed_of, spec_of
from joblease_dashboard.problems import Problem

if TYPE_CHECKING:
    from joblease.broker import Broker
    from joblease.trail import AuditTrail

    from joblease_dashboard.live.board import Board
    from joblease_dashboard.read_model.rows import Row

log = logging.getLogger(__name__)

BY = f"{GROUP}/requested-by"
FORM = f"{GROUP}/form"
"""Annotation: marks which form has created a job, so that the same one never creates another."""
SEEN_SECONDS = 3.0
NAMED = 5
"""Jobs that a message names; more would bury what it says."""


class Actions:
    """Does them."""

    def __init__(
        self,
        access: Access,
        cluster: Cluster | None,
        broker: "Broker",
        trail: "AuditTrail",
        record: Record,
        board: "Board",
    ) -> None:
        self._access = access
        self._resources = Resources(cluster) if cluster else None
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
        return await self._create(
            request, "submit", namespace, name or job_name(spec["handler"], seed), spec, {FORM: seed} if seed else {}
        )

    async def do(
        self, request: Request, action: Action, job: "Row", events: list[JobEvent], form: Mapping[str, str]
    ) -> str:
        """Do something to a job; the id of the job to look at then. Raises `Problem`."""
        await self._access.require(request, action.verb, job["namespace"])
        action.check(job)
        if action.sets is None:
            facts = repeatable(job["name"], events)
            spec = {name: value for name, value in facts.items() if name != "traceparent"}
            seed = seed_of(form, job["jobId"])
            notes = {RETRY_OF: job["name"], **({FORM: seed} if seed else {})}
            name = retry_name(job["name"], seed)
            return await self._create(request, action.name, job["namespace"], name, spec, notes, job["jobId"])
        notes = {BY: identity(request).user}
        change = self._kubernetes().change(
            identity(request), job["namespace"], job["name"], job["jobId"], action.sets, notes
        )
        await self._recorded(request, action.name, job["namespace"], job["name"], change, job["jobId"])
        return str(job["jobId"])

    async def replay(self, request: Request, wanted: str | None) -> deadletters.Replayed:
        """Send dead letters back; what became of them. Raises `Problem` or `PublishFailed`."""
        await self._access.require(request, "patch", "")
        work = self._replay(wanted)
        done: deadletters.Replayed = await self._recorded(request, "replay", "", wanted or "all", work)
        return done

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
        if self._resources is None:
            return None
        try:
            return await self._resources.read(identity(request), job["namespace"], job["name"], job["jobId"])
        except Problem as problem:
            log.warning("the JobRequest of %s cannot be read: %s", job["name"], problem)
            return None

    async def _create(
        self,
        request: Request,
        action: str,
        namespace: str,
        name: str,
        spec: dict[str, Any],
        notes: dict[str, str],
        of: str = "",
    ) -> str:
        """Create a job, because of something done to the job `of`; its id."""
        notes = {**notes, BY: identity(request).user}
        create = self._kubernetes().create_once(identity(request), namespace, name, spec, notes, FORM)
        job_id: str = await self._recorded(request, action, namespace, name, create, of, creates=True)
        try:  # so that the job's page has something to show
            async with asyncio.timeout(SEEN_SECONDS):
                await self._board.hears_of(job_id)
        except TimeoutError:
            log.info("job %s was created; the operator has not noticed it yet", job_id)
        return job_id

    def _kubernetes(self) -> Resources:
        if self._resources is None:
            raise Problem(
                503, "No Kubernetes here", "this dashboard has neither a service account nor a kubeconfig to act with"
            )
        return self._resources

    async def _recorded(
        self,
        request: Request,
        action: str,
        namespace: str,
        target: str,
        work: Awaitable[Any],
        job_id: str = "",
        *,
        creates: bool = False,
    ) -> Any:
        who = {"user": identity(request).user, "address": self._access.address(request)}
        what = {"action": action, "target": target, "namespace": namespace, **who}
        return await self.record.keep(what, work, job_id, creates=creates)
