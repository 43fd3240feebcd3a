"""The examples of docs/handlers.md run: a handler's own tests, a file, and a blob on a real storage service."""

import importlib.util
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from azure.storage.blob import BlobSasPermissions, BlobServiceClient, generate_blob_sas
from joblease import JobContext, PermanentError
from joblease.handlers import policy_of
from joblease.policy import HandlerPolicy

ROOT = Path(__file__).parent.parent.parent


def example(number: int, folder: Path) -> ModuleType:
    """A Python block of the page, as a module of its own."""
    code = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "handlers.md").read_text(), re.DOTALL)[number]
    path = folder / f"handlers_page_{number}.py"
    path.write_text(code)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_policy_is_one(tmp_path: Path) -> None:
    example(0, tmp_path)
    assert policy_of("import") == HandlerPolicy(
        group="import-{customer}", limit=1, max_attempts=5, active_deadline_seconds=7200
    )


def test_the_example_of_a_test_is_one(tmp_path: Path) -> None:
    module = example(1, tmp_path)
    tests = [function for name, function in vars(module).items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        test()


def test_a_run_goes_on_where_the_last_one_came_to(tmp_path: Path) -> None:
    import_rows = example(2, tmp_path).import_rows
    said: list[Any] = []
    assert import_rows(JobContext("1", report=said.append), rows=1000) == {"rows": 1000, "now": 1000}
    assert said[:1] == [{"checkpoint": {"done": 1}}]
    assert said[-1]["progress"] == 1
    assert import_rows(JobContext("1", last_checkpoint={"done": 990}), rows=1000) == {"rows": 1000, "now": 10}


def test_input_comes_from_a_file_or_a_blob(tmp_path: Path, storage: str) -> None:
    count_lines = example(3, tmp_path).count_lines
    path = tmp_path / "input.csv"
    path.write_bytes(b"a\nb\n")
    assert count_lines(JobContext("1", input_file_path=str(path))) == {"lines": 2}

    with BlobServiceClient.from_connection_string(storage) as account:
        container = account.create_container("inputs")
        blob = container.upload_blob("input.csv", b"a\nb\nc\n")
        token = generate_blob_sas(
            str(account.account_name), "inputs", "input.csv", account_key=account.credential.account_key,
            permission=BlobSasPermissions(read=True), expiry=datetime.now(UTC) + timedelta(minutes=5),
        )  # fmt: skip
        assert count_lines(JobContext("1", input_file_path=f"{blob.url}?{token}")) == {"lines": 3}
    with pytest.raises(PermanentError, match="inputFilePath is missing"):
        count_lines(JobContext("1"))
