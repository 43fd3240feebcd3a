"""What a message in `joblease.dead` is: why it is there, which job it is about, and where it came from."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from joblease.messages import JobEvent, JobMessage
from joblease.topology import DEFERRALS_HEADER, EVENTS, JOBS, LOOKS_HEADER, REASON_HEADER, parked_for
from pydantic import ValidationError

if TYPE_CHECKING:
    from aio_pika.abc import AbstractIncomingMessage

SHOWN_BYTES = 4_096
DROPPED_HEADERS = (REASON_HEADER, DEFERRALS_HEADER, LOOKS_HEADER, "x-joblease-errors", "x-death", "x-delivery-count")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One of them."""

    id: str
    reason: str
    queue: str
    """Where a replay puts it; empty when it cannot be read, so that it would only come back."""
    job_id: str
    name: str
    is_job: bool
    """Whether it would run the job; otherwise it only tells of it."""
    body: str


def describe(message: "AbstractIncomingMessage") -> DeadLetter:
    """What a dead message is."""
    headers: Mapping[str, Any] = message.headers
    job_id, name, queue, is_job = "", "", "", False
    try:
        job = JobMessage.model_validate_json(message.body)
        job_id, name, queue, is_job = job.job_id, job.name, f"{JOBS}.{job.queue}", True
    except ValidationError:
        try:
            event = JobEvent.model_validate_json(message.body)
            job_id, name, queue = event.job_id, event.name, f"{EVENTS}.index"
        except ValidationError:
            pass
    if queue and (deaths := headers.get("x-death")):
        queue = str(deaths[0].get("queue"))
    digest = hashlib.sha256(f"{message.message_id} ".encode() + message.body).hexdigest()[:16]
    return DeadLetter(digest, parked_for(headers), queue, job_id, name, is_job, _pretty(message.body))


def dropped(name: str) -> bool:
    """Whether a header belongs to the message's first way, and is left out when it is sent again."""
    return name in DROPPED_HEADERS or name.startswith(("x-first-death-", "x-last-death-"))


def _pretty(body: bytes) -> str:
    text = body[:SHOWN_BYTES].decode(errors="backslashreplace")
    try:
        return json.dumps(json.loads(body), indent=2, ensure_ascii=False)[:SHOWN_BYTES]
    except ValueError:
        return text
