"""`python -m model`: explore the protocol, and its mutants."""

import sys

from model.explore import MUTANTS, explore

found = explore()
print(f"{found.states:,} states, {found.steps:,} steps, {found.seconds:.0f} s: {found.broken or 'nothing is broken'}")
print("\n".join(f"    {each}" for each in found.way))
for name, (faults, _) in MUTANTS.items():
    mutant = explore([name], faults)
    print(f"{name}: {mutant.broken or 'SURVIVES'} after {len(mutant.way) - 1} steps, {mutant.seconds:.1f} s")
sys.exit(bool(found.broken))
