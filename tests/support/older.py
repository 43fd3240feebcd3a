"""The programs of an older release, from the repository's history, beside those of this one."""

import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from joblease_local.settings import ROOT

from support.programs import TESTS, Program, program

COMMIT = "0ec3466"
"""The last one whose workers lease each job, and have no session."""
PACKAGES = ("core", "operator", "worker", "dashboard")


class Older:
    """Its programs run with the libraries that are installed here."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = ":".join(str(folder / name) for name in PACKAGES) + f":{TESTS}"

    @asynccontextmanager
    async def start(self, name: str, environment: Mapping[str, str], output: Path) -> AsyncIterator[Program]:
        """As `support.programs.program`; `name` is `operator` or `worker`."""
        script = self._folder / f"older-{name}"
        script.write_text(f"#!{sys.executable}\nfrom joblease_{name}.main import main\nmain()\n")
        script.chmod(0o755)
        async with program(script, {**environment, "PYTHONPATH": self._path}, output) as running:
            yield running


def older_release(folder: Path) -> Older:
    """Check it out into a folder. Skips where the history does not reach back so far, as in a shallow checkout."""
    archive = subprocess.run(["git", "-C", ROOT, "archive", COMMIT, *PACKAGES], capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(f"commit {COMMIT} is not in this checkout: {archive.stderr.decode().strip()}")
    subprocess.run(["tar", "x", "-C", folder], input=archive.stdout, check=True)
    return Older(folder)
