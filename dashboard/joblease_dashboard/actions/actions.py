"""What people do from the pages: submit, cancel, retry, suspend, resume jobs, and replay dead letters.

Each is asked about first (a page of its own, so that it works without scripts and by keyboard), needs the same right as
doing it with kubectl, and is written into `JobActions` with the name of the one who did it, before it is done and again
with the outcome.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import AzureError
from joblease.messages import JobEvent, State, now, rfc3339
from joblease.names import RETRY_OF, job_name, retry_name
from joblease.resource import GROUP
from starlette.requests import Request

from joblease_dashboard import metrics
from joblease_dashboard.access.access import Access, identity
from joblease_dashboard.access.cluster import Cluster
from joblease_dashboard.actions import deadletters
from joblease_dashboard.actions.submission import spec_of
from joblease_dashboard.problems import Problem
from joblease_dashboard.read_model.keys import inverted

if TYPE_CHECKING:
    from azure.data.tables.aio import TableClient
    from joblease.broker import Broker
    from joblease.trail import AuditTrail

    from joblease_dashboard.live.board import Board
    from joblease_dashboard.read_model.rows import Row

log = logging.getLogger(__name__)

BY = f"{GROUP}/requested-by"
SEEN_SECONDS = 3.0
NAMED = 5
"""Jobs that a message names; more would bury what it says."""
DEAD_PARTITION = "dead-letters"
WAITING = frozenset({State.SUBMITTED, State.QUEUED, State.RETRYING, State.INTERRUPTED})


@dataclass(frozen=True, slots=True)
class Action:
    """Something that can be done to a job."""

    name: str
    verb: str
    """The right on `jobrequests` that it takes."""
    question: str
    consequence: str
    possible: Callable[[State], bool]
    suspended: bool | None = None
    """Whether a job must be suspended, or must not be; None when that does not matter."""

    def fits(self, state: State, *, suspended: bool | None) -> bool:
        """Whether there is a point in it; `suspended` is None when that is not known."""
        return self.possible(state) and (None in (self.suspended, suspended) or self.suspended is suspended)


ACTIONS = {
    "cancel": Action(
        "cancel",
        "patch",
        "Cancel this job?",
        "Its handler is told to stop, and is killed if it does not. This cannot be taken back.",
        lambda state: not state.terminal,
    ),
    "suspend": Action(
        "suspend",
        "patch",
        "Suspend this job?",
        "It is held back until somebody resumes it, unless a worker is just taking it.",
        lambda state: state in WAITING,
        suspended=False,
    ),
    "resume": Action(
        "resume",
        "patch",
        "Resume this job?",
        "It goes on as soon as its group and its time allow.",
        lambda state: state in WAITING,
        suspended=True,
    ),
    "retry": Action(
        "retry",
        "create",
        "Submit this job again?",
        "A new job with the same spec is made; this one stays as it is.",
        lambda state: state.terminal,
    ),
}


class Actions:
    """Does them."""

    def __init__(
        self,
        access: Access,
        cluster: Cluster | None,
        broker: "Broker",
        trail: "AuditTrail",
        table: "TableClient",
        board: "Board",
    ) -> None:
        self._access = access
        self._cluster = cluster
        self._broker = broker
        self._trail = trail
        self._table = table
        self._board = board

    async def submit(self, request: Request, form: Mapping[str, str]) -> str:
        """Create a job from a form; its id. Raises `Problem`."""
        namespace = form.get("namespace", "").strip() or "default"
        await self._access.require(request, "create", namespace)
        spec = spec_of(form)
        name = form.get("name", "").strip() or job_name(spec["handler"])
        return await self._create(request, "submit", namespace, name, spec, {})

    async def do(self, request: Request, action: Action, job: "Row", events: list[JobEvent]) -> str:
        """Do something to a job; the id of the job to look at then. Raises `Problem`."""
        await self._access.require(request, action.verb, job["namespace"])
        if not action.possible(State(job["state"])):
            raise Problem(409, "Too late", f"job {job['name']} is {job['state']}: it cannot {action.name}")
        if action.name == "retry":
            facts = next((event.data for event in events if event.status == "Submitted" and event.data), None)
            if not facts or "handler" not in facts:
                raise Problem(409, "Not possible", f"the trail of job {job['name']} does not say how it was submitted")
            spec = {name: value for name, value in facts.items() if name != "traceparent"}
            notes = {RETRY_OF: job["name"]}
            return await self._create(request, "retry", job["namespace"], retry_name(job["name"]), spec, notes)
        spec = {"cancel": {"cancel": True}, "suspend": {"suspend": True}, "resume": {"suspend": False}}[action.name]
        notes = {BY: identity(request).user}
        change = self._kubernetes().change(job["namespace"], job["name"], job["jobId"], spec, notes)
        await self._recorded(request, action.name, job["jobId"], job["name"], change)
        return str(job["jobId"])

    async def replay(self, request: Request, wanted: str | None) -> deadletters.Replayed:
        """Send dead letters back; what became of them. Raises `Problem` or `PublishFailed`."""
        await self._access.require(request, "patch", "")
        work = self._replay(wanted)
        done: deadletters.Replayed = await self._recorded(request, "replay", DEAD_PARTITION, wanted or "all", work)
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

    async def resource(self, job: "Row") -> dict[str, Any] | None:
        """The job's `JobRequest`, when the dashboard has a way to it: what only Kubernetes knows. Raises `Problem`."""
        return await self._cluster.read(job["namespace"], job["name"], job["jobId"]) if self._cluster else None

    async def history(self, job_id: str) -> list[dict[str, Any]]:
        """Who did what to a job, the last first. One storage request. Raises `AzureError`."""
        rows = self._table.query_entities(
            "PartitionKey eq @job", parameters={"job": job_id}, results_per_page=100
        ).by_page()
        async for page in rows:
            return [dict(row) async for row in page]
        return []

    async def _create(
        self, request: Request, action: str, namespace: str, name: str, spec: dict[str, Any], notes: dict[str, str]
    ) -> str:
        notes = {**notes, BY: identity(request).user}
        cluster = self._kubernetes()
        job_id: str = await self._recorded(
            request, action, f"new.{namespace}.{name}"[:200], name, cluster.create(namespace, name, spec, notes)
        )
        try:  # so that the job's page has something to show
            async with asyncio.timeout(SEEN_SECONDS):
                await self._board.hears_of(job_id)
        except TimeoutError:
            log.info("job %s was created; the operator has not noticed it yet", job_id)
        return job_id

    def _kubernetes(self) -> Cluster:
        if self._cluster is None:
            raise Problem(
                503, "No Kubernetes here", "this dashboard has neither a service account nor a kubeconfig to act with"
            )
        return self._cluster

    async def _recorded(self, request: Request, action: str, partition: str, target: str, work: Awaitable[Any]) -> Any:
        """Do it between two writes of the record: what cannot be recorded is not done."""
        moment = now()
        row = {
            "PartitionKey": partition,
            "RowKey": inverted(moment),
            "timestamp": rfc3339(moment),
            "action": action,
            "target": target,
            "user": identity(request).user,
            "address": self._access.address(request),
            "outcome": "begun",
        }
        try:
            await self._table.create_entity(row)
        except AzureError:
            asyncio.ensure_future(work).cancel()
            raise
        outcome = "done"
        try:
            return await work
        except Problem as problem:
            outcome = f"refused: {problem}"
            raise
        except Exception as error:
            outcome = f"unknown: {type(error).__name__}"
            raise
        finally:
            log.info("%s %s %s: %s", row["user"], action, target, outcome)
            metrics.ACTIONS.labels(action, outcome.partition(":")[0]).inc()
            try:
                await self._table.update_entity({**row, "outcome": outcome[:1000]})
            except AzureError:
                log.warning("the outcome of %s %s could not be recorded", action, target)
