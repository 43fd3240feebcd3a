"""What a job costs each program, in milliseconds of processor time, beside another commit of JobLease.

    git worktree add ../before COMMIT        # and its dependencies into ../before/.venv: `make status` there
    .venv/bin/python bench/against.py ../before --write

The trees run their own `bench/price.py` in turn, a round each, so that a slow minute of the machine slows both.
"""

import argparse
import json
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from costs import NO_OP
from price import CPU, PROGRAMS
from processes import BENCH
from report import RESULTS, Report, Row, Spread, at_most, ratios, spread

ROUND_SECONDS = 600
WANTED = {"worker": 0.5, "operator": 0.6, "dashboard": 0.7}
"""Shares of what a no-op job took before sessions (commit 0ec3466)."""
Found = defaultdict[tuple[str, str], list[float]]
"""Milliseconds by kind of jobs and program, a figure a round."""


def measure(tree: Path, found: Found) -> None:
    """One round of one tree. Raises what `subprocess.run` does."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(tree / ".venv/bin/python"), str(tree / "bench/price.py"), "--rounds", "1", "--write", folder]
        subprocess.run(command, cwd=tree, check=True, timeout=ROUND_SECONDS, stdout=subprocess.DEVNULL)
        rows: list[dict[str, Any]] = json.loads((Path(folder) / "price.json").read_text())["rows"]
    for row in rows:
        if row["process"] in PROGRAMS.values():
            found[row["jobs"], row["process"]].append(row[CPU]["median"])
    print(f"  {tree}: { ({key: each[-1] for key, each in found.items()}) }", flush=True)


def line(key: tuple[str, str], ours: Found, theirs: Found) -> Row:
    jobs, process = key
    share: Spread = ratios(ours[key], theirs[key])
    return {"jobs": jobs, "process": process, "before": spread(theirs[key]), "now": spread(ours[key]), "share": share}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="the other tree")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="write price-before.json into results/")
    options = parser.parse_args()
    before = options.before.resolve()
    commit = subprocess.run(
        ["git", "-C", before, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    ours: Found = defaultdict(list)
    theirs: Found = defaultdict(list)
    for _ in range(options.rounds):
        measure(before, theirs)
        measure(BENCH.parent, ours)
    Report(
        "price-before", "What a job costs each program, beside an earlier commit", options.rounds,
        [line(key, ours, theirs) for key in ours],
        targets=[
            at_most(f"{process}, {NO_OP}, share", share, ratios(ours[NO_OP, process], theirs[NO_OP, process]))
            for process, share in WANTED.items()
        ],
        notes=(
            f"Milliseconds of processor time a job; before: commit {commit}.",
            "Rounds of the two commits in turn; a share is of the two figures of one round.",
        ),
    ).publish(RESULTS if options.write else None)  # fmt: skip


if __name__ == "__main__":
    main()
