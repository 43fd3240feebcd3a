"""The statistics beside a count over the index, on a real storage emulator whose answers get lost."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from itertools import count
from typing import Any
from unittest import mock

from azure.core.exceptions import AzureError, ServiceResponseError
from joblease.messages import JobEvent
from joblease.settings import StorageSettings
from joblease.states import OUTCOMES, State
from joblease.storage import INDEX_TABLE, TRAIL_TABLE, CountingTransport, Storage
from joblease.trail import AuditTrail
from joblease_dashboard.read_model.rebuild import READ_MODEL
from joblease_dashboard.read_model.statistics import WINDOWS, Stats
from joblease_dashboard.read_model.tally import bucket, percentile
from joblease_dashboard.read_model.writer import Writer
from pydantic import SecretStr

_NUMBERS = count()


class Crash(Exception):
    """The program was killed in this moment."""


class Faults:
    """What happens to the next requests that write: `lost` is an answer that is lost, `crash` comes after the write."""

    def __init__(self) -> None:
        self.plan: list[str] = []
        self.sent = 0
        self.crashes = 0

    async def send(self, transport: CountingTransport, request: Any, **config: Any) -> Any:
        self.sent += 1
        answer = await CountingTransport.send(transport, request, **config)
        fault = self.plan.pop(0) if self.plan and request.url.endswith("$batch") else ""
        if not fault:
            return answer
        if fault == "crash":
            self.crashes += 1
            raise Crash
        raise ServiceResponseError("the answer was lost")


class Account(Storage):
    """Storage with tables of its own, and with faults."""

    def __init__(self, connection_string: str) -> None:
        self._suffix = f"x{next(_NUMBERS)}"
        self.faults = Faults()
        with _transport(self.faults):
            super().__init__(StorageSettings(storage_connection_string=SecretStr(connection_string)))
        self.trail = AuditTrail(self.table(TRAIL_TABLE))

    def table(self, name: str) -> Any:
        return super().table(name + self._suffix)

    async def create_tables(self, *names: str) -> None:
        await super().create_tables(*(name + self._suffix for name in names))

    async def delete_tables(self, *names: str) -> None:
        await super().delete_tables(*(name + self._suffix for name in names))

    async def prepare(self) -> None:
        await self.create_tables(TRAIL_TABLE, *READ_MODEL)

    def writer(self) -> Writer:
        """A dashboard's, when it has just started."""
        return Writer(self.table, self.trail)

    async def index_rows(self) -> list[dict[str, Any]]:
        return [row async for row in self.table(INDEX_TABLE).list_entities()]

    async def check(self, window: str = "7d") -> None:
        """The statistics are what a count over the index comes to."""
        rows = await self.index_rows()
        points = await Stats(self.table(READ_MODEL[-1])).read(window)
        assert points == expected(rows, points, WINDOWS[window][1])


@contextmanager
def _transport(faults: Faults) -> Iterator[None]:
    class Faulty(CountingTransport):
        async def send(self, request: Any, **config: Any) -> Any:
            return await faults.send(self, request, **config)

    with mock.patch("joblease.storage.CountingTransport", Faulty):
        yield


def expected(rows: Iterable[dict[str, Any]], points: list[dict[str, Any]], step: int) -> list[dict[str, Any]]:
    """The points that the rows of the index come to."""
    begins = [datetime.fromisoformat(point["time"]) for point in points]
    found: list[dict[str, Counter[Any]]] = [{"ended": Counter(), "waited": Counter(), "ran": Counter()} for _ in points]
    for row in rows:
        state = State(row["state"])
        if not state.terminal:
            continue
        times = {name: datetime.fromisoformat(row[name]) for name in row if name.endswith("At")}
        at = int((times["completedAt"] - begins[0]).total_seconds() // (step * 60))
        if not 0 <= at < len(points):
            continue
        found[at]["ended"][state.kind.value] += 1
        if "startedAt" in times:
            found[at]["waited"][bucket((times["startedAt"] - times["submittedAt"]).total_seconds())] += 1
        if "runStartedAt" in times:
            found[at]["ran"][bucket((times["completedAt"] - times["runStartedAt"]).total_seconds())] += 1
    return [_point(point["time"], counts) for point, counts in zip(points, found, strict=True)]


def _point(time: str, counts: Mapping[str, Counter[Any]]) -> dict[str, Any]:
    ended = {kind.value: counts["ended"][kind] for kind in OUTCOMES}
    times = {f"{name}P{p}": percentile(counts[name], p / 100) for name in ("waited", "ran") for p in (50, 95)}
    return {"time": time, **ended, **times}


class Replica:
    """A dashboard's indexer: what it could not write it writes again, and after a crash another one has it."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._writer = account.writer()

    def restart(self) -> None:
        self._writer = self._account.writer()

    async def take(self, events: list[JobEvent]) -> None:
        async with asyncio.timeout(60):
            while True:
                try:
                    return await self._writer.add(events)
                except AzureError:
                    await asyncio.sleep(0)
                except Crash:
                    self.restart()
