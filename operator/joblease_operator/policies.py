"""What workers have announced of their handlers, and under which rules a job is admitted by that.

Nothing of it is stored: a job that was admitted has its policy in its trail. What was announced once is remembered as
long as the operator runs, also when a pool is scaled to zero. Of several releases in one queue the policy of the worker
counts that was started last. A job whose handler nobody has announced yet is admitted provisionally, by the
installation's defaults: its message wakes a pool that scales from zero, and a worker that has a policy for it gives it
back before it runs, together with the policy.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from joblease.broker import acknowledge
from joblease.jobrequest import JobRequestSpec
from joblease.messages import WorkerReport
from joblease.policy import HandlerPolicy, JobPolicy, resolve
from joblease.states import State
from pydantic import ValidationError

from joblease_operator.job import Job

if TYPE_CHECKING:
    from aio_pika.abc import AbstractIncomingMessage

    from joblease_operator.settings import OperatorSettings

log = logging.getLogger(__name__)

BEFORE_ADMISSION = (None, State.SUBMITTED)
_Key = tuple[str, str]
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Policies:
    """The policies of handlers, by queue."""

    def __init__(self, settings: "OperatorSettings", on_change: Callable[[Collection[_Key]], None]) -> None:
        """`on_change` is called with the queues and handlers whose jobs have other rules from now on."""
        self._settings = settings
        self._on_change = on_change
        self._known: dict[_Key, tuple[datetime, HandlerPolicy | None]] = {}

    async def on_report(self, delivery: "AbstractIncomingMessage") -> None:
        """A worker tells of itself."""
        await acknowledge(delivery)
        try:
            report = WorkerReport.model_validate_json(delivery.body)
        except ValidationError as error:
            log.warning("unreadable report of a worker dropped: %s", error)
            return
        told = {(report.queue, handler.name): handler.policy for handler in report.handlers}
        self._learn(told, report.started_at)

    def hear(self, queue: str, handler: str, policy: HandlerPolicy) -> None:
        """A job was given back for this policy; an announcement of it says more."""
        if (queue, handler) not in self._known:
            self._learn({(queue, handler): policy}, _LONG_AGO)

    def of(self, job: Job) -> JobPolicy:
        """What a job was admitted under, or would be now. Raises `ValueError` when its parameters do not fit that."""
        spec = job.spec
        assert spec is not None  # noqa: S101 - only ended jobs have none
        if job.state not in BEFORE_ADMISSION:  # without a policy: of a release that knew none
            return job.policy or self._resolve(spec, None)
        known = self._known.get((spec.queue, spec.handler))
        if known is None:  # what the operator of before knew is in the trail
            return job.policy or self._resolve(spec, None, provisional=True)
        return self._resolve(spec, known[1])

    def place(self, job: Job) -> JobPolicy:
        """The same for whoever stands in line, or is only named: what does not fit has the installation's defaults."""
        if job.spec is None:
            return JobPolicy(group=self._settings.operator_default_group, limit=1, max_attempts=1)
        try:
            return self.of(job)
        except ValueError:  # the job is about to fail
            return self._resolve(job.spec, None)

    def _resolve(self, spec: JobRequestSpec, policy: HandlerPolicy | None, *, provisional: bool = False) -> JobPolicy:
        group, limit = self._settings.operator_default_group, self._settings.operator_default_limit
        return resolve(spec, policy, group, limit, provisional=provisional)

    def _learn(self, told: Mapping[_Key, HandlerPolicy | None], started_at: datetime) -> None:
        changed = []
        for key, policy in told.items():
            since, before = self._known.get(key, (_LONG_AGO, None))
            if since <= started_at:
                self._known[key] = started_at, policy
                if policy != before:
                    log.info("the policy of handler %r of queue %r is: %s", key[1], key[0], policy)
                    changed.append(key)
        if changed:
            self._on_change(changed)
