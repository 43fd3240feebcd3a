"""Milliseconds that the operator's event loop is held up with very many waiting jobs: `make bench-waiting`.

The real engine, without network: a listing is parsed from its JSON as the client does, a head row is an object that is
made anew, and what the engine writes goes nowhere. A turn of the event loop is measured in processor time of its
thread, so that other programs on the machine do not count. kopf's own work is not part of it. Each round is a process
of its own, since memory is what it grew to at most.
"""

import asyncio
import gc
import json
import multiprocessing
import resource
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from joblease.head import Head
from joblease.messages import JobEvent
from joblease.states import State
from joblease.trail import UnknownJob, _event
from joblease_operator.collector import Collector
from joblease_operator.engine import Engine
from joblease_operator.kube import PAGE
from joblease_operator.settings import OperatorSettings
from processes import attempts
from report import Report, arguments, at_most, spread

JOBS = 100_000
PATIENCE_SECONDS = 600
NAMESPACE = "default"
START = datetime.now(UTC) - timedelta(days=1)


class Turns:
    """Measures the turns of the running event loop: each iteration of `run` is one."""

    longest = 0.0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            before = time.thread_time()
            await asyncio.sleep(0)
            self.longest = max(self.longest, time.thread_time() - before)

    @contextmanager
    def measure(self, found: dict[str, float], what: str) -> Iterator[None]:
        """The longest turn of a part, in milliseconds."""
        self.longest = 0.0
        yield
        found[what] = max(found.get(what, 0.0), self.longest * 1000)


def job_id(number: int) -> str:
    """Of a made-up job."""
    return str(UUID(int=number))


def body(number: int) -> dict[str, Any]:
    """A waiting job as the API server has it, with its status."""
    said = {
        "reason": "WaitingForGroup",
        "message": f"waits for group 'default' (limit 1), held by {NAMESPACE}/job-000000",
    }
    conditions = [
        {"type": kind, "status": status, "observedGeneration": 1, "lastTransitionTime": f"{START:%FT%TZ}", **said}
        for kind, status in (("Succeeded", "Unknown"), ("Finished", "False"))
    ]
    return {
        "metadata": {
            "uid": job_id(number), "namespace": NAMESPACE, "name": f"job-{number:06}", "generation": 1,
            "creationTimestamp": f"{START + timedelta(seconds=number // 10):%FT%TZ}", "resourceVersion": str(number),
            "managedFields": [{"manager": "kubectl", "fieldsV1": {f"f:{n}": {} for n in range(20)}}],
        },
        "spec": {"handler": "noop", "parameters": {"path": f"/data/{number}"}, "queue": "default"},
        "status": {"jobId": job_id(number), "attempt": 0, "observedGeneration": 1, "conditions": conditions,
                   "message": said["message"]},
    }  # fmt: skip


class NoApiServer:
    """Has the jobs, and takes every write."""

    def __init__(self, jobs: int) -> None:
        self._pages = [
            json.dumps({"items": [body(n) for n in range(first, min(first + PAGE, jobs))]})
            for first in range(0, jobs, PAGE)
        ]
        self._jobs = jobs

    async def everything(self) -> AsyncIterator[dict[str, Any]]:
        for page in self._pages:
            await asyncio.sleep(0)
            for each in json.loads(page)["items"]:
                yield each

    async def count(self) -> int:
        return self._jobs

    async def exists(self, *_: Any) -> bool:
        return True

    async def patch_status(self, *_: Any) -> None:
        await asyncio.sleep(0)


class NoTrail:
    """Of waiting jobs, and the first one queued."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs

    async def head(self, uid: str) -> Head:
        await asyncio.sleep(0)
        number = UUID(uid).int
        if number >= self._jobs:
            raise UnknownJob(uid)
        return Head(
            uid, NAMESPACE, f"job-{number:06}", "noop", "default", "default",
            START + timedelta(seconds=number // 10), State.QUEUED if number == 0 else State.SUBMITTED,
            sequence=2 if number == 0 else 1, order=number, etag=str(number),
        )  # fmt: skip

    async def history(self, uid: str, after: int = 0) -> list[JobEvent]:
        await asyncio.sleep(0)
        raise UnknownJob(f"{uid} {after}")

    async def append(self, before: Head, events: Any, **changes: Any) -> tuple[Head, list[JobEvent]]:
        await asyncio.sleep(0)
        after = replace(before, **changes, sequence=before.sequence + len(events))
        numbered = enumerate(events, before.sequence + 1)
        return after, [_event(after, each, n, datetime.now(UTC)) for n, each in numbered]


class NoBlobs:
    """None."""

    async def discard(self, *_: Any) -> bool:
        await asyncio.sleep(0)
        return True

    async def slots(self, *_: Any) -> AsyncIterator[tuple[str, str]]:
        for each in list[tuple[str, str]]():
            yield each

    jobs = sessions = slots


class AllOpen:
    """The list has every job."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs

    async def add(self, *_: Any) -> None:
        await asyncio.sleep(0)

    def remove(self, *_: Any) -> None: ...

    async def flush(self) -> None: ...

    async def everything(self) -> AsyncIterator[tuple[str, str, str]]:
        for n in range(self._jobs):
            if n % 1000 == 0:
                await asyncio.sleep(0)
            yield job_id(n), NAMESPACE, f"job-{n:06}"


