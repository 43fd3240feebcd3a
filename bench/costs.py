"""What a job costs, and what the services allow: the figures from which `docs/scale.md` is worked out.

Everything here is data, with the place where it was counted or published. `scale.py` calculates with it, and tests hold
it against the documents. That the programs really spend no more is held by
the budget tests, which count their requests.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from pathlib import Path
from statistics import NormalDist

MEASURED = Path(__file__).parent / "results" / "price.json"
EVENTS_OF_A_JOB = 4
"""`Submitted`, `Queued`, `Started`, and its outcome. Each step is one more."""
HEARD_OF_A_JOB = 2
"""The last two of them: the operator has written the others itself, and does not hear of them."""
LEASE_SECONDS, RENEW_SECONDS, DEFER_SECONDS = 60, 20, 10
DEBOUNCE_SECONDS, DESCRIBE_SECONDS = 0.1, 1
"""Jobs that end sooner are not shown running; runs that do not write their name into the blobs they lease."""
INDEX_BATCH, INDEX_BATCH_SECONDS = 100, 0.1
RECONCILES, STATUS_WRITES = 32, 16
"""What the operator does side by side."""
PROGRESS_SECONDS = 2
"""Least time between two writes of a job's progress."""
RESYNC_SECONDS = 60
"""After so long without news the operator looks into a running job's trail, again and again."""
TTL_SECONDS = 86_400
"""How long an ended `JobRequest` is kept, unless it or the operator's settings say otherwise."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What something takes once."""

    blob: float = 0
    """Requests to Blob storage."""
    table: float = 0
    """Requests to Table storage, most of them transactions."""
    rows: float = 0
    """Rows (entities) that these write or read."""
    published: float = 0
    """Messages that the broker confirms."""
    consumed: float = 0
    """Messages taken and acknowledged."""
    api: float = 0
    """Writes to the API server."""

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(one + more for one, more in zip(astuple(self), astuple(other), strict=True)))

    def __mul__(self, times: float) -> "Cost":
        return Cost(*(one * times for one in astuple(self)))

    @property
    def storage(self) -> float:
        """Storage requests."""
        return self.blob + self.table

    @property
    def units(self) -> float:
        """What it takes of the account's limit when each row of a transaction counts: the careful reading."""
        return self.blob + self.rows


SUBMIT = Cost(api=1)
"""Whoever creates the `JobRequest`."""
ADMIT = Cost(table=2, rows=5, published=3)
"""Operator, `Engine._begin`: its row in the list of open jobs, in a transaction that deletes another's (`OpenJobs`);
`Submitted`, `Queued` and head. Then `Publisher`: the job, two events."""
WAIT = Cost(table=1, rows=1, api=1)
"""Operator, more when the job is not admitted at once: `Queued` in its own transaction, a status that tells why."""
RUN = Cost(table=2, rows=4, published=2, consumed=1)
"""Worker: claim and outcome, with the head each, and their events."""
SLOT = Cost(blob=2)
"""Worker, more in a group with a limit: the slot's lease and its end (`locks._take_slot`)."""
STEP = Cost(table=1, rows=2, published=1)
"""Worker, a step: the event and the head (`Run._record`). Steps said during a write share the next one."""
DESCRIBE = Cost(blob=1)
"""Worker, a slot held longer than a second (`Keeper._attend`)."""
RENEW = Cost(blob=1)
"""Worker, its session and each slot every 20 s (`Keeper._renew`)."""
PROGRESS = Cost(api=1)
"""Operator, every two seconds of a run that speaks as often (`StatusWriter._pause`)."""
RESYNC = Cost(table=1)
"""Operator, each minute of a run that says nothing (`Engine._look_after`)."""
HEAR = Cost(consumed=1)
"""Operator, each event of a worker's (`Engine.on_event`, `topology.READERS`)."""
REFLECT = Cost(api=2)
"""Operator: the outcome in the status (`StatusWriter`), and the deletion after the TTL (`Expiry`)."""
SHOW = Cost(api=1)
"""Operator, a job that has not ended 0.1 s after it was queued: `Running` in the status (`StatusWriter`)."""
INDEX = Cost(table=2 / INDEX_BATCH, rows=2, consumed=2)
"""Dashboard, each event of a full batch: a row of `JobFeed`, at most one of `JobIndex` (`Index.add`). It comes from
the index's queue, and for the live streams from the log `joblease.events.live`."""
STATS = Cost(table=1, rows=1)
"""Dashboard, each batch in which a job ended: a row of `JobStats` for the hour (`Stats.add`)."""
COUNT = Cost(rows=1)
"""Dashboard, each job that ended: its own row of `JobStats`, in the same transaction."""
DEFER = Cost(blob=2, table=1, rows=1, published=1, consumed=1)
"""Worker: a slot that somebody else holds, the head that says who, whose session is held; and the copy of the message
that waits (`locks._take_slot`, `Session.is_over`)."""
RECOVER = Cost(blob=2, table=3, rows=3)
"""Worker, more for a run that was lost: its session and slot; the refused claim, the head, the history (`claim`)."""


