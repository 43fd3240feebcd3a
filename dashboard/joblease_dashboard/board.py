"""What is open right now, kept in memory from the events: what runs, what waits and why, what failed lately.

Asking storage for it would cost a search through days of history at every look. Here it costs one search when the
dashboard starts (`restore`) and nothing afterwards. The number of jobs remembered is bounded; the lists tell when that
was not enough, and the trail has everything anyhow.
"""

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import AzureError
from joblease.messages import JobEvent, State, now

from joblease_dashboard.keys import DAY
from joblease_dashboard.rows import Row, job_row

if TYPE_CHECKING:
    from azure.data.tables.aio import TableClient

    from joblease_dashboard.workers import Workers

log = logging.getLogger(__name__)

MAX_OPEN = 10_000
MAX_FAILED = 50
RESTORE_DAYS = 31
RETRY_SECONDS = 5.0
TERMINAL = [state.value for state in State if state.terminal]
FAILED = frozenset({State.FAILED, State.DEADLINE_EXCEEDED, State.WORKER_CRASHED})


class Board:
    """The open jobs, and those that failed lately."""

    def __init__(self, workers: "Workers") -> None:
        self._workers = workers
        self._open: OrderedDict[str, Row] = OrderedDict()
        self._failed: deque[Row] = deque(maxlen=MAX_FAILED)
        self._ended: OrderedDict[str, int] = OrderedDict()
        self._awaited: dict[str, asyncio.Event] = {}
        self.restored = False
        self.overflowed = False

    def add(self, event: JobEvent) -> None:
        """Take an event into account; an older one than the last changes nothing."""
        if event.job_id in self._ended:
            return
        known = self._open.get(event.job_id)
        fresh = job_row([event], known)
        if fresh is None:
            return
        row = {**(known or {}), **fresh}
        if event.data and event.data.get("nextAttemptAt"):
            row["nextAttemptAt"] = event.data["nextAttemptAt"]
        self._put(row)

    def _put(self, row: Row) -> None:
        job_id = row["jobId"]
        if job_id in self._awaited:
            self._awaited[job_id].set()
        if row["state"] in TERMINAL:
            self._open.pop(job_id, None)
            self._ended[job_id] = row["sequence"]
            if len(self._ended) > MAX_OPEN:
                self._ended.popitem(last=False)
            if row["state"] in FAILED:
                self._failed.appendleft(row)
            return
        self._open[job_id] = row
        if len(self._open) > MAX_OPEN:
            self._open.popitem(last=False)
            self.overflowed = True

    def get(self, job_id: str) -> Row | None:
        """An open job."""
        return self._open.get(job_id)

    def knows(self, job_id: str) -> bool:
        """Whether anything was heard of the job."""
        return job_id in self._open or job_id in self._ended

    async def hears_of(self, job_id: str) -> None:
        """Wait until there was an event of the job."""
        heard = self._awaited.setdefault(job_id, asyncio.Event())
        if not self.knows(job_id):
            try:
                await heard.wait()
            finally:
                self._awaited.pop(job_id, None)

    def running(self, namespace: str = "") -> list[Row]:
        """What runs, the longest first."""
        found = (row for row in self._rows(namespace) if row["state"] == State.RUNNING)
        return sorted(found, key=lambda row: str(row.get("startedAt", "")))

    def waiting(self, namespace: str = "") -> list[Row]:
        """What waits, the oldest first, each with `why`."""
        found = [row for row in self._rows(namespace) if row["state"] != State.RUNNING]
        return [{**row, "why": self.why(row)} for row in sorted(found, key=lambda row: str(row["submittedAt"]))]

    def failed(self, namespace: str = "") -> list[Row]:
        """What failed lately, the last first."""
        return [row for row in self._failed if namespace in ("", row["namespace"])]

    def siblings(self, group: str, job_id: str) -> list[Row]:
        """Open jobs of the same concurrency group."""
        return [row for row in self._open.values() if row["group"] == group and row["jobId"] != job_id]

    def queues(self) -> set[str]:
        """Queues that open jobs are for."""
        return {row["queue"] for row in self._open.values()}

    def _rows(self, namespace: str) -> Iterable[Row]:
        return (row for row in self._open.values() if namespace in ("", row["namespace"]))

    def why(self, row: Mapping[str, Any]) -> str:
        """Why a job does not run yet, in a sentence."""
        state = row["state"]
        if state == State.RETRYING:
            at = str(row.get("nextAttemptAt", ""))[:19].replace("T", " ")
            return f"attempt {row['attempt']} failed: {row['message']}" + (f"; the next one at {at} UTC" if at else "")
        holders = [each for each in self.siblings(row["group"], row["jobId"]) if each["state"] == State.RUNNING]
        if holders:
            first = holders[0]
            others = f" and {len(holders) - 1} more" if len(holders) > 1 else ""
            return f"group {row['group']} is taken by {first['name']} on {first.get('worker', 'a worker')}{others}"
        if state == State.SUBMITTED:
            return "the operator has not admitted it: suspended, scheduled for later, or behind others of its group"
        serving = self._workers.serving(row["queue"])
        if not serving:
            return f"no worker serves queue {row['queue']}"
        free = sum(max(0, each.concurrency - len(each.jobs)) for each in serving)
        if state == State.INTERRUPTED:
            return "its worker let go of it; another one takes it"
        return f"about to be taken by one of {len(serving)} workers" if free else f"all {len(serving)} workers are busy"

    async def restore(self, index: "TableClient") -> None:
        """Read what is open and what failed last from `JobIndex`, once."""
        while not self.restored:
            try:
                await self._read(index)
            except AzureError as error:
                log.warning("the open jobs cannot be read yet, next try in %.0f s: %s", RETRY_SECONDS, error)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self.restored = True

    async def _read(self, index: "TableClient") -> None:
        values: dict[str, Any] = {f"t{number}": state for number, state in enumerate(TERMINAL)}
        values["day"] = (now() - timedelta(days=RESTORE_DAYS)).strftime(DAY)
        is_open = " and ".join(f"state ne @t{number}" for number in range(len(TERMINAL)))
        async for row in index.query_entities(f"PartitionKey ge @day and {is_open}", parameters=values):
            fields = {name: value for name, value in row.items() if name not in ("PartitionKey", "RowKey")}
            known = self._open.get(fields["jobId"])
            if fields["jobId"] not in self._ended and (not known or known["sequence"] < fields["sequence"]):
                self._put(fields)
        today = now().strftime(DAY)
        failed = index.query_entities(
            "PartitionKey eq @day and state eq 'Failed'", parameters={"day": today}, results_per_page=MAX_FAILED
        )
        async for page in failed.by_page():
            seen = {row["jobId"] for row in self._failed}
            for row in [each async for each in page]:
                if row["jobId"] not in seen and len(self._failed) < MAX_FAILED:
                    self._failed.append({k: v for k, v in row.items() if k not in ("PartitionKey", "RowKey")})
            break
