"""How a command ends: its exit code, and the one line that says why it could not do what it was asked to.

Scripts branch on the code, people read the line; so every expected failure becomes a `CommandError` that carries both.
What nobody expected has a code of its own: 1 means that the job failed, never that the command did.
"""

import json
from enum import IntEnum
from typing import Any

GONE = 410


class Exit(IntEnum):
    """Exit codes; the same numbers are in `--help`, and scripts rely on them."""

    OK = 0
    JOB_FAILED = 1
    REFUSED = 2
    JOB_CANCELLED = 3
    NOT_FOUND = 4
    TIMEOUT = 5
    UNAVAILABLE = 6
    FAULT = 7
    INTERRUPTED = 130


MEANINGS = {
    Exit.OK: "done; a job that was waited for or followed completed",
    Exit.JOB_FAILED: "the job failed, passed its deadline, or crashed its workers",
    Exit.REFUSED: "wrong usage, or the input was refused",
    Exit.JOB_CANCELLED: "the job was cancelled, or ended in another way as neither success nor failure",
    Exit.NOT_FOUND: "no such job, or it was deleted meanwhile",
    Exit.TIMEOUT: "--timeout passed; the job goes on",
    Exit.UNAVAILABLE: "the API server or the dashboard cannot be reached, does not allow it, or lacks JobLease",
    Exit.FAULT: "a fault of this command itself; says nothing about the job (JOBLEASE_DEBUG=1 shows the traceback)",
    Exit.INTERRUPTED: "interrupted with Ctrl-C; the job goes on",
}

INSTALL = (
    "JobLease is not installed in this cluster (no resource jobrequests.joblease.dev). "
    "Install it: kubectl apply --server-side -f manifests/crd.yaml"
)


class CommandError(Exception):
    """An expected failure: `str()` of it is the line for people."""

    def __init__(self, message: str, code: Exit) -> None:
        super().__init__(message)
        self.code = code


def from_answer(status: int, body: str | bytes | None, doing: str) -> CommandError:
    """What an error answer of the API server means; `doing` is a phrase such as "get jobrequest demo-1"."""
    answer = _status_object(body)
    said = str(answer.get("message") or "").strip() or f"status {status}"
    match status:
        case 404 if answer.get("reason") != "NotFound":
            # The server's own 404 page, not a missing object's: it does not know the resource at all.
            return CommandError(INSTALL, Exit.UNAVAILABLE)
        case 404:
            return CommandError(f"cannot {doing}: {said}", Exit.NOT_FOUND)
        case 401:
            return CommandError(
                f"cannot {doing}: the API server does not accept the credentials of your kubeconfig; log in again",
                Exit.UNAVAILABLE,
            )
        case 403 if answer.get("reason") == "Forbidden" and "cannot " in said:
            return CommandError(
                f"not allowed to {doing}: {said}. Ask for a role with that verb on jobrequests.joblease.dev",
                Exit.UNAVAILABLE,
            )
        case 409:
            return CommandError(f"cannot {doing}: {said}", Exit.REFUSED)
        case 400 | 403 | 413 | 422:
            return CommandError(f"the API server refused to {doing}: {said}", Exit.REFUSED)
        case _:
            return CommandError(f"the API server failed to {doing}: {said}. Try again", Exit.UNAVAILABLE)


def _status_object(body: str | bytes | None) -> dict[str, Any]:
    """The `Status` in an error answer; empty when it is something else (a proxy's page, plain text)."""
    try:
        answer = json.loads(body or "")
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
