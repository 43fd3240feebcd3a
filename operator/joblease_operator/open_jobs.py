"""The list of open jobs: those that were begun and have not ended, in a table, for the sweeper.

A `JobRequest` that is deleted while nobody looks is never seen again. So a job's row is there before its first row in
the trail, and goes after its outcome was told. Rows are written many at a time: whoever has its turn to write takes
along what others wait for, and what may go. A job that is begun alone costs one request, and its end none.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from azure.core.exceptions import HttpResponseError
from joblease.errors import ErrorClass, TransientError, classify
from joblease.transactions import MAX_WRITES, Write, submit

if TYPE_CHECKING:
    from azure.data.tables.aio import TableClient

    from joblease_operator.job import Job

PARTITION = "open"
ROWS_A_REQUEST = 1_000
NOT_FOUND = 404


class OpenJobs:
    """Of all operators of the installation, in the table `JobOpen`."""

    def __init__(self, table: "TableClient") -> None:
        self._table = table
        self._begun: dict[str, Write] = {}
        self._ended: dict[str, None] = {}
        self._turn = asyncio.Lock()

    async def add(self, job: "Job") -> None:
        """Returns when the job is in the list; again, if it was there.

        Raises what goes wrong with storage, as an error that passes: what is wrong with the list is no job's fault.
        """
        row = {"PartitionKey": PARTITION, "RowKey": job.uid, "namespace": job.namespace, "name": job.name}
        self._begun[job.uid] = Write("replace", row)
        try:
            async with self._turn:
                while job.uid in self._begun:  # more may wait than fit into one transaction
                    await self._write()
        except HttpResponseError as error:
            if classify(error) is ErrorClass.PERMANENT:
                raise TransientError(f"the list of open jobs cannot be written: {error}") from error
            raise
        finally:
            self._begun.pop(job.uid, None)  # nobody waits for it: it must not be written once the job has ended

    def remove(self, job_id: str) -> None:
        """The job has ended: its row goes with the next writes."""
        self._ended[job_id] = None

    async def flush(self) -> None:
        """Have the rows of all ended jobs gone, though no other job was begun. Raises what goes wrong with storage."""
        async with self._turn:
            while self._ended:
                await self._write()

    async def everything(self) -> AsyncIterator[tuple[str, str, str]]:
        """Each job's id, namespace and name."""
        async for row in self._table.query_entities(
            "PartitionKey eq @partition", parameters={"partition": PARTITION}, results_per_page=ROWS_A_REQUEST
        ):
            yield row["RowKey"], row["namespace"], row["name"]

    async def _write(self) -> None:
        """One transaction; what it has written or deleted is struck out when storage has said so."""
        begun = list(self._begun)[:MAX_WRITES]
        ended = list(self._ended)[: MAX_WRITES - len(begun)]
        writes = [self._begun[job_id] for job_id in begun]
        try:
            await submit(self._table, [*writes, *map(_deletion, ended)])
        except HttpResponseError as error:
            if error.status_code != NOT_FOUND:
                raise
            await self._one_by_one(writes, ended)
        for job_id in begun:
            self._begun.pop(job_id, None)
        for job_id in ended:
            self._ended.pop(job_id, None)

    async def _one_by_one(self, writes: Sequence[Write], ended: Sequence[str]) -> None:
        """Another operator has deleted one of the rows, or a try whose answer was lost has."""
        if writes:
            await submit(self._table, writes)
        for job_id in ended:
            try:
                await submit(self._table, [_deletion(job_id)])
            except HttpResponseError as error:
                if error.status_code != NOT_FOUND:
                    raise


def _deletion(job_id: str) -> Write:
    return Write("delete", {"PartitionKey": PARTITION, "RowKey": job_id}, "*")
