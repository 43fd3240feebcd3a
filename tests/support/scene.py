"""A day at work, for screenshots and for tests of pages: jobs of many kinds, in all states, on some workers."""

import asyncio
import random
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import uuid4

from joblease import topology
from joblease.head import Head
from joblease.leases import session_blob, slot_blob
from joblease.messages import HandlerDescription, JobMessage, WorkerReport, now, rfc3339
from joblease.settings import BrokerSettings
from joblease.states import State
from joblease.topology import DEAD, REASON_HEADER, WORKERS
from joblease_worker.closing import AGAIN

from support.history import History
from support.jobs import Jobs

ERROR = "ValueError: row 7141: balance '12,50' is no number"
TRACEBACK = f"""Traceback (most recent call last):
  File "/handlers/accounts/load.py", line 48, in load
    account = parse(row)
  File "/handlers/accounts/rows.py", line 21, in parse
    raise ValueError(f"row {{row.number}}: balance {{row.balance!r}} is no number")
{ERROR}"""
KINDS = (  # handler, names, seconds that it runs, steps
    ("resize-images", "thumbnails", 40, 4),
    ("send-invoices", "invoices", 90, 5),
    ("import-accounts", "accounts", 200, 6),
    ("nightly-report", "report", 400, 8),
)
FOR_EVER = -1
"""Seconds of a lease that does not end while the pages are looked at."""
OFTEN = (12, 6, 3, 1)
HANDLERS: dict[str, tuple[str, dict[str, dict[str, Any]]]] = {
    "import-accounts": (
        "Load a ledger's accounts from a file.",
        {
            "path": {"type": "string"},
            "batch": {"type": "integer", "default": 500, "minimum": 1},
            "dryRun": {"type": "boolean", "default": False},
        },
    ),
    "resize-images": ("Make thumbnails of a width.", {"width": {"type": "integer", "default": 800}}),
    "send-invoices": ("Send a month's invoices by mail.", {"month": {"type": "string"}}),
}
STATES = {"Submitted": State.SUBMITTED, "Queued": State.QUEUED, "Started": State.RUNNING, "Retrying": State.RETRYING,
          "Interrupted": State.INTERRUPTED, "Completed": State.COMPLETED, "Failed": State.FAILED,
          "Cancelled": State.CANCELLED}  # fmt: skip


@dataclass
class Scene:
    """Jobs that pages are about; and what each worker runs."""

    running: History
    waiting: History
    failed: History
    completed: History
    held: dict[str, str] = field(default_factory=dict)


class Teller:
    """Tells what happened to a job, beginning some seconds ago."""

    def __init__(self, jobs: Jobs, name: str, handler: str, ago: float, **fields: str) -> None:
        values = {"namespace": "shop", "group": name.rstrip("0123456789-"), **fields}
        self.job = History(jobs, name, now() - timedelta(seconds=ago), handler=handler, **values)

    async def tell(self, status: str, after: float = 0.01, message: str = "", **event: Any) -> None:
        state = STATES.get(status, State.RUNNING)
        await self.job.happen(status, state, after=after, message=message, **event)

    async def submitted(self, parameters: dict[str, Any], **spec: Any) -> None:
        data = {"handler": self.job.head.handler, "parameters": parameters, **spec}
        await self.tell("Submitted", data=data)

    async def started(self, worker: str, after: float = 1) -> None:
        attempt = self.job.head.attempt + 1
        await self.tell("Started", after, f"attempt {attempt} on {worker}", worker=worker)

    async def step(self, number: int, progress: int, message: str, after: float) -> None:
        await self.tell(f"Step {number}", after, message, progress=progress)


async def play(jobs: Jobs, past: int = 60, hours: float = 6) -> Scene:
    """Fill the trail and, by events, the dashboard. `past` jobs have ended within the last hours."""
    chance = random.Random(20)
    await jobs.broker.declare(topology.declare_exchanges)
    limit = asyncio.Semaphore(16)

    async def one(number: int) -> None:
        async with limit:
            await _ended(jobs, chance, hours * 3600 * (1 - number / past) + 480, number)

    await asyncio.gather(*(one(number) for number in range(past)))
    scene = Scene(await _running(jobs), await _waiting(jobs), await _failed(jobs), await _completed(jobs))
    scene.held = {
        "worker-1": scene.running.job_id,
        "worker-2": await _image(jobs, 1),
        "worker-3": await _image(jobs, 2),
    }
    await _hold(jobs, scene.running.head)
    await _report(jobs, scene.held)
    await _dead_letters(jobs)
    await jobs.broker.declare(_declare)
    return scene


async def _ended(jobs: Jobs, chance: random.Random, ago: float, number: int) -> None:
    handler, name, length, steps = chance.choices(KINDS, OFTEN)[0]
    job = Teller(jobs, f"{name}-{1000 + number}", handler, ago)
    await job.submitted({"batch": number})
    await job.started(f"worker-{chance.randint(1, 3)}", chance.expovariate(1 / 6))
    await job.step(steps, 90, f"{steps} of {steps} parts done", length * chance.lognormvariate(0, 0.35))
    roll = chance.random()
    if roll < 0.06:
        error = "TimeoutError: the mail server did not answer"
        await job.tell("Failed", message=error, data={"error": error, "traceback": TRACEBACK})
    elif roll < 0.09:
        await job.tell("Cancelled", message="cancelled by its owner")
    else:
        await job.tell("Completed", progress=100, data={"result": {"parts": steps}})


