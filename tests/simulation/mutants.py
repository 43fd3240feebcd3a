"""Deliberate defects of `mutants.toml`: a process whose modules are imported with one of them."""

import importlib.machinery
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BUDGET = 20
"""Seeds within which a mutant is to be noticed."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """`old` is in the module's source exactly once, and becomes `new`."""

    name: str
    module: str
    old: str
    new: str


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


def hunt(names: list[str], processes: int) -> int:
    """Have each in a process of its own; how many survive their budget of seeds."""
    survivors = 0
    with ThreadPoolExecutor(processes) as pool:
        for name, (code, told) in zip(names, pool.map(_hunt, names), strict=True):
            lines = told.splitlines()
            seeds = next((line.split()[0] for line in lines if " seeds, " in line), "?")
            words = next((line.strip() for line in lines if line.startswith("    ")), lines[-1] if lines else "")
            print(f"{'killed  ' if code == 1 else 'SURVIVES'} {seeds:>3} seeds  {name}: {words[:150]}", flush=True)
            survivors += code != 1
    print(f"{len(names)} mutants, {survivors} survive {BUDGET} seeds")
    return survivors


def _hunt(name: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "simulation", "--mutant", name, "--first", "1", "--seeds", str(BUDGET)]
    ended = subprocess.run(
        [*command, "--seconds", "inf", "--processes", "1"], cwd=Path(__file__).parent.parent, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    crashed = ended.returncode == 1 and " bad; " not in ended.stdout
    return -1 if crashed else ended.returncode, ended.stdout + ended.stderr
