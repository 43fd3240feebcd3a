"""The leases that are held at this moment, as the blobs tell it: who, for which job, since when, until when.

A worker writes its name into a blob when it renews the lease for the first time. Before that, its report tells that it
runs the job.
"""

from typing import TYPE_CHECKING, Any

from joblease.messages import rfc3339

if TYPE_CHECKING:
    from azure.storage.blob.aio import ContainerClient

    from joblease_dashboard.workers import Workers

MAX_BLOBS = 5_000
"""Blobs that are looked at in each kind, which is one request."""


async def held(container: "ContainerClient", workers: "Workers") -> tuple[list[dict[str, Any]], bool]:
    """The leases, and whether there may be more. Two storage requests. Raises `AzureError`."""
    found: list[dict[str, Any]] = []
    more = False
    for kind in ("group/", "job/"):
        pages: Any = container.list_blobs(
            name_starts_with=kind, include=["metadata"], results_per_page=MAX_BLOBS
        ).by_page()
        async for page in pages:
            found += [_row(blob, workers) async for blob in page if blob.lease.state == "leased"]
            more = more or bool(pages.continuation_token)
            break
    return found, more


def _row(blob: Any, workers: "Workers") -> dict[str, Any]:
    metadata = blob.metadata or {}
    kind, _, rest = blob.name.partition("/")
    job_id = metadata.get("jobid") or metadata.get("jobId") or (rest if kind == "job" else "")
    holder = metadata.get("worker") or metadata.get("owner", "")
    known = workers.get(holder) if holder else workers.running(job_id)
    row = {
        "blob": blob.name,
        "kind": kind,
        "what": rest,
        "worker": holder or (known.report.worker if known else ""),
        "jobId": job_id,
        "epoch": metadata.get("epoch", ""),
        "since": rfc3339(blob.last_modified),
    }
    if known:
        row["expires"] = rfc3339(known.lease_expires)
        row["renewed"] = known.alive
    return row
