"""The record of what people did: written before it is done, and again with the outcome.

It is kept twice, so that each question is one range of one table: `JobActions` has a partition for each job, and
`JobActionFeed` has everything, the last first. Keys are made of times and of jobs' ids, never of what somebody typed.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from azure.core.exceptions import AzureError
from joblease.messages import now, rfc3339

from joblease_dashboard import metrics
from joblease_dashboard.access.identity import identity
from joblease_dashboard.problems import Problem
from joblease_dashboard.read_model.keys import key
from joblease_dashboard.read_model.queries import TimeTable
from joblease_dashboard.read_model.seals import PLAIN, Seals

if TYPE_CHECKING:
    from azure.data.tables.aio import TableClient
    from starlette.requests import Request

    from joblease_dashboard.access.access import Access

log = logging.getLogger(__name__)

T = TypeVar("T")
SHOWN = 100
"""Of a job."""


class Record:
    """Who did what, and what came of it."""

    def __init__(self, jobs: "TableClient", feed: "TableClient", seals: Seals = PLAIN) -> None:
        """`seals` of the page tokens of `all`."""
        self._jobs = jobs
        self._feed = feed
        self.all = TimeTable(feed, seals)
        """Of all jobs."""

    async def of(self, job_id: str) -> list[dict[str, Any]]:
        """Who did what to a job, the last first. One storage request. Raises `AzureError`."""
        rows = self._jobs.query_entities(
            "PartitionKey eq @job", parameters={"job": job_id}, results_per_page=SHOWN
        ).by_page()
        async for page in rows:
            return [dict(row) async for row in page]
        return []

    async def keep(
        self,
        what: Mapping[str, str],
        work: Awaitable[T],
        job_id: str = "",
        *,
        made: Callable[[T], str] | None = None,
        told: Callable[[T], str] = lambda _: "done",
    ) -> T:
        """Do the work between two writes: what cannot be recorded is not done. Its result.

        `what` names `action`, `target`, `namespace`, `user` and `address`; `job_id` is the job that it is done to.
        `made` tells of the result which job was created: the record is that job's, too. `told` puts the result into
        words. Raises `AzureError`, and whatever the work raises.
        """
        moment = now()
        partition, row_key = key(moment, secrets.token_hex(4))
        row = {"RowKey": row_key, "timestamp": rfc3339(moment), **what}
        jobs = [job_id] if job_id else []

        async def write(outcome: str) -> None:
            whole = {**row, "jobId": jobs[-1] if jobs else "", "outcome": outcome[:1000]}
            await asyncio.gather(
                self._feed.upsert_entity({**whole, "PartitionKey": partition}),
                *(self._jobs.upsert_entity({**whole, "PartitionKey": each}) for each in jobs),
            )

        try:
            await write("begun")
        except AzureError:
            asyncio.ensure_future(work).cancel()
            raise
        outcome = ""
        try:
            result = await work
            jobs += [made(result)] if made else []
            outcome = told(result)
        except Problem as problem:
            outcome = f"refused: {problem}"
            raise
        except Exception as error:
            outcome = f"unknown: {type(error).__name__}"
            raise
        finally:
            log.info("%s %s %s: %s", what["user"], what["action"], what["target"], outcome)
            metrics.ACTIONS.labels(what["action"], outcome.partition(":")[0]).inc()
            try:
                await write(outcome)
            except AzureError:
                log.warning("the outcome of %s %s could not be recorded", what["action"], what["target"])
        return result


def deed(access: "Access", request: "Request", action: str, namespace: str, target: str) -> dict[str, str]:
    """What somebody does, for `Record.keep`."""
    who = {"user": identity(request).user, "address": access.address(request)}
    return {"action": action, "target": target, "namespace": namespace, **who}
