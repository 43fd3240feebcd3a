"""Deliberate defects of `mutants.toml`: a process whose modules are imported with one of them."""

import importlib.machinery
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any


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
