"""The audit trail is saved and brought back with the programs and commands of docs/install.md."""

import json
from pathlib import Path

import pytest
from e2e.cluster import CONTEXT, NAMESPACE, ask, block, completed, history, job, run, submit, system

pytestmark = pytest.mark.timeout(600)
FORGET = """
import asyncio, sys
from joblease.settings import StorageSettings
from joblease.storage import TRAIL_TABLE, Storage

async def main(job_id):
    async with Storage(StorageSettings()) as storage:
        table = storage.table(TRAIL_TABLE)
        async for row in table.query_entities("PartitionKey eq @job", parameters={"job": job_id}):
            await table.delete_entity(row)

asyncio.run(main(sys.argv[1]))
"""


def python(program: str, *arguments: str) -> str:
    return system("exec", "-i", "deployment/joblease-dashboard", "--", "python", "-", *arguments, text=program)


def test_a_backup_brings_back_what_was_lost(tmp_path: Path) -> None:
    name = submit(parameters={"steps": 2, "seconds": 0.1})
    before = completed(name)
    job_id = job(name)["metadata"]["uid"]
    saved = python(block("python", "# backup.py"), before[0]["timestamp"])
    assert len([row for row in map(json.loads, saved.splitlines()) if row["PartitionKey"] == job_id]) == len(before) + 1

    python(FORGET, job_id)
    assert ask(f"/api/jobs/{job_id}").status_code == 404
    (tmp_path / "trail.jsonl").write_text(saved)
    (tmp_path / "restore.py").write_text(block("python", "# restore.py"))
    commands = block("sh", "restore.py").replace("kubectl -n joblease", f"kubectl --context {CONTEXT} -n {NAMESPACE}")
    said = run("sh", "-ec", f"cd {tmp_path}\n{commands}")
    assert "jobs are in the read model" in said
    assert history(job_id) == before
