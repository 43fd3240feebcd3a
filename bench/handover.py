"""How soon the next job starts when one ends, in single-job mode, in milliseconds: `make bench-handover`.

Jobs are submitted all at once and wait for the one slot; the audit trail says when each ended and the next one started.
The naive scheme (`naive.py`) runs jobs of the same length on the same broker and storage, in turn with JobLease, and
never more than a few of them, since it takes ten seconds each.
"""

import asyncio
from itertools import pairwise
from pathlib import Path

import naive
from jobs import open_jobs
from parts import installation
from report import Plot, Report, Row, Target, arguments, at_least, at_most, median, percentile, ratios, spread

WORKERS = (50, 10, 2)
"""Largest first: it is quicker to stop workers than to start them."""
JOBS = 20
JOB_SECONDS = 0.5
PATIENCE_SECONDS = 90
JOBLEASE, NAIVE, NAIVE_SPREAD = "JobLease", "naive", "naive, arriving over 10 s"
NAIVE_SCHEMES = {NAIVE: (0.0, 4), NAIVE_SPREAD: (naive.RETRY_SECONDS, 11)}
"""Seconds in which its jobs arrive, and how many are waited for."""
NOTES = (
    f"{JOBS} jobs of {JOB_SECONDS} s wait for the one slot; the targets compare these, submitted all at once.",
    "JobLease: from an outcome in the trail to the next `Started`. Naive: from a job's end to the next worker's lease.",
    "Naive: jobs that were submitted together come back together, so what is left of their 10 s is lost each time.",
    "Its best case are jobs that arrive at random moments: with n of them waiting, one comes back every 10 s / n.",
)
Taken = dict[str, list[list[float]]]
"""Milliseconds from each job's end to the next one's start, by scheme and round."""


async def hand_overs(folder: Path) -> list[float]:
    """Those of JobLease, in seconds."""
    async with open_jobs(folder) as jobs:
        ids = [await jobs.submit(JOB_SECONDS) for _ in range(JOBS)]
        ends = [await jobs.event(each, lambda event: event.state.terminal, PATIENCE_SECONDS, 0.5) for each in ids]
        starts = [await jobs.event(each, lambda event: event.status == "Started", 1) for each in ids]
    moments = sorted((start.timestamp, end.timestamp) for start, end in zip(starts, ends, strict=True))
    return [(after[0] - before[1]).total_seconds() for before, after in pairwise(moments)]


def measure(folder: Path, workers: int, rounds: int, taken: Taken) -> None:
    for number in range(1, rounds + 1):
        found = {JOBLEASE: asyncio.run(hand_overs(folder))}
        for scheme, (within, runs) in NAIVE_SCHEMES.items():
            found[scheme] = naive.hand_overs(
                folder, workers, JOBS, JOB_SECONDS, within=within, runs=runs, patience=PATIENCE_SECONDS
            )
        for scheme, seconds in found.items():
            taken.setdefault(scheme, []).append([each * 1000 for each in seconds])
            print(f"  {workers} workers, round {number}, {scheme}: {percentile(taken[scheme][-1], 0.5):.0f} ms")


def summary(workers: int, taken: Taken) -> list[Row]:
    p50 = {scheme: [percentile(each, 0.5) for each in rounds] for scheme, rounds in taken.items()}
    return [
        {
            "workers": workers,
            "scheme": scheme,
            "hand-overs": sum(map(len, rounds)),
            "p50 ms": spread(p50[scheme]),
            "p90 ms": spread(percentile(each, 0.9) for each in rounds),
            "times JobLease": ratios(p50[scheme], p50[JOBLEASE]),
        }
        for scheme, rounds in taken.items()
    ]


def targets(rows: list[Row]) -> list[Target]:
    found = []
    for ours, at_once, _ in zip(*[iter(rows)] * 3, strict=True):
        who = f"{ours['workers']} workers"
        found.append(at_most(f"p50, {who}", 100, median(ours["p50 ms"]), "ms"))
        found.append(at_least(f"sooner than the naive scheme, {who}", 20, median(at_once["times JobLease"]), "times"))
    return found


def main() -> None:
    options = arguments(__doc__, rounds=2)
    numbers = WORKERS[-1:] if options.quick else WORKERS
    rows: list[Row] = []
    with installation("handover", workers=max(numbers)) as (stack, folder):
        for workers in numbers:
            for part in stack.programs[1:-1][workers:]:
                part.stop()
            taken: Taken = {}
            measure(folder, workers, options.rounds, taken)
            rows[:0] = summary(workers, taken)
    Report(
        "handover",
        "How long is it from the end of one job to the start of the next, when only one may run at a time?",
        options.rounds,
        rows,
        targets(rows),
        NOTES,
        Plot("workers", "p50 ms", "scheme", log_x=True, log_y=True),
    ).publish(options.write)


if __name__ == "__main__":
    main()
