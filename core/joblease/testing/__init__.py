"""JobLease without JobLease, for tests of programs that submit jobs: handlers run in the test's own process.

`with joblease.testing.installation() as jobs:` gives a `Client` whose dashboard is in memory. What is submitted runs at
once, in the calling thread, attempt after attempt without a pause, with the same keys, parameters, steps and outcomes
as in an installation. Concurrency groups, deadlines and crashes have no meaning there.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Unpack

import httpx

from joblease.client import Client, Event, Job, Options
from joblease.client.aio import AsyncClient
from joblease.client.seen import event_of
from joblease.testing.api import Api
from joblease.testing.engine import Engine

__all__ = ["Installation", "installation"]
_URL = "http://joblease.test"


class Installation(Client):
    """A client, and what it talks to."""

    def __init__(self, engine: Engine, **options: Unpack[Options]) -> None:
        self._engine = engine
        self._in_memory = httpx.MockTransport(Api(engine).answer)
        super().__init__(_URL, transport=self._in_memory, **options)

    def run_waiting(self) -> int:
        """Run all jobs that wait and are not suspended, also those that are to start later; how many there were."""
        return self._engine.run_waiting()

    def trail(self, job: Job | str) -> list[Event]:
        """What has happened to a job so far, with the data of its steps. Raises `LookupError`."""
        job_id = job if isinstance(job, str) else job.job_id
        if (found := self._engine.jobs.get(job_id)) is None:
            raise LookupError(f"no job of this test has the id {job_id!r}")
        return [event_of(each) for each in found.events]

    def async_client(self, **options: Unpack[Options]) -> AsyncClient:
        """An `AsyncClient` of the same jobs."""
        return AsyncClient(_URL, transport=self._in_memory, **options)


@contextmanager
def installation(*, held: bool = False, **options: Unpack[Options]) -> Iterator[Installation]:
    """A client for a test. `held`: jobs wait until `run_waiting`, so that they can be cancelled before they run."""
    with Installation(Engine(held=held), **options) as jobs:
        yield jobs
