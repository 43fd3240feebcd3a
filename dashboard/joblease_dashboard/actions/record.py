"""The record of what people did, in the table `JobActions`: written before it is done, and again with the outcome."""

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import AzureError
from joblease.messages import now, rfc3339

from joblease_dashboard import metrics
from joblease_dashboard.problems import Problem
from joblease_dashboard.read_model.keys import inverted

if TYPE_CHECKING:
    from azure.data.tables.aio import TableClient

log = logging.getLogger(__name__)


class Record:
    """Who did what, and what came of it; a partition for each job, the last first."""

    def __init__(self, table: "TableClient") -> None:
        self._table = table

    async def of(self, job_id: str) -> list[dict[str, Any]]:
        """Who did what to a job, the last first. One storage request. Raises `AzureError`."""
        rows = self._table.query_entities(
            "PartitionKey eq @job", parameters={"job": job_id}, results_per_page=100
        ).by_page()
        async for page in rows:
            return [dict(row) async for row in page]
        return []

    async def keep(self, partition: str, what: Mapping[str, str], work: Awaitable[Any]) -> Any:
        """Do the work between two writes: what cannot be recorded is not done. Its result.

        `what` names `action`, `target`, `user` and `address`. Raises `AzureError`, and whatever the work raises.
        """
        moment = now()
        row = {"PartitionKey": partition, "RowKey": inverted(moment), "timestamp": rfc3339(moment), **what}
        try:
            await self._table.create_entity({**row, "outcome": "begun"})
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
            log.info("%s %s %s: %s", what["user"], what["action"], what["target"], outcome)
            metrics.ACTIONS.labels(what["action"], outcome.partition(":")[0]).inc()
            try:
                await self._table.update_entity({**row, "outcome": outcome[:1000]})
            except AzureError:
                log.warning("the outcome of %s %s could not be recorded", what["action"], what["target"])
