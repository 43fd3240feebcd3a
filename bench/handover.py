"""How soon the next job starts when one ends, in single-job mode: `make bench-handover`.

Runs the whole of JobLease on parts of its own, submits jobs that all wait for the one slot, and reads from the audit
trail when each ended and the next one started. Prints a table, and the same as JSON.
"""

import argparse
import asyncio
import json
import os
import statistics
import time
from itertools import pairwise
from typing import Any

from joblease.settings import StorageSettings
from joblease.storage import TRAIL_TABLE, Storage
from joblease.trail import AuditTrail
from joblease_local.settings import LocalSettings
from joblease_local.stack import Stack
from kubernetes import client, config
from pydantic import SecretStr

JOBS = 60
PATIENCE_SECONDS = 180
FIRST_PORT = 23800


def submit(kubeconfig: str, prefix: str) -> None:
    """Submit the jobs, all at once."""
    api = client.CustomObjectsApi(config.new_client_from_config(kubeconfig))
    for number in range(JOBS):
        body = {
            "apiVersion": "joblease.dev/v1alpha1",
            "kind": "JobRequest",
            "metadata": {"name": f"{prefix}-{number}"},
            "spec": {"handler": "demo", "parameters": {"steps": 1, "seconds": 0.05}},
        }
        api.create_namespaced_custom_object("joblease.dev", "v1alpha1", "default", "jobrequests", body)


async def handovers(connection_string: str, prefix: str) -> list[float]:
    """Seconds from each job's end to the next one's start."""
    settings = StorageSettings(storage_connection_string=SecretStr(connection_string))
    async with Storage(settings) as storage:
        trail = AuditTrail(storage.table(TRAIL_TABLE))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            jobs = [(head, events) async for head, events in trail.everything() if head.name.startswith(f"{prefix}-")]
            if len(jobs) == JOBS and all(head.state.terminal for head, _ in jobs):
                break
            if time.monotonic() > deadline:
                raise SystemExit(f"only {sum(head.state.terminal for head, _ in jobs)} of {JOBS} jobs have ended")
            await asyncio.sleep(1)
    runs = sorted(
        (next(event.timestamp for event in events if event.status == "Started"), events[-1].timestamp)
        for _, events in jobs
    )
    return [(after[0] - before[1]).total_seconds() for before, after in pairwise(runs)]


def measure(workers: int) -> dict[str, Any]:
    """One round with so many workers."""
    settings = LocalSettings(
        state=f".local/bench-{workers}", workers=workers, first_port=FIRST_PORT, dashboard_port=FIRST_PORT + 99
    )
    os.environ["JOBLEASE_LOG_FORMAT"] = "json"
    stack = Stack(settings, lambda line: print(line, flush=True))
    stack.prepare()
    try:
        stack.start_parts()
        stack.start_programs()
        prefix = f"bench-{int(time.time())}"
        submit(str(settings.folder / "kubeconfig"), prefix)
        taken = asyncio.run(handovers(stack.environment["JOBLEASE_STORAGE_CONNECTION_STRING"], prefix))
    finally:
        stack.stop()
    cuts = statistics.quantiles(taken, n=100)
    figures = {"p50": cuts[49], "p90": cuts[89], "p99": cuts[98], "max": max(taken)}
    return {"workers": workers, "jobs": JOBS, **{name: round(value * 1000, 1) for name, value in figures.items()}}


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[10], help="numbers of workers (default: 10)")
    rows = [measure(workers) for workers in parser.parse_args().workers]
    print("workers   jobs   p50 ms   p90 ms   p99 ms   max ms")
    for row in rows:
        print(f"{row['workers']:7}{row['jobs']:7}{row['p50']:9}{row['p90']:9}{row['p99']:9}{row['max']:9}")
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
