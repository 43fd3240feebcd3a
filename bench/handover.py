"""How soon the next job starts when one ends, in single-job mode: `make bench-handover`.

Jobs are submitted all at once and wait for the one slot; the audit trail says when each ended and the next one started.
The naive scheme (`naive.py`) runs jobs of the same length on the same broker and storage, in turn with JobLease, and
never more than a few of them, since it takes ten seconds each.
"""

import asyncio
import os
from itertools import pairwise
from pathlib import Path

import naive
from joblease_local.stack import Stack
from jobs import open_jobs
from parts import installation
from report import Plot, Report, Row, Target, arguments, median, percentile, spread

WORKERS = (50, 10, 2)
"""Largest first: it is quicker to stop workers than to start them."""
JOBS = 20
JOB_SECONDS = 0.5
NAIVE_RUNS = 4
NAIVE_SPREAD_RUNS = 11
PATIENCE_SECONDS = 90
WANTED_MS = 100
WANTED_TIMES = 20

NOTES = (
    f"{JOBS} jobs of {JOB_SECONDS} s wait for the one slot; the targets compare these, submitted all at once.",
    "JobLease: from an outcome in the trail to the next `Started`. Naive: from a job's end to the next worker's lease.",
    "Naive: jobs that were submitted together come back together, so what is left of their 10 s is lost each time.",
    "Its best case are jobs that arrive at random moments: with n of them waiting, one comes back every 10 s / n.",
)
JOBLEASE, NAIVE, NAIVE_SPREAD = "JobLease", "naive", "naive, arriving over 10 s"


async def hand_overs(stack: Stack) -> list[float]:
    """Seconds from each job's end to the next one's start."""
    async with open_jobs(stack) as jobs:
        ids = [await jobs.submit(JOB_SECONDS) for _ in range(JOBS)]
        ends = [await jobs.event(each, lambda event: event.state.terminal, PATIENCE_SECONDS, 0.5) for each in ids]
        starts = [await jobs.event(each, lambda event: event.status == "Started", 1) for each in ids]
    times = sorted(
        (start.timestamp.timestamp(), end.timestamp.timestamp()) for start, end in zip(starts, ends, strict=True)
    )
    return [after[0] - before[1] for before, after in pairwise(times)]


def measure(stack: Stack, workers: int, rounds: int) -> dict[str, list[list[float]]]:
    """The hand-overs of each scheme, by round."""
    folder = Path(stack.environment["KUBECONFIG"]).parent
    taken: dict[str, list[list[float]]] = {JOBLEASE: [], NAIVE: [], NAIVE_SPREAD: []}
    for number in range(1, rounds + 1):
        taken[JOBLEASE].append(asyncio.run(hand_overs(stack)))
        for scheme, within, runs in ((NAIVE, 0.0, NAIVE_RUNS), (NAIVE_SPREAD, naive.RETRY_SECONDS, NAIVE_SPREAD_RUNS)):
            taken[scheme].append(
                naive.hand_overs(
                    folder, workers, JOBS, JOB_SECONDS, within=within, runs=runs, patience=PATIENCE_SECONDS
                )
            )
        print(
            f"  {workers} workers, round {number}: " + ", ".join(f"{s}: {_p50(t[-1]):.0f} ms" for s, t in taken.items())
        )
    return taken


def _p50(seconds: list[float]) -> float:
    return percentile(seconds, 0.5) * 1000


def summary(workers: int, taken: dict[str, list[list[float]]]) -> list[Row]:
    """A row for each scheme."""
    ours = [_p50(each) for each in taken[JOBLEASE]]
    return [
        {
            "workers": workers,
            "scheme": scheme,
            "hand-overs": sum(map(len, rounds)),
            "p50 ms": spread([_p50(each) for each in rounds]),
            "p90 ms": spread([percentile(each, 0.9) * 1000 for each in rounds]),
            "times JobLease": spread([_p50(each) / base for each, base in zip(rounds, ours, strict=True)]),
        }
        for scheme, rounds in taken.items()
    ]


def targets(rows: list[Row]) -> list[Target]:
    """What the issue of this benchmark asked for, at each number of workers."""
    found = []
    for workers in sorted(WORKERS):
        ours, naive_at_once, _ = (row for row in rows if row["workers"] == workers)
        p50, times = median(ours["p50 ms"]), median(naive_at_once["times JobLease"])
        found.append(Target(f"p50, {workers} workers", f"<= {WANTED_MS} ms", f"{p50:.0f} ms", met=p50 <= WANTED_MS))
        found.append(
            Target(
                f"sooner than the naive scheme, {workers} workers",
                f">= {WANTED_TIMES} times",
                f"{times:.0f} times",
                met=times >= WANTED_TIMES,
            )
        )
    return found


def main() -> None:
    """Entry point."""
    options = arguments(__doc__, rounds=2)
    rows: list[Row] = []
    with installation("handover", workers=max(WORKERS)) as stack:
        os.environ.update(stack.environment)
        for workers in WORKERS:
            for part in stack.programs[1:-1][workers:]:
                part.stop()
            rows[:0] = summary(workers, measure(stack, workers, options.rounds))
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