async def _running(jobs: Jobs) -> History:
    """A job in its third attempt, after a failure and an interruption."""
    job = Teller(jobs, "accounts-2026-11", "import-accounts", 280)
    await job.submitted({"path": "s3://ledger/2026-11.csv", "dryRun": False, "batch": 500}, retry={"maxAttempts": 5})
    await job.tell("Queued", message="waits for a worker of queue default")
    await job.started("worker-2", 14)
    for step in (1, 2):
        await job.step(step, step * 14, f"loaded {step * 1000} of 7141 rows", 19)
    due = rfc3339(job.job.at + timedelta(seconds=32))
    await job.tell("Retrying", 12, ERROR, data={"error": ERROR, "traceback": TRACEBACK, "nextAttemptAt": due})
    await job.tell("Queued", 20)
    await job.started("worker-3", 2)
    await job.step(1, 14, "loaded 1000 of 7141 rows", 22)
    await job.tell("Interrupted", 30, f"worker-3 shuts down; {AGAIN}")
    await job.started("worker-1", 9)
    for step in (1, 2, 3, 4):
        await job.step(step, step * 14, f"loaded {step * 1000} of 7141 rows", 21)
    return job.job


async def _image(jobs: Jobs, number: int) -> str:
    job = Teller(jobs, f"thumbnails-{2000 + number}", "resize-images", 30, group="images")
    await job.submitted({"width": 800}, concurrency={"group": "images", "limit": 0})
    await job.started(f"worker-{number + 1}")
    await job.step(number, number * 35, f"resized img-0{number}.jpg to 800", 12)
    return job.job.job_id


async def _waiting(jobs: Jobs) -> History:
    """One for its group, one for its time, one for a worker."""
    job = Teller(jobs, "accounts-2026-12", "import-accounts", 150)
    await job.submitted({"path": "s3://ledger/2026-12.csv"})
    later = Teller(jobs, "report-weekly", "nightly-report", 120, group="report")
    await later.submitted({}, startAfter=rfc3339(now() + timedelta(hours=2)))
    queued = Teller(jobs, "train-recommender", "train", 60, queue="gpu", group="train")
    await queued.submitted({"epochs": 40})
    await queued.tell("Queued", message="waits for a worker of queue gpu")
    return job.job


async def _failed(jobs: Jobs) -> History:
    job = Teller(jobs, "accounts-2026-10", "import-accounts", 540)
    await job.submitted({"path": "s3://ledger/2026-10.csv"}, retry={"maxAttempts": 2})
    for status, pause in (("Retrying", 3), ("Failed", 20)):
        await job.started("worker-2", pause)
        await job.step(1, 14, "loaded 1000 of 7141 rows", 20)
        await job.tell(status, 25, ERROR, data={"error": ERROR, "traceback": TRACEBACK})
    return job.job


async def _completed(jobs: Jobs) -> History:
    job = Teller(jobs, "invoices-2026-11-24", "send-invoices", 420, group="invoices")
    await job.submitted({"month": "2026-11"})
    await job.started("worker-3", 4)
    for step in range(1, 6):
        await job.step(step, step * 20, f"sent {step * 120} of 600 invoices", 13 + step)
    await job.tell("Completed", progress=100, data={"result": {"sent": 600, "bounced": 3}})
    return job.job


async def _hold(jobs: Jobs, head: Head) -> None:
    """The leases of a job that runs."""
    says = {"worker": head.worker or "", "jobId": head.job_id, "epoch": str(head.epoch)}
    for blob in (session_blob(str(uuid4())), slot_blob(head.group, 0)):
        if await jobs.blobs.create(blob, {}):
            await jobs.blobs.describe(await jobs.blobs.acquire(blob, FOR_EVER), says)


async def _declare(channel: Any) -> None:
    """The queues of the programs that are not there, when there is nothing for them any more."""
    await topology.declare_readers(channel)
    await topology.declare_pool(channel, "gpu", BrokerSettings(defer_seconds=10))


async def _dead_letters(jobs: Jobs) -> None:
    """One that a newer release has sent, and one that can be replayed."""
    message = JobMessage(
        job_id="0b6f7c1e-5d0a-4a39-9f0e-2f6c1d0c8a11", namespace="shop", name="invoices-2026-09",
        handler="send-invoices", queue="default", parameters={"month": "2026-09"}, group="invoices", limit=1,
    )  # fmt: skip
    for body, reason in (
        (message.encode(), "delivered 20 times without an acknowledgement"),
        (b'{"version": 7, "jobId": "?"}', "not a job message: version 7 is not known"),
    ):
        await jobs.broker.publish("", DEAD, body, message_id=reason, headers={REASON_HEADER: reason})


async def _report(jobs: Jobs, held: dict[str, str]) -> None:
    handlers = []
    for name, (text, fields) in HANDLERS.items():
        required = [each for each, schema in fields.items() if "default" not in schema]
        schema = {"type": "object", "properties": fields, "required": required}
        handlers.append(HandlerDescription(name=name, description=text, parameters=schema))
    for worker, job_id in held.items():
        report = WorkerReport(
            worker=worker, queue="default", concurrency=1, lease_seconds=60, period_seconds=3600,
            started_at=now() - timedelta(hours=7), timestamp=now(), release="0.1.0", jobs=[job_id], unacknowledged=1,
            handlers=handlers,
        )  # fmt: skip
        await jobs.broker.publish(WORKERS, "", report.encode(), message_id=worker)
