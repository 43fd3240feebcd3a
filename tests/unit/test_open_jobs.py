"""The list of open jobs: whoever was told that a job is in it finds it there, whatever others wait for."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from joblease.errors import TransientError
from joblease.transactions import MAX_WRITES
from joblease_operator import open_jobs
from joblease_operator.open_jobs import OpenJobs


def job(number: int) -> Any:
    return SimpleNamespace(uid=f"uid-{number}", namespace="default", name=f"job-{number}")


class Rows:
    """Takes a transaction, or refuses it."""

    def __init__(self) -> None:
        self.there: set[str] = set()
        self.status = 0

    async def submit(self, _: Any, writes: Any) -> list[str]:
        await asyncio.sleep(0)
        keys = [write.row["RowKey"] for write in writes]
        assert len(keys) == len({*keys}) <= MAX_WRITES
        if self.status:
            error = HttpResponseError("refused")
            error.status_code = self.status
            raise error
        for write in writes:
            (self.there.discard if write.kind == "delete" else self.there.add)(write.row["RowKey"])
        return []


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Rows:
    made = Rows()
    monkeypatch.setattr(open_jobs, "submit", made.submit)
    return made


async def test_of_more_jobs_than_a_transaction_takes_each_is_listed_when_it_is_told(rows: Rows) -> None:
    listed = OpenJobs(None)  # type: ignore[arg-type]

    async def add(number: int) -> None:
        await listed.add(job(number))
        assert f"uid-{number}" in rows.there

    await asyncio.gather(*(add(number) for number in range(3 * MAX_WRITES)))


@pytest.mark.parametrize("status", [400, 503])
async def test_what_could_not_be_listed_is_neither_written_nor_in_the_way_later(rows: Rows, status: int) -> None:
    listed, rows.status = OpenJobs(None), status  # type: ignore[arg-type]
    for number in range(2 * MAX_WRITES):
        with pytest.raises(TransientError if status == 400 else HttpResponseError):
            await listed.add(job(number))
        listed.remove(f"uid-{number}")
    rows.status = 0
    await listed.add(job(999))
    await listed.flush()
    assert rows.there == {"uid-999"}
