"""Query parameters: checked, with errors that name them."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from urllib.parse import urlencode

from joblease.states import REASONS
from starlette.requests import Request

from joblease_dashboard.problems import Problem
from joblease_dashboard.read_model.keys import EPOCH
from joblease_dashboard.read_model.queries import MAX_PAGE, Filters
from joblease_dashboard.read_model.statistics import WINDOWS

WHOLE = re.compile(r"0{0,9}[1-9][0-9]{0,9}", re.ASCII)
NUMBER = re.compile(r"[0-9]{1,10}", re.ASCII)
RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
COMMON = ("page_size", "page_token", "namespace", "handler", "group", "name", "from", "to")


def bad(parameter: str, detail: str) -> Problem:
    """A parameter that cannot be used."""
    return Problem(400, "Bad parameter", f"{parameter}: {detail}", parameter=parameter)


def check_known(request: Request, known: Iterable[str]) -> None:
    """Refuse parameters that do not exist: a misspelt filter must not look like one that matched everything."""
    unknown = [name for name in request.query_params if name not in set(known)]
    if unknown:
        raise bad(unknown[0], f"there is no such parameter; known are {', '.join(sorted(known))}")


def without_empty(request: Request) -> Request:
    """The request without parameters that a form sends empty."""
    kept = [(name, value) for name, value in request.query_params.multi_items() if value]
    return Request({**request.scope, "query_string": urlencode(kept).encode()})


def page_size(values: Mapping[str, str], default: int) -> int:
    """The page size, brought into its bounds."""
    text = values.get("page_size")
    if text is None:
        return default
    if not WHOLE.fullmatch(text):
        raise bad("page_size", f"a whole number of at least 1 is expected, not {text!r}")
    return min(int(text), MAX_PAGE)


def whole(request: Request, name: str, default: int) -> int:
    """A number that is not negative."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not NUMBER.fullmatch(text):
        raise bad(name, f"a whole number is expected, not {text[:50]!r}")
    return int(text)


def moment(values: Mapping[str, str], name: str) -> datetime | None:
    """A time, or None."""
    text = values.get(name)
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text.upper() if RFC3339.fullmatch(text) else "").astimezone(UTC)
    except (ValueError, OverflowError):
        expected = "an RFC 3339 time with a zone is expected, as in 2026-11-24T12:00:00Z"
        raise bad(name, f"{expected}, not {text!r}") from None
    return max(found, EPOCH)


def window_of(values: Mapping[str, str]) -> str:
    """The window that statistics are about."""
    window = values.get("window", "1h")
    if window not in WINDOWS:
        raise bad("window", f"one of {', '.join(WINDOWS)} is expected, not {window!r}")
    return window


def filters(values: Mapping[str, str]) -> Filters:
    """The filters of both lists."""
    equal = {name: values[name] for name in ("namespace", "handler", "group") if values.get(name)}
    prefix = {"name": values["name"]} if values.get("name") else {}
    if "state" in values:
        if values["state"] not in REASONS:
            raise bad("state", f"one of {', '.join(REASONS)} is expected, not {values['state']!r}")
        equal["state"] = values["state"]
    if values.get("status"):
        if values["status"] == "Step":
            prefix["status"] = "Step "
        else:
            equal["status"] = values["status"]
    since, until = moment(values, "from"), moment(values, "to")
    if since and until and since > until:
        raise bad("from", "must not be later than `to`")
    return Filters(equal, prefix, since, until)