class NoBroker:
    """Confirms everything at once; a queue has one message and one consumer."""

    connections = 1

    async def publish(self, *_: Any, **__: Any) -> None:
        await asyncio.sleep(0)

    declare = publish

    async def ask(self, *_: Any) -> tuple[int, int]:
        await asyncio.sleep(0)
        return 1, 1


async def measure(jobs: int) -> dict[str, float]:
    """Longest turns by what the operator does, in milliseconds of processor time; and memory."""
    settings = OperatorSettings(operator_resync_seconds=3600)
    server = NoApiServer(jobs)
    parts: list[Any] = [NoBroker(), NoTrail(jobs), NoBlobs(), server, AllOpen(jobs), None]
    found: dict[str, float] = {}
    gc.collect()
    before = _resident()
    engine = Engine(settings, *parts)
    turns = Turns()
    meter = asyncio.create_task(turns.run())
    started = time.perf_counter()
    with turns.measure(found, "restored"):
        running = asyncio.create_task(engine.run())
        await _until(lambda: not engine.problems)
    found["restored, s"] = time.perf_counter() - started
    with turns.measure(found, "reconciled"):
        await _until(lambda: not engine._queue._marked)  # noqa: SLF001
    gc.collect()
    found["KiB a job"] = (_resident() - before) / jobs
    with turns.measure(found, "one ends, another is admitted"):
        for _ in range(100):
            uid = next(uid for uid, job in engine._jobs.items() if job.state is State.QUEUED)  # noqa: SLF001
            _end(engine, uid)
            await _until(lambda uid=uid: engine._jobs[uid].settled)  # type: ignore[misc]  # noqa: SLF001
    with turns.measure(found, "a tenth is cancelled at once"):
        for number in range(jobs // 2, jobs // 2 + jobs // 10):
            changed = body(number)
            changed["metadata"]["generation"] = 2
            changed["spec"]["cancel"] = True
            engine.observe("MODIFIED", changed)
            if number % 100 == 0:
                await asyncio.sleep(0)
        await _until(lambda: not engine._queue._marked)  # noqa: SLF001
    with turns.measure(found, "watched anew"):
        async for each in server.everything():
            engine.observe(None, each)
        await _until(lambda: not engine._queue._marked)  # noqa: SLF001
    for task in (running, meter):
        task.cancel()
    await asyncio.gather(running, meter, return_exceptions=True)
    return found


def _end(engine: Engine, uid: str) -> None:
    job = engine._jobs[uid]  # noqa: SLF001
    event = JobEvent(
        event_id=f"{uid}.{job.sequence + 2}", job_id=uid, namespace=NAMESPACE, name=job.name, handler="noop",
        queue="default", group="default", submitted_at=job.created_at, sequence=job.sequence + 2, status="Completed",
        state=State.COMPLETED, timestamp=datetime.now(UTC), attempt=1, epoch=1,
    )  # fmt: skip
    engine._take_note(job, [event])  # noqa: SLF001


async def _until(condition: Callable[[], bool]) -> None:
    for _ in attempts(PATIENCE_SECONDS, "the engine is done"):
        if condition():
            return
        await asyncio.sleep(0.01)


def _resident() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measured(jobs: int) -> dict[str, float]:
    Collector().install()
    return asyncio.run(measure(jobs))


def main() -> None:
    options = arguments(
        __doc__, rounds=3, jobs={"type": int, "default": JOBS, "help": f"waiting jobs (default: {JOBS:,})"}
    )
    jobs = JOBS // 100 if options.quick else options.jobs
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, fresh, max_tasks_per_child=1) as processes:
        runs = list(processes.map(measured, [jobs] * options.rounds))
    found = {what: spread(run[what] for run in runs) for what in runs[0]}
    took, memory = found.pop("restored, s"), found.pop("KiB a job")
    Report(
        name="waiting",
        question=f"How long the operator's event loop is held up with {jobs:,} waiting jobs.",
        rounds=options.rounds,
        rows=[{"while": what, "longest turn, ms": turn} for what, turn in found.items()],
        targets=[
            at_most("the longest turn of all", 50, max(turn.high for turn in found.values()), "ms"),
            at_most("memory of a waiting job", 6, memory.high, "KiB"),
        ],
        notes=[
            "A turn is one iteration of the event loop, in processor time of its thread.",
            "The engine is the operator's own; API server, storage and broker answer at once, without network.",
            f"Restored in {took} s: that is the wait of an operator that is replaced, less the requests.",
            "Memory is the most that the process grew to, divided by the jobs.",
        ],
    ).publish(options.write)


if __name__ == "__main__":
    main()
