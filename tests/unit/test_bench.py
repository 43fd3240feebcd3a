"""Makefile, benchmarks, results and documents name the same benchmarks, and each says what it measures."""

import ast
import json
import re
from pathlib import Path

import document
import pytest

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "bench"
MAKEFILE = (ROOT / "Makefile").read_text()
NAMES = re.findall(r"^BENCHMARKS := (.*)$", MAKEFILE, re.MULTILINE)[0].split()
UNITS = re.compile(r"milliseconds|seconds|MiB|KiB|a second|jobs a", re.IGNORECASE)


def test_every_benchmark_is_in_the_makefile() -> None:
    runnable = {path.stem for path in BENCH.glob("*.py") if "= arguments(" in path.read_text()}
    assert runnable == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_measures_in_which_unit_and_how_to_run_it(name: str) -> None:
    told = ast.get_docstring(ast.parse((BENCH / f"{name}.py").read_text())) or ""
    first = told.split("\n\n")[0]
    assert f"`make bench-{name}`" in first
    assert UNITS.search(first)


def test_every_result_is_shown_and_every_block_has_one() -> None:
    shown = {name for page in document.PAGES for name in re.findall(r"<!-- bench:([a-z-]+) -->", page.read_text())}
    results = {path.stem for path in (BENCH / "results").glob("*.json")}
    assert shown == results
    assert {name.split("-")[0] for name in results} == set(NAMES)
    for name in results:
        assert json.loads((BENCH / "results" / f"{name}.json").read_text())["name"] == name
