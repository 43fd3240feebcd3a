"""Query parameters: checked, with errors that name them."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from joblease.messages import State
from starlette.requests import Request

from joblease_dashboard.problems import Problem
from joblease_dashboard.query import MAX_PAGE, Filters

COMMON = ("page_size", "page_token", "namespace", "handler", "group", "name", "from", "to")


def bad(parameter: str, detail: str) -> Problem:
    """A parameter that cannot be used."""
    return Problem(400, "Bad parameter", f"{parameter}: {detail}", parameter=parameter)


def check_known(request: Request, known: Iterable[str]) -> None:
    """Refuse parameters that do not exist: a misspelt filter must not look like one that matched everything."""
    unknown = [name for name in request.query_params if name not in set(known)]
    if unknown:
        raise bad(unknown[0], f"there is no such parameter; known are {', '.join(sorted(known))}")


def page_size(values: Mapping[str, str], default: int) -> int:
    """The page size, brought into its bounds."""
    text = values.get("page_size", "")
    if not text:
        return default
    try:
        size = int(text)
    except ValueError:
        raise bad("page_size", f"a whole number is expected, not {text!r}") from None
    if size < 1:
        raise bad("page_size", "at least 1 is expected")
    return min(size, MAX_PAGE)


def moment(values: Mapping[str, str], name: str) -> datetime | None:
    """A time, or None."""
    text = values.get(name, "")
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise bad(name, f"an RFC 3339 time is expected, as in 2026-11-24T12:00:00Z, not {text!r}") from None
    if found.tzinfo is None:
        raise bad(name, "the time needs a zone, as in 2026-11-24T12:00:00Z")
    return found


def filters(values: Mapping[str, str], state_column: str | None = None) -> Filters:
    """The filters of both lists. `state_column` is what the parameter `state` is about, if there is one."""
    equal = {name: values[name] for name in ("namespace", "handler", "group") if values.get(name)}
    prefix = {"name": values["name"]} if values.get("name") else {}
    if state_column and values.get("state"):
        if values["state"] not in set(State):
            raise bad("state", f"one of {', '.join(State)} is expected, not {values['state']!r}")
        equal[state_column] = values["state"]
    if values.get("status"):
        if values["status"] == "Step":
            prefix["status"] = "Step "
        else:
            equal["status"] = values["status"]
    since, until = moment(values, "from"), moment(values, "to")
    if since and until and since > until:
        raise bad("from", "must not be later than `to`")
    return Filters(equal, prefix, since, until)
