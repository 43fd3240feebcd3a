"""What docs/guarantee.md says is so."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from joblease import JobContext, PermanentError
from joblease_operator.settings import OperatorSettings
from joblease_worker.keeper import RETRY_SECONDS
from joblease_worker.settings import WorkerSettings

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "docs" / "guarantee.md").read_text()


def test_the_example_refuses_an_older_run(tmp_path: Path) -> None:
    code = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)[0]
    names: dict[str, Any] = {}
    exec(compile(code, "guarantee.md", "exec"), names)
    book, database = names["book"], str(tmp_path / "invoices")
    book(JobContext("1", epoch=1), "A", 10, database)
    book(JobContext("1", epoch=3), "A", 30, database)
    with pytest.raises(PermanentError, match="newer run than epoch 2"):
        book(JobContext("1", epoch=2), "A", 20, database)
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT * FROM invoices").fetchall() == [("A", 30, 3)]


def test_every_setting_and_target_exists() -> None:
    known = {f"JOBLEASE_{name.upper()}" for each in (OperatorSettings, WorkerSettings) for name in each.model_fields}
    named = set(re.findall(r"JOBLEASE_[A-Z_]+[A-Z]", TEXT)) - {"JOBLEASE_FAULTS_SECONDS", "JOBLEASE_FAULTS_SEED"}
    assert named - {"JOBLEASE_STORAGE"} <= known
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    targets |= {f"bench-{path.stem}" for path in (ROOT / "bench").glob("*.py")}  # by a pattern
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", TEXT, re.MULTILINE)) <= targets


def test_the_numbers_are_the_defaults() -> None:
    defaults = WorkerSettings.model_construct()
    assert f"Lease {defaults.lease_seconds} s, renewed every {defaults.renew_seconds:.0f} s" in TEXT
    assert f"`JOBLEASE_LEASE_SAFETY_SECONDS`, {defaults.lease_safety_seconds:.0f} " in TEXT
    assert ", ".join(f"{pause:.0f}" for pause in RETRY_SECONDS) + " s" in TEXT
    assert f"heartbeats of {defaults.amqp_heartbeat_seconds} s" in TEXT
    assert f"| {OperatorSettings.model_fields['operator_republish_seconds'].default} s |" in TEXT
