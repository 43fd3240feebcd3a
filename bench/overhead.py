"""What a worker itself costs, in seconds of processor time for 1,000 jobs: `make bench-overhead`.

One worker on a storage account that answers at once (`storage_double.py`), and on a real RabbitMQ, does no-op jobs. It
is compared with one worker each of three task libraries: with a bare no-op and late acknowledgement, which is less than
JobLease does, and with a lease and the same rows in the task. JobLease's requests alone, by its own clients, show what
is left when everything but them is taken away.
"""

from dataclasses import replace

from fleet import Fleet, Run, cpu_ms, fleets
from joblease import topology
from joblease.messages import JobMessage
from noops import ADMITTED, message, new_head
from parts import broker_and_storage, delete_queues
from report import Report, Row, arguments, at_least, ratios, spread
from storage_double import counts, storage_double

CONCURRENCY = 8
WARM_UP = 200
"""Jobs that are not measured."""
NOTHING = "no-op"
REQUESTS = "no-op, lease and trail"
JOBS = {NOTHING: 4000, REQUESTS: 1000}
"""How many a round."""
ENTRANTS: dict[tuple[str, str], tuple[str, dict[str, bool]]] = {
    ("JobLease", REQUESTS): ("joblease", {}),
    ("Celery", NOTHING): ("celery", {"storage": False}),
    ("Dramatiq", NOTHING): ("dramatiq", {"storage": False}),
    ("Taskiq", NOTHING): ("taskiq", {"storage": False}),
    ("Celery", REQUESTS): ("celery", {"storage": True}),
    ("Dramatiq", REQUESTS): ("dramatiq", {"storage": True}),
    ("Taskiq", REQUESTS): ("taskiq", {"storage": True}),
    ("storage requests alone", REQUESTS): ("raw", {}),
    ("the same as bare HTTP", REQUESTS): ("http", {}),
}
"""What to call it, and what its jobs do: its module, options for publishing."""
OURS, *LIBRARIES = list(ENTRANTS)[:7]
Found = dict[tuple[str, str], list[Run]]


def jobs(count: int) -> list[JobMessage]:
    """Messages of new jobs; the double takes any of them for known."""
    return [message(replace(new_head(), etag='W/"0x1"', sequence=len(ADMITTED))) for _ in range(count)]


def measure(started: Fleet, entrant: tuple[str, str], count: int, others: dict[str, int]) -> Run:
    """One worker, one round. Raises `SystemExit` when it has not made the requests that it should."""
    before = counts()
    run = started.run(jobs(count), others, **ENTRANTS[entrant][1])
    asked = counts() - before
    each = count if entrant[1] == REQUESTS else 0
    lease = each if entrant in LIBRARIES else 0  # ours hang on the session of the worker
    expected = {"lease": lease, "batch": 2 * each, "delete": lease}
    for kind, number in expected.items():  # the last ones may be on their way still, also those of the run before
        if abs(asked[kind] - number) > 2 * CONCURRENCY:
            raise SystemExit(f"{entrant[0]} made {asked} requests for {count} jobs, expected {expected}")
    return run


def main() -> None:
    options = arguments(__doc__, rounds=3)
    less = 20 if options.quick else 1
    found: Found = {entrant: [] for entrant in ENTRANTS}
    with (
        broker_and_storage("overhead") as (folder, pids),
        storage_double() as double,
        fleets([module for module, _ in ENTRANTS.values()], 1, CONCURRENCY, folder) as started,
    ):
        others = {"storage double": double, "RabbitMQ": pids["rabbitmq"]}
        for module, more in ENTRANTS.values():
            started[module].run(jobs(WARM_UP // less), others, **more)
        for _ in range(options.rounds):
            for entrant, (module, _more) in ENTRANTS.items():
                run = measure(started[module], entrant, JOBS[entrant[1]] // less, others)
                found[entrant].append(run)
                print(f"  {', '.join(entrant)}: {run.jobs / run.seconds:.0f} jobs/s", flush=True)
                delete_queues(*(f"{topology.EVENTS}.{reader}" for reader in topology.READERS))
    report(found, options.rounds).publish(options.write)


def report(found: Found, rounds: int) -> Report:
    """All rounds' figures as a table, and the comparisons within each round."""
    rate = {entrant: [run.jobs / run.seconds for run in runs] for entrant, runs in found.items()}
    rows: list[Row] = [
        {
            "contender": name,
            "its jobs": work,
            "jobs/s": spread(rate[name, work]),
            "CPU s/1,000 jobs": spread(cpu_ms([run], "workers") for run in runs),
            "storage double": cpu_ms(runs, "storage double"),
            "RabbitMQ": cpu_ms(runs, "RabbitMQ"),
        }
        for (name, work), runs in found.items()
    ]
    return Report(
        name="overhead",
        question="What one worker costs on a storage account that answers at once.",
        rounds=rounds,
        rows=rows,
        targets=[
            at_least(f"JobLease's jobs/s to those of {name} ({work})", 1, ratios(rate[OURS], rate[name, work]))
            for name, work in LIBRARIES
        ],
        notes=[
            f"One worker of each, {CONCURRENCY} jobs at once, of {JOBS[REQUESTS]} queued ones (bare: {JOBS[NOTHING]}).",
            "CPU is user and system time of the worker with all its processes; broker and double are beside it.",
            "A job costs JobLease 2 storage requests here, and 4 where its group has a limit; it costs the others 4.",
            "Bare HTTP: the same requests ready-made and unsigned, by aiohttp; no broker, nothing encoded or read.",
            "It is the floor: a worker that makes these requests costs at least that and a bare no-op together.",
        ],
    )


if __name__ == "__main__":
    main()
