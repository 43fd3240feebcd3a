"""The protocol under faults, simulated: always the same seeds, then fresh ones for JOBLEASE_SIMULATION_SECONDS."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = float(os.environ.get("JOBLEASE_SIMULATION_SECONDS", "60"))
TESTS = Path(__file__).parent.parent
KEPT = (1, 5, 20)
"""Seeds that have shown something once, or that have much going on."""
DIGEST = re.compile(r"digest ([0-9a-f]+)")


def simulate(*arguments: str, timeout: float) -> tuple[int, str]:
    """Exit code and output of `python -m simulation`."""
    ended = subprocess.run(
        [sys.executable, "-m", "simulation", *arguments],
        cwd=TESTS, env={**os.environ, "PYTHONHASHSEED": "0"}, capture_output=True, text=True, timeout=timeout,
        check=False,
    )  # fmt: skip
    return ended.returncode, ended.stdout + ended.stderr


@pytest.mark.timeout(300)
def test_a_seed_is_the_same_play_each_time() -> None:
    (_, first), (_, second) = (simulate("--seed", "7", timeout=120) for _ in range(2))
    assert first == second
    assert DIGEST.search(first)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", KEPT)
def test_nothing_is_found_in_a_seed_that_is_kept(seed: int) -> None:
    code, told = simulate("--seed", str(seed), timeout=200)
    assert code == 0, told[-3_000:]


@pytest.mark.timeout(4 * SECONDS + 200)
def test_nothing_is_found_in_fresh_seeds() -> None:
    code, told = simulate("--seconds", str(SECONDS), timeout=2 * SECONDS + 150)
    print(told)
    assert code == 0, told[-3_000:]
