"""`docs/architecture.md` names every module of these packages, and none that does not exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "architecture.md").read_text()
PACKAGES = {
    "The core": "core/joblease",
    "The operator": "operator/joblease_operator",
    "The worker": "worker/joblease_worker",
    "The command line": "cli/joblease_cli",
    "make up": "local/joblease_local",
    "The dashboard": "dashboard/joblease_dashboard",
}
"""The document's headings, and the package that each is about."""


@pytest.mark.parametrize("heading", PACKAGES)
def test_each_module_has_one_line(heading: str) -> None:
    package = ROOT / PACKAGES[heading]
    modules = [str(path.relative_to(package)) for path in package.rglob("*.py") if not path.name.startswith("__")]
    told = TEXT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    assert sorted(re.findall(r"^\| `([\w/]+\.py)` \|", told, re.MULTILINE)) == sorted(modules)
