"""docs/glossary.md and the names in code, CRD and tables are the same words."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from joblease.head import Head
from joblease.jobrequest import JobRequestStatus
from joblease.messages import ControlMessage, JobEvent, JobMessage, Status, WorkerReport
from joblease.states import REASONS
from joblease_dashboard.api import schemas
from joblease_operator.settings import OperatorSettings
from joblease_worker.settings import WorkerSettings
from pydantic.alias_generators import to_camel

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "docs" / "glossary.md").read_text()
PACKAGES = ("core/joblease", "operator/joblease_operator", "worker/joblease_worker", "dashboard/joblease_dashboard",
            "cli/joblease_cli")  # fmt: skip


def rows(heading: str) -> list[list[str]]:
    """Cells of the table below a heading, without its head."""
    section = TEXT.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def properties(schema: Any) -> set[str]:
    """Names of all properties in a JSON schema."""
    if isinstance(schema, list):
        return set().union(*(properties(each) for each in schema))
    if not isinstance(schema, dict):
        return set()
    own = set(schema.get("properties", {})) if isinstance(schema.get("properties"), dict) else set()
    return own.union(*(properties(each) for each in schema.values()))


def known_names() -> set[str]:
    crd = list(yaml.safe_load_all((ROOT / "manifests" / "crd.yaml").read_text()))
    wire = {
        to_camel(name) for each in (JobEvent, JobMessage, WorkerReport, ControlMessage) for name in each.model_fields
    }
    settings = {to_camel(name) for each in (OperatorSettings, WorkerSettings) for name in each.model_fields}
    api = properties([schemas.EVENT, schemas.JOB, schemas.STATS])
    head = {to_camel(name) for name in Head.__dataclass_fields__}
    return properties(crd) | wire | settings | api | head | set(Status) | set(REASONS)


@pytest.mark.parametrize("heading", ["Jobs", "States", "Times", "Parts"])
def test_every_name_of_the_glossary_is_one(heading: str) -> None:
    known, code = (
        known_names(),
        (ROOT / "core/joblease/storage.py").read_text() + (ROOT / "pyproject.toml").read_text(),
    )
    code += "".join(path.read_text() for path in (ROOT / "dashboard/joblease_dashboard").rglob("*.py"))
    code += (ROOT / "core/joblease/topology.py").read_text()
    for word, _, names in rows(heading):
        for name in re.findall(r"`([^`]+)`", names):
            if name.startswith("joblease_") or name in ("joblease.keys", "joblease.leases", "joblease.trail"):
                assert importlib.util.find_spec(name), (word, name)
            else:
                plain = re.sub(r" \d+$", "", name)
                quoted = f'"{plain}"' in code or f"{plain} =" in code or f"{plain}P50" in code
                assert plain in known or plain == "Step" or quoted, (word, name)


def test_every_field_of_a_status_is_explained() -> None:
    told = set(re.findall(r"`([^`]+)`", TEXT))
    assert {to_camel(name) for name in JobRequestStatus.model_fields} <= told


def test_every_word_for_a_state_is_explained() -> None:
    told = {name for _, _, names in rows("States") for name in re.findall(r"`([^`]+)`", names)}
    assert told == set(REASONS)
    ended = next(names for word, _, names in rows("States") if word == "ended")
    assert re.findall(r"`(\w+)`", ended) == [reason.value for reason in REASONS if reason.terminal]


def test_words_that_are_not_names_are_not() -> None:
    avoided = [name for row in rows("Words that are not used as names") for name in re.findall(r"`(\w+)`", row[0])]
    assert len(avoided) > 5
    sources = {path: path.read_text() for folder in PACKAGES for path in (ROOT / folder).rglob("*.py")}
    for name in avoided:
        snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
        pattern = re.compile(
            rf"^\s*(?:class|def|async def)\s+(?:{name}|{snake})\b|\b(?:{name}|{snake}):\s|self\.{snake}\b"
        )
        found = [str(path) for path, text in sources.items() if any(pattern.search(line) for line in text.splitlines())]
        assert not found, f"{name}: {found}"
