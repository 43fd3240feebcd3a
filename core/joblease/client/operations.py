"""What a client does, as steps: submit, look, change. How a job is followed is told in `following`."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from joblease.client.errors import JobLeaseError, JobNotFound, Refused, refusal
from joblease.client.exchange import exchange, passes, pauses
from joblease.client.seen import Snapshot, snapshot_of
from joblease.client.steps import Call, Pause, Show, Steps
from joblease.client.submission import Submission, encoded, new_id

_ID = re.compile(r"[0-9A-Za-z-]+")
BATCH = 1_000
BATCH_BYTES = 7 << 20
"""Of JSON; the API takes 8 MiB."""
JOB_BYTES = 1 << 20
"""Of one job; those that Kubernetes takes are smaller."""
BATCH_SECONDS = 120.0
BULK_SECONDS = 600.0
"""For 10,000 jobs."""
ROUNDS = 5
"""Tries of those of a batch that could not be made just then."""
PAGE = 200


class Ref(NamedTuple):
    """Which job is meant; namespace and name, when they are known, find it also before its trail has begun."""

    job_id: str
    namespace: str = ""
    name: str = ""

    def __str__(self) -> str:
        return f"job {self.name or self.job_id}"

    def call(self, method: str, more: str = "", body: Any = None, seconds: float = 30) -> Call:
        """A request about it."""
        query = {"namespace": self.namespace, "name": self.name} if self.namespace and self.name else {}
        return Call(method, f"/api/requests/{quote(self.job_id, safe='')}{more}", query, _json(body), seconds=seconds)


def ref_of(job_id: str) -> Ref:
    """The job of that id. Raises `ValueError` for what is none: an empty one would be the list of jobs."""
    if not isinstance(job_id, str) or not _ID.fullmatch(job_id):
        raise ValueError(f"a job's id is expected, as job.job_id has it, not {job_id!r:.80}")
    return Ref(job_id)


def submit(item: Submission, defaults: Mapping[str, Any], seconds: float) -> Steps[dict[str, Any]]:
    """What the API says of the job."""
    query = _query(unchecked=item.unchecked(defaults))
    call = Call("POST", "/api/requests", query, _sent(item, defaults), seconds=seconds)
    what = f"a job of {item.handler}"
    try:
        made: dict[str, Any] = yield from exchange(call, what, "jobId")
    except Refused as error:
        raise _refused(error.problem, what) from None
    return made


def submit_many(
    items: Sequence[Submission], defaults: Mapping[str, Any], seconds: float
) -> Steps[list[dict[str, Any] | JobLeaseError]]:
    """What the API says of each job, or why there is none, in their order."""
    found: dict[int, dict[str, Any] | JobLeaseError] = {}
    bodies = [_sent(item, defaults) for item in items]
    lost: JobLeaseError | None = None
    unchecked = [item.unchecked(defaults) for item in items]
    for chunk in _chunks(bodies, unchecked):
        places, query = chunk, _query(unchecked=unchecked[chunk[0]])
        try:
            for pause in (*_some(pauses(), ROUNDS - 1), None):
                content = b'{"requests":[' + b",".join(bodies[place] for place in places) + b"]}"
                call = Call("POST", "/api/requests:batch", query, content, seconds=max(seconds, BATCH_SECONDS))
                results = (yield from exchange(call, f"a batch of {len(places)} jobs", "results"))["results"]
                again = []
                for place, each in zip(places, results, strict=True):
                    found[place] = each.get("job") or _refused(each["problem"], f"a job of {items[place].handler}")
                    if passes({**each.get("problem", {}), "status": each["status"]}):
                        again.append(place)
                places = again
                if not places or pause is None:
                    break
                yield Pause(pause)
        except JobLeaseError as error:  # nothing is gained by waiting as long for each of the others
            lost = error
            break
    return [found.get(place) or lost or JobLeaseError("not sent") for place in range(len(items))]


def _refused(problem: Mapping[str, Any], what: str) -> Refused:
    """Why a job was not made: what is not found is no job, but its namespace."""
    error = refusal(problem, what)
    return Refused(problem, what) if isinstance(error, JobNotFound) else error


def _sent(item: Submission, defaults: Mapping[str, Any]) -> bytes:
    """Its body. Raises `TypeError`, `ValueError`."""
    if not isinstance(item, Submission):
        raise TypeError(f"submit_many takes submissions, as submission('a-handler') makes them, not {item!r:.80}")
    body = encoded(item.body(defaults), f"an option of a job of {item.handler}")
    if len(body) > JOB_BYTES:  # it would take its whole batch with it
        raise ValueError(f"a job of {item.handler} takes {len(body)} bytes with its options; at most {JOB_BYTES} fit")
    return body


def _chunks(bodies: Sequence[bytes], unchecked: Sequence[bool]) -> Iterator[list[int]]:
    """What goes in one request: not too much, and all of it checked or not."""
    chunk: list[int] = []
    size = 0
    for place in sorted(range(len(bodies)), key=lambda place: unchecked[place]):
        body = bodies[place]
        full = len(chunk) == BATCH or size + len(body) > BATCH_BYTES
        if chunk and (full or unchecked[place] is not unchecked[chunk[0]]):
            yield chunk
            chunk, size = [], 0
        chunk.append(place)
        size += len(body) + 1
    if chunk:
        yield chunk


def _query(*, unchecked: bool) -> dict[str, str]:
    return {"unchecked": "true"} if unchecked else {}


def _some(pauses: Iterator[float], count: int) -> Iterator[float]:
    return (next(pauses) for _ in range(count))


def look(ref: Ref, seconds: float) -> Steps[Snapshot]:
    """How the job stands."""
    found = yield from exchange(ref.call("GET", seconds=seconds), str(ref), "job")
    return snapshot_of(found["job"], found.get("result"), found.get("error"))


def jobs(query: Mapping[str, str], seconds: float) -> Steps[None]:
    """Shows all jobs that a query means, page by page."""
    token = ""
    while True:
        asked = {**query, **({"page_token": token} if token else {})}
        page = yield from exchange(Call("GET", "/api/requests", asked, seconds=seconds), "the list of jobs", "jobs")
        for row in page["jobs"]:
            yield Show(snapshot_of(row))
        if not (token := page.get("nextPageToken", "")):
            return


def act(ref: Ref, verb: str, seconds: float) -> Steps[None]:
    """Cancel, suspend or resume it."""
    yield from exchange(ref.call("POST", f"/{verb}", seconds=seconds), f"{verb} of {ref}")


def retry(ref: Ref, seconds: float) -> Steps[dict[str, Any]]:
    """What the API says of the new job."""
    call = ref.call("POST", "/retry", {"submissionId": new_id()}, seconds)
    made: dict[str, Any] = yield from exchange(call, f"retry of {ref}", "jobId")
    return made


def change(ref: Ref, sets: Mapping[str, int], seconds: float) -> Steps[None]:
    """Change priority or time to live."""
    yield from exchange(ref.call("PATCH", "", sets, seconds), f"change of {ref}")


def bulk(action: str, body: Mapping[str, Any], seconds: float) -> Steps[dict[str, Any]]:
    """What the API says of something that is done to all selected jobs. Done again, it changes nothing more."""
    call = Call("POST", f"/api/requests:{action}", content=_json(body), seconds=max(seconds, BULK_SECONDS))
    found: dict[str, Any] = yield from exchange(call, f"{action} of selected jobs", "matched")
    return found


def _json(value: Any) -> bytes | None:
    if value is None:
        return None
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
