"""One request until it has its answer: what is tried again, how often, and what an answer means.

Everything is sent again after a lost answer. Nothing is done twice by that: a submission has a key or an id of its own,
and to cancel, suspend or resume a job a second time changes nothing.
"""

import random
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from joblease.client.errors import Unreachable, refusal
from joblease.client.steps import Answer, Call, Lost, Pause, Steps

BUSY, UNAUTHORIZED = 429, 401
TRY_AGAIN = (BUSY, 502, 503, 504)
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
SHARE = 3
"""A try may take this part of all the time: so that one answer that never comes is not the only try."""


def exchange(call: Call, what: str) -> Steps[Any]:
    """The JSON of the answer, in `call.seconds`. Raises `Refused`, `Unreachable`; `what` says what was asked for."""
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
            if answer.status not in TRY_AGAIN:
                return _content(answer, what)
            problem = _problem(answer)["detail"]
            wait = max(pause, _retry_after(answer))
            if answer.status == BUSY and time.monotonic() + wait > deadline:
                raise refusal(_problem(answer), what)
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


def _content(answer: Answer, what: str) -> Any:
    if answer.status >= 300:
        raise refusal(_problem(answer), what)
    try:
        return answer.json()
    except ValueError:
        said = f"{what}: the answer ({answer.status}) is no JSON. Is the address that of JobLease's dashboard?"
        raise Unreachable(said) from None


def _problem(answer: Answer) -> dict[str, Any]:
    try:
        problem = answer.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {"detail": "not an answer of JobLease's dashboard; something in between has given it"}
    return {"detail": f"status {answer.status}", **problem, "status": answer.status}


def _retry_after(answer: Answer) -> float:
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isdecimal() else 0.0
