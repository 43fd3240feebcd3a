"""Deliberate defects of `mutants.toml`: a process whose modules are imported with one of them."""

import importlib.machinery
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BUDGET = 120
"""Seeds within which a mutant is to be noticed."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """`old` is in the module's source exactly once, and becomes `new`."""

    name: str
    module: str
    old: str
    new: str
    seed: int = 0
    """One that has shown it."""


class NotThere(Exception):
    """The code has changed: a mutant's text is not in it exactly once."""


def mutants() -> dict[str, Mutant]:
    """All of them, by name."""
    found = tomllib.loads((Path(__file__).parent / "mutants.toml").read_text())["mutants"]
    return {each["name"]: Mutant(**each) for each in found}


def changed(mutant: Mutant, source: str) -> str:
    """The module's source with the defect. Raises `NotThere`."""
    if (count := source.count(mutant.old)) != 1:
        raise NotThere(f"{mutant.name}: {mutant.module} has {count} times {mutant.old!r}")
    return source.replace(mutant.old, mutant.new)


def breed(mutant: Mutant) -> None:
    """Have the defect in this process, in modules that are imported from now on."""
    plain: Any = importlib.machinery.SourceFileLoader.get_data

    def get_data(self: Any, path: str) -> bytes:
        data: bytes = plain(self, path)
        return changed(mutant, data.decode()).encode() if path.endswith(f"/{mutant.module}") else data

    def path_stats(_self: Any, _path: str) -> Any:
        raise OSError("no bytecode of before")

    loader: Any = importlib.machinery.SourceFileLoader
    loader.get_data, loader.path_stats = get_data, path_stats


def hunt(names: list[str], processes: int, budget: int = BUDGET) -> int:
    """Have each in a process of its own; how many survive their seed and a budget of others."""
    survivors = 0
    with ThreadPoolExecutor(processes) as pool:
        found = pool.map(lambda name: _hunt(name, mutants()[name].seed, budget), names)
        for name, (killed, told) in zip(names, found, strict=True):
            print(f"{'killed  ' if killed else 'SURVIVES'} {name}: {told}", flush=True)
            survivors += not killed
    print(f"{len(names)} mutants, {survivors} survive")
    return survivors


def _hunt(name: str, seed: int, budget: int) -> tuple[bool, str]:
    """Whether it is noticed, and in which words: first in the seed that has shown it, then in others."""
    told = ""
    for first, seeds in ((seed, 1), (1, budget)) if seed else ((1, budget),):
        command = [sys.executable, "-m", "simulation", "--mutant", name, "--first", str(first), "--seeds", str(seeds)]
        ended = subprocess.run(
            [*command, "--seconds", "inf", "--processes", "1"], cwd=Path(__file__).parent.parent,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        lines = ended.stdout.splitlines()
        if ended.returncode == 1 and lines and lines[0].startswith("seed "):
            return True, f"{lines[0].split(':')[0]}: {lines[1].strip()[:120]}"
        told = (lines or ended.stderr.splitlines() or [""])[-1]
    return False, told
