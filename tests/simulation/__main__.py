"""`python -m simulation`: many seeds; one again, with its trace; one with the fewest faults; mutants."""

import argparse
import json
import logging
import math
import os
import secrets
import sys
from typing import TYPE_CHECKING

from simulation.mutants import breed, hunt, mutants

if TYPE_CHECKING:
    from simulation.world import Play, Result


def main() -> None:
    """Entry point."""
    if os.environ.get("PYTHONHASHSEED") != "0":  # sets of text are walked in the order of their hashes
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "simulation", *sys.argv[1:]])
    parser = argparse.ArgumentParser(description="Simulate installations of JobLease under faults, on virtual time.")
    parser.add_argument("--seed", type=int, help="one seed, with its trace")
    parser.add_argument("--shrink", action="store_true", help="with --seed: without the faults that are not needed")
    parser.add_argument("--all", action="store_true", help="with --seed: also of jobs that nothing is wrong with")
    parser.add_argument("--calm", action="store_true", help="with --seed: without faults; what the jobs have cost")
    parser.add_argument("--first", type=int, default=secrets.randbits(32), help="first of many seeds")
    parser.add_argument("--seconds", type=float, default=60, help="real seconds to go on for")
    parser.add_argument("--seeds", type=float, default=math.inf, help="at most so many")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--jobs", type=int, default=25)
    parser.add_argument("--minutes", type=float, default=3, help="virtual minutes of faults for each seed")
    parser.add_argument("--log", action="store_true", help="the programs' own log lines, too")
    parser.add_argument("--mutant", choices=mutants(), metavar="NAME", help="with this defect, until it is noticed")
    parser.add_argument("--mutants", nargs="*", metavar="NAME", help="hunt these, or all: a survivor is a failure")
    asked = parser.parse_args()
    if asked.mutants is not None:
        sys.exit(hunt(asked.mutants or [*mutants()], asked.processes))
    if asked.mutant:
        breed(mutants()[asked.mutant])
    from simulation.world import Play

    logging.disable(logging.NOTSET if asked.log else logging.CRITICAL)
    if asked.log:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
    if asked.seed is None:
        play = Play(asked.first, asked.jobs, asked.minutes)
        sys.exit(campaign(play, asked.seconds, asked.seeds, asked.processes, until_bad=bool(asked.mutant)))
    play = Play(asked.seed, asked.jobs, asked.minutes, calm=asked.calm, trace=True)
    sys.exit(show(play, shrinking=asked.shrink, whole=asked.all))


def campaign(first: "Play", seconds: float, seeds: float, processes: int, *, until_bad: bool) -> int:
    """Many seeds; 1 when anything was found."""
    from simulation.campaign import Sum, many

    total = Sum()
    for result in many(first, seconds, seeds, processes):
        total.add(result)
        if result.violations:
            again = f"cd tests && python -m simulation --seed {result.seed}"
            print(f"seed {result.seed}: {len(result.violations)} violations; {again}")
            print("\n".join(f"    {each}" for each in result.violations[:5]), flush=True)
            if until_bad:
                break
    print(total)
    return int(bool(total.bad))


def show(play: "Play", *, shrinking: bool, whole: bool) -> int:
    """One seed's trace; 1 when anything was found."""
    from simulation.campaign import one
    from simulation.shrink import relevant, shrink

    result: Result = shrink(play) if shrinking else one(play)
    print("\n".join(result.trace if whole or not result.violations else relevant(result)))
    print(f"digest {result.digest:x}, {result.faults.total()} faults, quiet {result.quiet_after:.0f} s after the last")
    print(dict(result.outcomes))
    if play.calm:
        print(json.dumps({"jobs": result.jobs, "seconds": result.virtual, **result.requests}))
    print("\n".join(result.violations))
    return int(bool(result.violations))


main()
