"""`POST /api/requests` makes a job, `POST /api/requests:batch` up to a thousand, each with an answer of its own."""

import re
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from joblease.jobrequest import check_parameters
from joblease.limits import KEY_PATTERN, MAX_KEY
from starlette.responses import JSONResponse, Response

from joblease_dashboard.actions.bodies import body_of
from joblease_dashboard.actions.intake import Wanted
from joblease_dashboard.api.documents import MAX_BATCH_BYTES, MAX_BYTES, MAX_HEARD_BYTES, elements, read, text_of
from joblease_dashboard.api.models import KEY_HEADER, MAX_BATCH, MAX_NOTES, Submission
from joblease_dashboard.api.parameters import bad, check_known
from joblease_dashboard.problems import Problem

if TYPE_CHECKING:
    from starlette.requests import Request

    from joblease_dashboard.actions.submitting import Submitted
    from joblease_dashboard.api.sources import Sources


async def submit(sources: "Sources", request: "Request") -> Response:
    """Make a job."""
    checked = _checked(request)
    async with body_of(request, MAX_BYTES, heard=MAX_HEARD_BYTES) as body:
        wanted = _with_key(request, _wanted(text_of(request, body), checked=checked))
    made = await sources.intake.one(request, wanted)
    where = {"Location": f"/api/requests/{made.job_id}"}
    return JSONResponse(made.fields(), _status(made), where)


async def batch(sources: "Sources", request: "Request") -> Response:
    """Make many jobs."""
    checked = _checked(request)
    async with body_of(request, MAX_BATCH_BYTES, "a batch", MAX_HEARD_BYTES) as body:
        texts = elements(text_of(request, body), "requests", MAX_BATCH)
        if not texts:
            raise Problem(422, "Does not fit", "requests: 1 at least", field="requests")
        answers = await sources.intake.batch(request, texts, partial(_wanted, checked=checked))
    results = [_result(each) for each in answers]
    return JSONResponse({"results": results})


def _with_key(request: "Request", wanted: Wanted) -> Wanted:
    """The job with the key of the request's header, which is the same as one in its spec. Raises `Problem`."""
    key = request.headers.get(KEY_HEADER)
    if key is None:
        return wanted
    if len(key) > MAX_KEY or not re.fullmatch(KEY_PATTERN, key):
        raise Problem(400, "Bad key", f"{KEY_HEADER}: 1 to {MAX_KEY} printable ASCII characters", field=KEY_HEADER)
    if wanted.spec.get("key", key) != key:
        raise Problem(400, "Two keys", f"{KEY_HEADER} and spec.key are not the same", field="spec.key")
    return replace(wanted, spec={**wanted.spec, "key": key})


def _checked(request: "Request") -> bool:
    check_known(request, ("unchecked",))
    said = request.query_params.get("unchecked", "false")
    if said not in ("true", "false"):
        raise bad("unchecked", f"true or false is expected, not {said[:50]!r}")
    return said == "false"


def _wanted(text: str, *, checked: bool) -> Wanted:
    """The job that a text asks for. Raises `Problem`."""
    if len(text) > MAX_BYTES:
        raise Problem(413, "Too much", f"one job may take {MAX_BYTES} bytes")
    found, written = read(Submission, text)
    metadata, spec = found.metadata, written["spec"]
    if sum(len(key.encode()) + len(value.encode()) for key, value in metadata.annotations.items()) > MAX_NOTES:
        raise Problem(
            422, "Does not fit", f"all annotations take {MAX_NOTES} bytes at most", field="metadata.annotations"
        )
    try:
        check_parameters(found.spec.parameters)
    except ValueError as error:
        raise Problem(422, "Does not fit", str(error), field="spec.parameters") from None
    return Wanted(
        metadata.namespace, metadata.name or "", metadata.labels, metadata.annotations, spec,
        found.submission_id or "", checked,
    )  # fmt: skip


def _result(answer: "Submitted | Problem") -> dict[str, Any]:
    if isinstance(answer, Problem):
        return {"status": answer.status, "problem": answer.content}
    return {"status": _status(answer), "job": answer.fields()}


def _status(made: "Submitted") -> int:
    return HTTPStatus.CREATED if made.created else HTTPStatus.OK
