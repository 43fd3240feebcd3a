"""`docs/architecture.md` names every module of the dashboard, and none that does not exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "architecture.md").read_text()


def test_each_module_has_one_line() -> None:
    package = ROOT / "dashboard" / "joblease_dashboard"
    modules = [str(path.relative_to(package)) for path in package.rglob("*.py") if path.name != "__init__.py"]
    assert sorted(re.findall(r"^\| `([\w/]+\.py)` \|", TEXT, re.MULTILINE)) == sorted(modules)
