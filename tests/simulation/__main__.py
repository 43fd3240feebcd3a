"""`python -m simulation`: many seeds, or one again with its trace."""

import argparse
import gc
import logging
import os
import secrets
import sys
import time
from collections import Counter

from simulation.mutants import breed, mutants


def main() -> None:
    """Entry point."""
    if os.environ.get("PYTHONHASHSEED") != "0":  # sets of text are walked in the order of their hashes
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "simulation", *sys.argv[1:]])
    parser = argparse.ArgumentParser(description="Simulate installations of JobLease under faults, on virtual time.")
    parser.add_argument("--seed", type=int, help="one seed, with its trace")
    parser.add_argument("--first", type=int, default=secrets.randbits(32), help="first of many seeds")
    parser.add_argument("--seconds", type=float, default=60, help="real seconds to go on for")
    parser.add_argument("--jobs", type=int, default=25)
    parser.add_argument("--minutes", type=float, default=3, help="virtual minutes of faults for each seed")
    parser.add_argument("--log", action="store_true", help="the programs' own log lines, too")
    parser.add_argument("--mutant", choices=mutants(), help="with this defect, until it is noticed")
    asked = parser.parse_args()
    if asked.mutant:
        breed(mutants()[asked.mutant])
    from simulation.world import simulate

    logging.disable(logging.NOTSET if asked.log else logging.CRITICAL)
    if asked.log:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.unraisablehook = lambda _: None  # the runs of the dead
    if asked.seed is not None:
        result = simulate(asked.seed, asked.jobs, asked.minutes, trace=True)
        print("\n".join(result.trace))
        print(
            f"digest {result.digest:x}, {result.faults.total()} faults, quiet {result.quiet_after:.0f} s after the last"
        )
        print(dict(result.outcomes))
        print("\n".join(result.violations))
        sys.exit(bool(result.violations))
    began, seed, bad = time.perf_counter(), asked.first, 0
    faults: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    virtual, jobs, count = 0.0, 0, 0
    while time.perf_counter() - began < asked.seconds:
        result = simulate(seed, asked.jobs, asked.minutes)
        faults += result.faults
        outcomes += result.outcomes
        virtual += result.virtual
        jobs += result.jobs
        count += 1
        if result.violations:
            bad += 1
            print(f"seed {seed}: {len(result.violations)} violations; python -m simulation --seed {seed}")
            print("\n".join(f"    {each}" for each in result.violations[:5]), flush=True)
        gc.collect()
        seed += 1
        if asked.mutant and bad:
            break
    took = time.perf_counter() - began
    rate = faults.total() / took * 3600
    print(f"{count} seeds, {bad} bad; {faults.total():,} faults, {rate:,.0f} an hour; {jobs:,} jobs")
    print(f"{virtual / 3600:.1f} virtual hours in {took:.0f} s")
    print(dict(sorted(faults.items())))
    print(dict(outcomes))
    sys.exit(bool(bad))


main()
