"""One request until it has its answer: what is tried again, how often, and what an answer means.

Everything is sent again after a lost answer. Nothing is done twice by that: a submission has a key or an id of its own,
and to cancel, suspend or resume a job a second time changes nothing.
"""

import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from joblease.client.errors import Unreachable, of_api_server, refusal
from joblease.client.steps import Answer, Call, Lost, Pause, Steps

BUSY, UNAUTHORIZED, BAD_GATEWAY = 429, 401, 502
TRY_AGAIN = (BUSY, BAD_GATEWAY, 503, 504)
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
SHARE = 3
"""A try may take this part of all the time: so that one answer that never comes is not the only try."""


def exchange(call: Call, what: str, has: str = "") -> Steps[Any]:
    """The JSON of the answer, an object that `has` this, in `call.seconds`. Raises `Refused`, `Unreachable`.

    `what` says what was asked for.
    """
    deadline = time.monotonic() + call.seconds
    problem = "there was no time"
    for pause in pauses():
        if (left := deadline - time.monotonic()) <= 0:
            break
        wait = pause
        try:
            answer: Answer = yield replace(call, seconds=min(left, max(call.seconds / SHARE, 1)))
        except Lost as error:
            problem = str(error)
        else:
            if answer.status == UNAUTHORIZED and not call.fresh_token:
                call = replace(call, fresh_token=True)
                continue
            if answer.status < 300:
                return _content(answer, what, has)
            said = _problem(answer)
            if not passes(said):
                raise refusal(said, what)
            problem = said["detail"]
            wait = max(pause, _retry_after(answer))
            if answer.status == BUSY and time.monotonic() + wait > deadline:
                raise refusal(said, what)
        if time.monotonic() + wait > deadline:
            break
        yield Pause(wait)
    raise Unreachable(f"{what}: the dashboard gave no answer in {call.seconds:g} s ({problem})")


def pauses() -> Iterator[float]:
    """Seconds to wait before each further try: doubled each time, with jitter."""
    pause = FIRST_PAUSE
    while True:
        yield pause * random.uniform(0.5, 1)
        pause = min(pause * 2, LONGEST_PAUSE)


def passes(problem: Mapping[str, Any]) -> bool:
    """Whether another try may be answered otherwise.

    A 502 is a proxy's whose dashboard is just away; the dashboard's own, which has a title, says that its account lacks
    a right: that does not pass.
    """
    status = problem["status"]
    return status in TRY_AGAIN and not (status == BAD_GATEWAY and "title" in problem)


def _content(answer: Answer, what: str, has: str) -> Any:
    try:
        content = answer.json()
    except ValueError:
        said = f"{what}: the answer ({answer.status}) is no JSON. Is the address that of JobLease's dashboard?"
        raise Unreachable(said) from None
    if has and not (isinstance(content, dict) and has in content):
        said = f"{what}: the answer ({answer.status}) has no {has}. Is the address that of JobLease's dashboard?"
        raise Unreachable(said)
    return content


def _problem(answer: Answer) -> dict[str, Any]:
    try:
        problem = answer.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {"detail": "not an answer of JobLease's dashboard; something in between has given it"}
    if of_api_server(problem):
        problem["detail"] = str(problem.get("message") or problem.get("reason") or f"status {answer.status}")
    return {"detail": f"status {answer.status}", **problem, "status": answer.status}


def _retry_after(answer: Answer) -> float:
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isdecimal() else 0.0