@dataclass(frozen=True, slots=True)
class Job:
    """A kind of job."""

    seconds: float = 0
    steps: int = 0
    limited: bool = False
    """Its group has a limit."""
    waits: bool = False
    """It is not admitted at once."""

    @property
    def events(self) -> int:
        """Events of its whole life."""
        return EVENTS_OF_A_JOB + self.steps

    def operator(self) -> Cost:
        """What the operator does for it."""
        silent = self.seconds // RESYNC_SECONDS if not self.steps else 0
        shown = SHOW * (self.seconds > DEBOUNCE_SECONDS) + PROGRESS * min(self.steps, self.seconds // PROGRESS_SECONDS)
        return ADMIT + WAIT * self.waits + HEAR * (HEARD_OF_A_JOB + self.steps) + shown + REFLECT + RESYNC * silent

    def worker(self) -> Cost:
        """What its worker does."""
        kept = DESCRIBE * (self.seconds > DESCRIBE_SECONDS) + RENEW * (self.seconds // RENEW_SECONDS)
        return RUN + (SLOT + kept) * self.limited + STEP * self.steps

    def dashboard(self) -> Cost:
        """What the dashboard does, when it is busy enough for full batches."""
        return INDEX * self.events + STATS * (self.events / INDEX_BATCH) + COUNT

    def total(self) -> Cost:
        return SUBMIT + self.operator() + self.worker() + self.dashboard()


@dataclass(frozen=True, slots=True)
class Limit:
    """What a service allows, and who says so."""

    value: float
    title: str
    url: str


_AZURE = "https://learn.microsoft.com/en-us/azure/storage"
ACCOUNT = Limit(
    20_000, "Scalability and performance targets for standard storage accounts",
    f"{_AZURE}/common/scalability-targets-standard-account",
)  # fmt: skip
"""Requests a second of an account; 40,000 in the larger regions."""
PARTITION = Limit(
    2_000, "Scalability and performance targets for Table storage", f"{_AZURE}/tables/scalability-targets"
)
"""Entities of 1 KiB a second in a table's partition."""
BLOB = Limit(500, "Scalability and performance targets for Blob storage", f"{_AZURE}/blobs/scalability-targets")
"""Requests a second for one blob."""
QUEUE = Limit(
    30_000, "Migrating from Mirrored Classic Queues to Quorum Queues",
    "https://www.rabbitmq.com/blog/2023/03/02/quorum-queues-migration",
)  # fmt: skip
"""Messages of 1 kB a second of one quorum queue with three replicas."""
ETCD_WRITES = Limit(44_341, "etcd: Performance", "https://etcd.io/docs/v3.6/op-guide/performance/")
"""Writes a second of three members with 8 processors and an SSD each."""
ETCD_BYTES = Limit(8 << 30, "etcd: System limits", "https://etcd.io/docs/v3.6/dev-guide/limit/")
"""Suggested greatest size of the database."""
OBJECTS = Limit(
    10_000, "Graduate CustomResourceDefinitions to GA: scale targets",
    "https://github.com/kubernetes/enhancements/tree/master/keps/sig-api-machinery/95-custom-resource-definitions",
)  # fmt: skip
"""Suggested greatest number of custom resources of one kind, up to 10 kB each, in a cluster; 1,500 in a namespace."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Lognormal, as the time of a request usually is: most are quick and some are not. Milliseconds."""

    p50: float
    p99: float

    @property
    def sigma(self) -> float:
        """Of the underlying normal distribution."""
        return math.log(self.p99 / self.p50) / NormalDist().inv_cdf(0.99)

    @property
    def mean(self) -> float:
        return self.p50 * math.exp(self.sigma**2 / 2) / 1000


NO_OP, STEPS = "no-op", "10 steps"
"""Kinds of jobs whose processor time `make bench-price` measures."""


def measured(process: str, jobs: str, default: float) -> float:
    """Processor milliseconds of a job in one process, from `make bench-price` when it was run."""
    rows = json.loads(MEASURED.read_text())["rows"] if MEASURED.exists() else []
    found = (row for row in rows if row["process"] == process and row["jobs"] == jobs)
    return next((float(row["CPU ms/job"]["median"]) for row in found), default)


def measured_step(process: str, default: float) -> float:
    """The same of a step: what ten of them make of a no-op."""
    without = measured(process, NO_OP, 0)
    return (measured(process, STEPS, without + 10 * default) - without) / 10


@dataclass(frozen=True, slots=True)
class Site:
    """An installation, and what its services take. Assumptions, where nobody publishes a figure."""

    workers: int = 1000
    """Each runs one job at a time."""
    dashboards: int = 1
    storage: Latency = Latency(7, 40)
    """A request. Microsoft publishes no bound; so measure yours."""
    publish: Latency = Latency(3, 20)
    """A confirmed message: the fsync of a majority of the queue's members."""
    deliver: Latency = Latency(1, 5)
    api: Latency = Latency(8, 60)
    """A write to the API server."""
    operator_ms: float = field(default_factory=lambda: measured("operator", NO_OP, 6))
    worker_ms: float = field(default_factory=lambda: measured("worker", NO_OP, 6))
    dashboard_ms: float = field(default_factory=lambda: measured("dashboard", NO_OP, 4))
    """Processor time of a job without steps."""
    operator_step_ms: float = field(default_factory=lambda: measured_step("operator", 0.3))
    dashboard_step_ms: float = field(default_factory=lambda: measured_step("dashboard", 1))
    """More for each step."""
    account: float = ACCOUNT.value
    partition: float = PARTITION.value
    blob: float = BLOB.value

    def operator_cpu(self, job: Job) -> float:
        """The operator's processor time of a job, seconds."""
        return (self.operator_ms + job.steps * self.operator_step_ms) / 1000

    def dashboard_cpu(self, job: Job) -> float:
        """The dashboard's processor time of a job, seconds."""
        return (self.dashboard_ms + job.steps * self.dashboard_step_ms) / 1000


OPERATOR_SHARES: Mapping[str, float] = {"admit": 0.5, "hear": 0.2, "status": 0.3}
"""How the operator's processor time of a job without steps is spread over admitting, events and statuses. Assumed; it
moves waiting times a little and rates not at all."""
