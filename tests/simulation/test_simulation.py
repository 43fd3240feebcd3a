"""The protocol under faults, simulated: the same seeds always, and fresh ones for JOBLEASE_SIMULATION_SECONDS."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from simulation.mutants import changed, mutants

SECONDS = float(os.environ.get("JOBLEASE_SIMULATION_SECONDS", "60"))
TESTS = Path(__file__).parent.parent
ROOT = TESTS.parent
KEPT = (1, 22, 1033672756, 914306591, 3202921481, 1172919252, 1172920071, 882201986, 882202598, 2461890127)
"""Seeds that have shown something once. What they have shown is among the mutants: a play changes with the nemesis."""
SAMPLE = (
    "epoch is not raised",
    "steps of a broken write are forgotten",
    "a running job is claimed as a new one",
    "every refusal is taken for a lost answer of one's own",
    "a stranger's head is written over",
    "guardian hears of no deadline",
    "slots are not asked for",
)
"""Mutants that one seed each shows; all of them take an hour: `python -m simulation --mutants`."""
REPLAY = re.compile(r"^seed .*(?:\n    .*)*", re.MULTILINE)
"""What a campaign says of a seed in which something was found: the command that plays it again, and what was found."""
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
    assert "Warning" not in told


@pytest.mark.timeout(4 * SECONDS + 200)
def test_nothing_is_found_in_fresh_seeds() -> None:
    code, told = simulate("--seconds", str(SECONDS), timeout=2 * SECONDS + 150)
    print(told)
    assert code == 0, "\n".join(REPLAY.findall(told)) or told[-3_000:]


@pytest.mark.timeout(300)
def test_jobs_without_faults_cost_what_they_may() -> None:
    """As `tests/integration/test_budget.py` counts it on the real parts; here with the periodic work beside it."""
    code, told = simulate("--seed", "3", "--calm", timeout=200)
    assert code == 0, told[-3_000:]
    spent = json.loads(next(line for line in told.splitlines() if line.startswith('{"jobs"')))
    sweeps = 4 * (spent["seconds"] // 30 + 3) + spent["seconds"] // 5 + 1  # and rows of ended jobs, deleted together
    sessions = 4 * (3 + spent["seconds"] // 5)  # of four workers: begun, and renewed
    assert spent["worker storage"] <= (4 + 3) * spent["jobs"] + sessions  # slot, claim, outcome, release; three steps
    assert spent["operator storage"] <= 2 * spent["jobs"] + sweeps


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", SAMPLE)
def test_a_mutant_is_noticed(name: str) -> None:
    seed = mutants()[name].seed
    code, told = simulate(
        "--mutant", name, "--first", str(seed), "--seeds", "1", "--seconds", "inf", "--processes", "1", timeout=250
    )
    assert code == 1, told[-3_000:]
    assert f"seed {seed}: " in told


@pytest.mark.timeout(600)
def test_a_violation_is_shrunk_to_the_faults_that_it_needs() -> None:
    play = ("--mutant", "epoch is not raised", "--seed", "1", "--jobs", "8", "--minutes", "1")
    told = [simulate(*play, *more, timeout=280) for more in ((), ("--shrink",))]
    assert [code for code, _ in told] == [1, 1]
    whole, small = (int(found[1]) for _, text in told if (found := re.search(r", (\d+) faults", text)))
    assert small < whole


@pytest.mark.parametrize("name", mutants())
def test_each_mutant_is_in_the_code(name: str) -> None:
    mutant = mutants()[name]
    (module,) = ROOT.glob(f"*/{mutant.module}")
    assert changed(mutant, module.read_text()) != module.read_text()
