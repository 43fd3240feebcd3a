"""The protocol, explored exhaustively: nothing is broken, and what is left out of it is missed."""

import pytest

from model.explore import MUTANTS, explore

AT_LEAST = 100_000
"""States. Far fewer would mean that steps cannot happen any more."""


@pytest.mark.timeout(300)
def test_the_protocol_holds_in_every_state() -> None:
    found = explore()
    print(f"{found.states:,} states, {found.steps:,} steps, {found.seconds:.0f} s")
    assert not found.broken, "\n".join([found.broken, *found.way])
    assert found.states >= AT_LEAST


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutant", MUTANTS)
def test_what_is_left_out_is_missed(mutant: str) -> None:
    faults, why = MUTANTS[mutant]
    found = explore([mutant], faults)
    assert found.broken, f"nobody misses it in {found.states:,} states: {why}"
