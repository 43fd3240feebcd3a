"""`python -m model`: explore the protocol, and its mutants."""

import sys

from model.explore import MUTANTS, explore

found = explore()
print(f"{found.states:,} states, {found.steps:,} steps, {found.seconds:.0f} s: {found.broken or 'nothing is broken'}")
print("\n".join(f"    {each}" for each in found.way))
for name in MUTANTS:
    mutant = explore([name])
    print(f"{name}: {mutant.broken or 'SURVIVES'} after {len(mutant.way) - 1} steps, {mutant.seconds:.0f} s")
sys.exit(bool(found.broken))
