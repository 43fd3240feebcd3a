"""The leases that are held at this moment, as the blobs tell it: who, for which job, since when, until when.

Storage lists every blob, held or not, in the order of their names: the slots of the groups, jobs of releases up to 0.1,
then the sessions of workers. So a page is what is held among so many names, and a token leads to the next ones.

A worker writes its name into a slot's blob when it renews the lease for the first time. Before that, its report tells
that it runs the job.
"""

from typing import TYPE_CHECKING, Any

from azure.core.exceptions import HttpResponseError
from joblease.messages import rfc3339

from joblease_dashboard.read_model.tokens import BadToken

if TYPE_CHECKING:
    from azure.storage.blob.aio import ContainerClient

    from joblease_dashboard.live.workers import Workers

BLOBS_A_REQUEST = 5_000
"""As many as storage gives at once."""
REQUESTS = 2
BAD_REQUEST = 400


async def held(
    container: "ContainerClient", workers: "Workers", token: str | None = None, blobs_a_request: int = BLOBS_A_REQUEST
) -> tuple[list[dict[str, Any]], str | None]:
    """The leases that are held among the next names, and where to go on; None at the end.

    `REQUESTS` storage requests. Raises `BadToken`, `AzureError`.
    """
    found: list[dict[str, Any]] = []
    listing = container.list_blobs(include=["metadata"], results_per_page=blobs_a_request)
    pages: Any = listing.by_page(continuation_token=token)
    try:
        for _ in range(REQUESTS):
            found += [_row(blob, workers) async for blob in await anext(pages) if blob.lease.state == "leased"]
            if not pages.continuation_token:
                break
    except HttpResponseError as error:
        if token and error.status_code == BAD_REQUEST:
            raise BadToken("this page token is not one of ours") from error
        raise
    return found, pages.continuation_token or None


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
