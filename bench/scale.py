"""How many jobs a second one installation carries, worked out and simulated: `make bench-scale`.

Worked out is how many jobs a second each part carries (`capacity.py`, from the figures in `costs.py`). The simulation
(`queueing`, 1,000 workers) plays the same figures request by request, and shows what arithmetic cannot: what
really is the first to be fully used, how long jobs wait, and what lost workers do. It does not tell whether the figures
are right: that is for `make bench-price` and the budget tests. It needs no parts, and the same seeds give the same
result. Results: `scale.json`, and beside it `scale-capacity`, `scale-waiting` and `scale-losses`.
"""

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from capacity import (
    GROUP,
    HISTORY,
    INDEX,
    KEPT,
    OPERATOR_STATUS,
    OPERATOR_STEPS,
    WORKERS,
    agree,
    capacity,
    least,
    renewals,
)
from costs import PARTITION, RECONCILES, STATUS_WRITES, Job, Latency, Site
from queueing import Installation
from report import Report, Row, arguments, number, spread
from strain import losses, waiting

DAY, SHORT_TTL = 86_400, 300
RATES = ("jobs", "history", "requests", "renewals")
LONG_SECONDS = 600
"""A job so long that renewals can be counted alone."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """More jobs than can be done, so that something is fully used."""

    name: str
    job: Job
    site: Site
    limit: int = 0
    population: int = 1500
    """Jobs that are there at any time."""
    warm_up: float = 5
    seconds: float = 10


def scenarios(site: Site) -> list[Scenario]:
    """What is compared. The last three are no places to be in: each shows another limit at work."""
    turns, many = Job(limited=True, waits=True), site.workers + 50
    return [
        Scenario("one at a time, no-op", turns, site, 1, 20, 5, 60),
        Scenario("one at a time, 1 s", replace(turns, seconds=1), site, 1, 20, 20, 200),
        Scenario("50 at a time, 1 s", replace(turns, seconds=1), site, 50, 80, 10, 20),
        Scenario("any number, no-op", Job(), site),
        Scenario("any number, 1 s, 10 steps", Job(1, steps=10), site),
        Scenario("any number, 60 s", Job(60), site, 0, many, 120, 120),
        Scenario(
            f"{site.workers:,} at a time, {LONG_SECONDS} s", replace(turns, seconds=LONG_SECONDS), site,
            site.workers, many, LONG_SECONDS, LONG_SECONDS,
        ),
        Scenario(
            "no-op, an operator ten times as fast", Job(),
            replace(site, operator_ms=site.operator_ms / 10, dashboards=5), 0, 400, 1, 3,
        ),
        Scenario("no-op, an account of 300/s", Job(), replace(site, account=300, dashboards=0)),
        Scenario("no-op, a history of 200 rows/s", Job(), replace(site, partition=200)),
    ]  # fmt: skip


def play(scenario: Scenario, seed: int) -> Mapping[str, float | str]:
    """One run: rates a second, and the part that was used most."""
    installation = Installation(scenario.site, scenario.job, scenario.limit, seed)
    installation.keep(scenario.population)
    installation.run(scenario.warm_up)
    figures = installation.run(scenario.seconds)
    has = {
        WORKERS: scenario.site.workers, GROUP: scenario.limit, INDEX: scenario.site.dashboards,
        OPERATOR_STEPS: RECONCILES, OPERATOR_STATUS: STATUS_WRITES,
    }  # fmt: skip
    used = {part: busy / has.get(part, 1) for part, busy in figures.busy.items() if part not in HISTORY}
    return {
        "jobs": figures.ended / scenario.seconds,
        "history": figures.indexed / scenario.job.events / scenario.seconds,
        "requests": figures.spent.storage / scenario.seconds,
        "renewals": figures.renewals / scenario.seconds,
        "first": max(used, key=used.__getitem__),
    }


def compare(scenarios: Sequence[Scenario], seeds: Sequence[int]) -> Report:
    """What was worked out, and what happens."""
    rows: list[Row] = []
    off: dict[str, list[float]] = defaultdict(list)
    for scenario in scenarios:
        runs = [play(scenario, seed) for seed in seeds]
        figure = {name: spread([float(run[name]) for run in runs]) for name in RATES}
        part, wanted = least(scenario.job, scenario.site, scenario.limit)
        rows.append(
            {
                "jobs": scenario.name,
                "worked out, jobs/s": wanted,
                "simulated, jobs/s": figure["jobs"],
                "fully used first": part,
                "in the simulation": statistics.mode(str(run["first"]) for run in runs),
                "storage requests/s": figure["requests"].median,
            }
        )
        off["jobs a second, all lines"].append(figure["jobs"].median / wanted - 1)
        if scenario.site.partition < PARTITION.value:
            _, history = least(scenario.job, scenario.site, scenario.limit, history=True)
            off["jobs a second into a history of 200 rows/s"].append(figure["history"].median / history - 1)
        if scenario.job.seconds == LONG_SECONDS:
            held = renewals(scenario.limit, scenario.job.leases)
            what = f"renewals a second of {scenario.limit:,} running jobs ({held:g} worked out)"
            off[what].append(figure["renewals"].median / held - 1)
    note = (
        "Each line has more jobs than can be done. The last three show, one by one, limits that lie beyond the others "
        "at the published figures."
    )
    question = "Whether the arithmetic holds: jobs a second worked out, and simulated request by request"
    return Report("scale", question, len(seeds), rows, [agree(what, *each) for what, each in off.items()], [note])


def carried(site: Site) -> Report:
    """Each part's jobs a second, worked out."""
    kinds = {"no-op": Job(), "1 s, 10 steps": Job(1, steps=10), "60 s": Job(60)}
    parts = {name: dict(capacity(job, site)) for name, job in kinds.items()}
    for name, job in kinds.items():
        parts[name][f"{KEPT} for {SHORT_TTL // 60} minutes"] = capacity(job, site, ttl=SHORT_TTL)[KEPT]
        parts[name][f"{KEPT} for a day"] = parts[name].pop(KEPT)
    first = parts["no-op"]
    rows = [
        {"part": part, "no-op: jobs a day": f"{in_a_day(first[part])}"}
        | {f"{name}: jobs/s": rates[part] for name, rates in parts.items()}
        for part in sorted(first, key=first.__getitem__)
    ]
    turns = capacity(Job(limited=True, waits=True), site, 1)[GROUP]
    spent = {"operator": site.operator_ms, "worker": site.worker_ms, "dashboard": site.dashboard_ms}
    takes = {"a storage request": site.storage, "a confirmed message": site.publish, "an API write": site.api}
    notes = [
        f"A group with limit 1 does {number(turns)} no-op jobs a second, one of limit n up to n times as many.",
        f"Processor time of a no-op: {', '.join(f'{name} {ms:.1f} ms' for name, ms in spent.items())}.",
        f"One operator, one dashboard, {site.workers:,} workers that run one job at a time.",
        f"Assumed: {', '.join(f'{name} {each.p50:g} ms (p99: {each.p99:g})' for name, each in takes.items())}.",
    ]
    question = "How many jobs a second each part of one installation carries, worked out"
    return Report("scale-capacity", question, 1, rows, notes=notes)


def in_a_day(rate: float) -> str:
    """Jobs a day, in round figures."""
    jobs, million = rate * DAY, 1_000_000
    return f"{jobs / million:,.1f} million" if jobs >= million else f"{jobs:,.0f}"


def main() -> None:
    known = Site()
    options = arguments(
        __doc__, rounds=3,
        workers={"type": int, "default": known.workers, "help": f"workers (default: {known.workers})"},
        storage_ms={
            "type": float, "default": known.storage.p50,
            "help": f"median time of a storage request; the p99 grows with it (default: {known.storage.p50:g})",
        },
    )  # fmt: skip
    storage = Latency(options.storage_ms, options.storage_ms * known.storage.p99 / known.storage.p50)
    site = replace(known, workers=options.workers, storage=storage)
    seeds = range(1, options.rounds + 1)
    for report in (compare(scenarios(site), seeds), carried(site), waiting(site, seeds[0]), losses(site, seeds[0])):
        report.publish(options.write)


if __name__ == "__main__":
    main()
